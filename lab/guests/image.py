"""Disk images of guests, without root, loop devices or mounts: mke2fs -d, sfdisk, and GRUB's two pieces by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from lab.cache import cached
from lab.guests import encryption
from lab.guests.kernel import Kernel, kernel
from lab.guests.spec import GuestSpec
from lab.guests.tools import run
from lab.guests.tree import DATA_FOLDER, make_tree, write_payload
from mtv.model.errors import PermanentError

MIB = 1 << 20
GRUB = Path("/usr/lib/grub/i386-pc")
_GRUB_MODULES = (
    *("biosdisk", "part_msdos", "ext2", "search", "search_fs_uuid", "normal", "configfile"),
    *("linux", "serial", "terminal", "echo"),
)
_FULL_LEAVES_MIB = 4
_BOOT_MIB = 128  # of an encrypted guest; virt-v2v wants 50 free, and keeps the old initramfs beside the new one


@dataclass(frozen=True)
class GuestImage:
    """Raw disks of a guest and its payload: path in the guest -> SHA-256. Do not write to cached images; copy them."""

    root: Path
    data: Path | None
    payload: Mapping[str, str]

    @property
    def disks(self) -> tuple[Path, ...]:
        """The disks in boot order."""
        return (self.root,) if self.data is None else (self.root, self.data)


def guest_image(spec: GuestSpec) -> GuestImage:
    """The images of `spec` from the lab's cache, made at the first call (a few seconds)."""
    boot = kernel()
    here = Path(__file__).parent
    # Only what goes into an image: how it is booted later does not matter.
    sources = [here / name for name in ("image.py", "tree.py", "spec.py", "encryption.py", "rootfs")]
    key = json.dumps({"spec": asdict(spec), "kernel": boot.version}, sort_keys=True)
    folder = cached(f"guest-{spec.hostname}", sources=sources, build=lambda out: _build(spec, boot, out), extra_key=key)
    data = folder / "data.raw"
    payload = json.loads((folder / "payload.json").read_text())
    return GuestImage(root=folder / "root.raw", data=data if data.exists() else None, payload=payload)


def copy_image(image: GuestImage, folder: Path) -> GuestImage:
    """A private, sparse copy of `image` below `folder`, to boot and to write to."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for disk in image.disks:
        run(["cp", "--sparse=always", "--reflink=auto", str(disk), str(folder / disk.name)], what=f"copy {disk.name}")
        copies.append(folder / disk.name)
    return GuestImage(root=copies[0], data=copies[1] if len(copies) > 1 else None, payload=image.payload)


def _build(spec: GuestSpec, boot: Kernel, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    root = out / "tree"
    payload = make_tree(root, spec, boot)
    _grub_menu(root, spec, boot)
    core = out / "core.img"
    _grub_core(core, spec)
    partitions = _partitions(out, root, spec)
    _assemble(out / "root.raw", spec.root_mb, partitions, core)
    if spec.data_mb:
        content = out / "data.tree"
        sums = write_payload(content, spec.data_payload_mb, f"{spec.hostname}/data")
        payload |= {f"/{DATA_FOLDER}/{name}": digest for name, digest in sums.items()}
        _make_filesystem(out / "data.raw", spec.data_mb, spec.data_uuid, content)
        shutil.rmtree(content)
    (out / "payload.json").write_text(json.dumps(payload, indent=1))
    shutil.rmtree(root)
    for content in (*partitions.values(), core):
        content.unlink()


def _partitions(out: Path, root: Path, spec: GuestSpec) -> dict[int, Path]:
    """What the root disk's partitions hold, by the MiB where each begins: the root, or /boot and the encrypted root."""
    filesystem = out / "root.fs"
    if spec.encrypted:
        start = 1 + _BOOT_MIB
        boot = out / "boot.fs"
        _make_filesystem(boot, _BOOT_MIB, spec.boot_uuid, root / "boot")
        shutil.rmtree(root / "boot")
        (root / "boot").mkdir()
        partitions, size_mb = {1: boot, start: filesystem}, spec.root_mb - start - encryption.HEADER_MIB
    else:
        partitions, size_mb = {1: filesystem}, spec.root_mb - 1
    _make_filesystem(filesystem, size_mb, spec.root_uuid, root)
    if spec.full:
        _fill(root, filesystem, spec)
        _make_filesystem(filesystem, size_mb, spec.root_uuid, root)
    if spec.encrypted:
        encryption.encrypt(filesystem, spec)
    return partitions


