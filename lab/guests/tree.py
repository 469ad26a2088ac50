"""The root folder of a guest before it becomes a disk: userland, identity, kernel modules, payload, first initramfs."""

from __future__ import annotations

import lzma
import random
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from lab.guests import encryption
from lab.guests.kernel import Kernel
from lab.guests.spec import GuestSpec
from lab.guests.tools import run
from mtv.model.errors import PermanentError

ROOTFS = Path(__file__).parent / "rootfs"
BUSYBOX = Path("/bin/busybox")
PAYLOAD_FOLDER = "srv/data"
DATA_FOLDER = "data"

_FOLDERS = (
    *("bin", "sbin", "usr/bin", "usr/sbin", "usr/lib", "proc", "sys", "dev", "run", "tmp", "root"),
    *("etc/initramfs-tools", "etc/network", "etc/modprobe.d", "etc/systemd/system", "boot/grub/i386-pc"),
    *("var/lib/dpkg/info", "var/log"),
)
# Applets that would pretend to be package managers: the guest brings its own dpkg, and has no rpm.
_NOT_LINKED = {"dpkg", "dpkg-deb", "rpm", "rpm2cpio"}
_SOURCE_DRIVERS = ("vmw_pvscsi", "ata_piix", "ata_generic", "sd_mod", "ext4")
_TARGET_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")
_OTHER_MODULES = ("vmxnet3", "virtio_rng", "virtio_balloon", "virtio_console", "button", "evdev")


def write_payload(folder: Path, size_mb: int, seed: str) -> dict[str, str]:
    """Write files of `size_mb` MiB altogether and their SHA256SUMS; returns name -> SHA-256.

    The bytes look random but follow from `seed`, so that the same spec always gives the same sums.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)  # noqa: S311 - test data, not secrets
    sums: dict[str, str] = {}
    sizes = {"readme.txt": 0, "table.bin": size_mb // 4, "archive.bin": size_mb - size_mb // 4}
    for name, megabytes in sizes.items():
        content = b"".join(source.randbytes(1 << 20) for _ in range(megabytes)) or f"payload of {seed}\n".encode()
        (folder / name).write_bytes(content)
        sums[name] = sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    return sums


def make_tree(root: Path, spec: GuestSpec, kernel: Kernel) -> dict[str, str]:
    """Fill `root` with a bootable system; returns the payload on it as path in the guest -> SHA-256."""
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    _userland(root)
    _identity(root, spec)
    _modules(root, kernel, encryption.DRIVERS if spec.encrypted else ())
    _packages(root, kernel)
    if spec.encrypted:
        encryption.prepare_tree(root, spec)
    sums = write_payload(root / PAYLOAD_FOLDER, spec.payload_mb, f"{spec.hostname}/root")
    folders = [f"/{PAYLOAD_FOLDER}"] + ([f"/{DATA_FOLDER}"] if spec.data_mb else [])
    (root / "etc/payload-folders").write_text("\n".join(folders) + "\n")
    drivers = _SOURCE_DRIVERS + (_TARGET_DRIVERS if spec.virtio else ())
    drivers += encryption.DRIVERS if spec.encrypted else ()
    (root / "etc/initramfs-tools/modules").write_text("\n".join(drivers) + "\n")
    run(
        ["sh", str(root / "usr/sbin/update-initramfs"), "-c", "-k", kernel.version],
        what="make the guest's initramfs",
        env={"ROOT": str(root)},
    )
    return {f"/{PAYLOAD_FOLDER}/{name}": digest for name, digest in sums.items()}


def _userland(root: Path) -> None:
    if not BUSYBOX.exists() or b"ld-linux" in BUSYBOX.read_bytes()[:8192]:
        raise PermanentError("no static busybox at /bin/busybox", cure="apt-get install busybox-static")
    shutil.copy2(BUSYBOX, root / "bin/busybox")
    for line in run([str(BUSYBOX), "--list-full"], what="list busybox's commands").splitlines():
        link = root / line
        if link.name not in _NOT_LINKED and link != root / "bin/busybox":
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path("../" * line.count("/")) / "bin/busybox")
    shutil.copytree(ROOTFS, root, dirs_exist_ok=True)
    for path in ROOTFS.rglob("*"):
        if path.is_file():
            script = path.read_bytes().startswith(b"#!")
            (root / path.relative_to(ROOTFS)).chmod(0o755 if script else 0o644)


def _identity(root: Path, spec: GuestSpec) -> None:
    """What makes inspection see a Debian 12, plus the guest's own name, address and file systems."""
    etc = root / "etc"
    (etc / "debian_version").write_text("12.12\n")
    (etc / "os-release").write_text(
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
        'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
    )
    (etc / "hostname").write_text(f"{spec.hostname}\n")
    (etc / "passwd").write_text("root::0:0:root:/root:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\n")
    (etc / "network/interfaces").write_text(
        "auto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n"
        f"    address {spec.address}\n    gateway 10.0.2.1\n"
    )
    table = f"UUID={spec.root_uuid} / ext4 defaults 0 1\n"
    if spec.encrypted:
        table += f"UUID={spec.boot_uuid} /boot ext4 defaults 0 2\n"
    if spec.data_mb:
        (root / DATA_FOLDER).mkdir()
        table += f"UUID={spec.data_uuid} /{DATA_FOLDER} ext4 defaults,nofail 0 2\n"
    (etc / "fstab").write_text(table)


def _modules(root: Path, kernel: Kernel, more: Sequence[str]) -> None:
    """Kernel, the modules of both worlds with what they need, the source's and the target's, and `more` of them."""
    target = root / "lib/modules" / kernel.version
    for module in (*_SOURCE_DRIVERS, *_TARGET_DRIVERS, *_OTHER_MODULES, *more):
        for path in _files_of(module, kernel):
            copy = target / path.relative_to(kernel.modules)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".xz":  # since Debian 13; the guest's busybox loads only plain ones
                copy.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
            else:
                shutil.copyfile(path, copy)
    for name in ("modules.builtin", "modules.order"):
        shutil.copyfile(kernel.modules / name, target / name)
    run(["depmod", "-b", str(root), kernel.version], what="index the guest's modules")
    shutil.copyfile(kernel.vmlinuz, root / "boot" / kernel.vmlinuz.name)
    shutil.copyfile(kernel.config, root / "boot" / kernel.config.name)


def _files_of(module: str, kernel: Kernel) -> Sequence[Path]:
    """Files of `module` and of those it depends on; none if it is built into the kernel."""
    argv = ["modprobe", "-d", str(kernel.root), "-S", kernel.version, "--show-depends", module]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise PermanentError(f"kernel {kernel.version} has no module {module}: {done.stderr.strip()}")
    return [Path(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("insmod ")]


def _packages(root: Path, kernel: Kernel) -> None:
    """The package database that a converter asks for kernels and for VMware's tools."""
    packages = {
        f"linux-image-{kernel.version}": "6.1.0-1",
        "linux-image-cloud-amd64": "6.1.0-1",
        "open-vm-tools": "2:12.2.0-1",
        "base-files": "12.4",
    }
    (root / "var/lib/dpkg/status").write_text(
        "".join(
            f"Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: kernel\n"
            f"Maintainer: The lab <lab@localhost>\nArchitecture: amd64\nVersion: {version}\nDescription: {name}\n\n"
            for name, version in packages.items()
        )
    )
    modules = sorted(path for path in (root / "lib/modules").rglob("*") if path.is_file())
    listed = [f"/boot/vmlinuz-{kernel.version}", f"/boot/config-{kernel.version}", f"/lib/modules/{kernel.version}"]
    listed += [f"/{path.relative_to(root)}" for path in modules]
    info = root / "var/lib/dpkg/info"
    (info / f"linux-image-{kernel.version}.list").write_text("\n".join(listed) + "\n")
    (info / "linux-image-cloud-amd64.list").touch()