def _make_filesystem(path: Path, size_mb: int, uuid: str, content: Path) -> None:
    path.unlink(missing_ok=True)
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-U", uuid, "-d", str(content), "-E", "root_owner=0:0"]
    run([*argv, str(path), f"{size_mb}M"], what="make the guest's file system")


def _fill(root: Path, filesystem: Path, spec: GuestSpec) -> None:
    """Put a file into the tree that takes all but a few MiB of what `filesystem` has left."""
    facts = dict(
        line.split(":", 1)
        for line in run(["dumpe2fs", "-h", str(filesystem)], what="ask for space").splitlines()
        if ":" in line
    )
    free = int(facts["Free blocks"]) * int(facts["Block size"])
    size = free - _FULL_LEAVES_MIB * MIB
    if size <= 0:
        raise PermanentError(f"{spec.hostname}: the root disk of {spec.root_mb} MiB is too small", cure="raise root_mb")
    block = sha256(spec.hostname.encode()).digest() * (MIB // 32)  # zeros would stay a hole
    with (root / "var/log/filler").open("wb") as file:
        for offset in range(0, size, MIB):
            file.write(block[: min(MIB, size - offset)])


def _grub_menu(root: Path, spec: GuestSpec, boot: Kernel) -> None:
    """Menu and modules of GRUB. The guest's clock options keep an emulated CPU from tripping over its timer."""
    if not GRUB.exists():
        raise PermanentError(f"{GRUB} is missing", cure="apt-get install grub-pc-bin")
    for pattern in ("*.mod", "*.lst"):
        for path in GRUB.glob(pattern):
            shutil.copyfile(path, root / "boot/grub/i386-pc" / path.name)
    folder = _boot_folder(spec)
    (root / "boot/grub/grub.cfg").write_text(
        "serial --speed=115200\nterminal_output console serial\nset timeout=0\nset default=0\n"
        "menuentry 'Debian GNU/Linux' --class debian {\n"
        f"\tsearch --no-floppy --fs-uuid --set=root {spec.boot_uuid}\n"
        f"\tlinux\t{folder}/vmlinuz-{boot.version} root=UUID={spec.root_uuid} ro console=ttyS0,115200 "
        "no_timer_check tsc=reliable\n"
        f"\tinitrd\t{folder}/initrd.img-{boot.version}\n}}\n"
    )


def _grub_core(core: Path, spec: GuestSpec) -> None:
    early = core.with_suffix(".cfg")
    folder = f"{_boot_folder(spec)}/grub"
    early.write_text(f"search --no-floppy --fs-uuid --set=root {spec.boot_uuid}\nset prefix=($root){folder}\n")
    argv = ["grub-mkimage", "-O", "i386-pc", "-p", f"(hd0,msdos1){folder}", "-c", str(early), "-o", str(core)]
    run([*argv, *_GRUB_MODULES], what="make GRUB's core image")
    early.unlink()


def _boot_folder(spec: GuestSpec) -> str:
    """Where kernel and initramfs lie on the file system that GRUB reads."""
    return "" if spec.encrypted else "/boot"


def _assemble(disk: Path, size_mb: int, partitions: Mapping[int, Path], core: Path) -> None:
    """Partition table, partitions by the MiB at which they begin, boot sector, and GRUB's core in the first gap."""
    with disk.open("wb") as file:
        file.truncate(size_mb * MIB)
    table = "label: dos\n"
    for start, content in partitions.items():
        bootable = ", bootable" if start == 1 else ""
        table += f"start={start}MiB, size={content.stat().st_size // MIB}MiB, type=83{bootable}\n"
    run(["sfdisk", "-q", str(disk)], what="partition the disk", stdin=table)
    for start, content in partitions.items():
        argv = ["dd", f"if={content}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none"]
        run(argv, what="write a partition to the disk")
    loader = core.read_bytes()
    if len(loader) > MIB - 512:
        raise PermanentError(f"GRUB's core image has {len(loader)} bytes and does not fit before the partition")
    with disk.open("r+b") as file:
        file.write((GRUB / "boot.img").read_bytes()[:440])  # the partition table follows in the same sector
        file.seek(512)
        file.write(loader)
