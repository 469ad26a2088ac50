"""A guest whose root lies in LUKS, by the command that a pod runs: looked into, converted, booted; and kept shut.

The keys lie in a folder as kubelet mounts a Secret. What a run leaves behind is searched for them every time.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from lab.appliance import appliance
from lab.guests.boot import BOOT_LINE, ENCRYPTED_LINE, PAYLOAD_LINE, Machine
from lab.guests.hardware import KUBEVIRT
from lab.guests.image import GuestImage, copy_image, guest_image
from lab.guests.spec import GuestSpec
from mtv.model.conversion import (
    ANY_FILE,
    ConvertDisk,
    ConvertNic,
    ConvertResult,
    ConvertSpec,
    LuksKey,
    PreflightDisk,
    PreflightResult,
    PreflightSpec,
)
from mtv.model.transfer import DiskFile, Failure

pytestmark = [pytest.mark.convert, pytest.mark.timeout(1800)]

VAULT = GuestSpec(hostname="vault-1", root_mb=288, payload_mb=4, encrypted=True)
WRONG = "open please vault-1"
Command = Callable[[GuestImage, Path, dict[str, str] | None], ConvertResult | PreflightResult]
NIC = ConvertNic(mac="00:50:56:00:00:01", addresses=("10.0.2.15/24",))


@pytest.fixture
def image(tmp_path: Path) -> GuestImage:
    return copy_image(guest_image(VAULT), tmp_path / "disks")


def mounted_secret(folder: Path, keys: dict[str, str]) -> Path:
    """A folder as kubelet makes it of a Secret: files behind two links, and entries of its own."""
    data = folder / "..2026_01_01"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to(data.name)
    for name, key in keys.items():
        (data / name).write_text(key)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def processes() -> Iterator[bytes]:
    """Command line and environment of everything that runs here."""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield (folder / name).read_bytes()
            except OSError:  # it has ended meanwhile
                continue


def mover(command: str, spec: ConvertSpec | PreflightSpec, folder: Path) -> list[dict[str, object]]:
    """Run the command as a pod does and return its lines, the last of which is the result.

    No key may be among the words of any process meanwhile, nor in anything that the run says or leaves.
    """
    path = folder / f"{command}.json"
    path.write_bytes(msgspec.json.encode(spec))
    last_words = folder / f"{command}.last"
    argv = [sys.executable, "-m", "mover", command, "--spec", str(path), "--termination-log", str(last_words)]
    environ = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONPATH": ":".join(entry for entry in sys.path if entry),
        "LIBGUESTFS_PATH": str(appliance()),
        "TMPDIR": str(folder),
    }
    canaries = [VAULT.luks_key.encode(), WRONG.encode()]
    seen: list[bytes] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            seen.extend(words for words in processes() if any(key in words for key in canaries))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = subprocess.run(argv, env=environ, capture_output=True, timeout=1700, check=False)
    finally:
        ended.set()
        watcher.join()
    assert not seen, "a key among a process's words"
    left = [done.stdout, done.stderr, last_words.read_bytes()]
    left += [file.read_bytes() for file in (folder / "work").rglob("*") if file.is_file()]
    assert not [content for content in left if any(key in content for key in canaries)], "a key was left behind"
    return [json.loads(line) for line in done.stdout.splitlines()]


def convert(image: GuestImage, folder: Path, keys: dict[str, str] | None, **changes: object) -> ConvertResult:
    """What the conversion says with a Secret of these keys; None: the plan names no Secret."""
    work = folder / "work"
    work.mkdir()
    size = image.root.stat().st_size
    disk = ConvertDisk(id="d0", path=str(image.root), block=False, size_bytes=size, digest="as-copied")
    spec = ConvertSpec(plan="p", run="r", vm="v", epoch=1, disks=(disk,), work_dir=str(work))
    if keys is not None:
        secret = mounted_secret(folder / "keys", keys)
        changes |= {"luks_keys": (LuksKey(file=ANY_FILE),), "credentials_dir": str(secret)}
    lines = mover("convert", msgspec.structs.replace(spec, **changes), folder)
    return msgspec.convert(lines[-1], ConvertResult)


def preflight(image: GuestImage, folder: Path, keys: dict[str, str] | None) -> PreflightResult:
    """What a look into the guest says before the copy."""
    disk = PreflightDisk(
        id="d0", size_bytes=image.root.stat().st_size, source=DiskFile(path=str(image.root), format="raw")
    )
    spec = PreflightSpec(plan="p", run="r", vm="v", disks=(disk,))
    if keys is not None:
        secret = mounted_secret(folder / "keys", keys)
        spec = msgspec.structs.replace(spec, luks_keys=(LuksKey(file=ANY_FILE),), keys_dir=str(secret))
    return msgspec.convert(mover("preflight", spec, folder)[-1], PreflightResult)


@pytest.mark.guest
@pytest.mark.long
def test_an_encrypted_guest_is_opened_by_a_key_of_the_secret_converted_and_boots_on_virtio(
    image: GuestImage, tmp_path: Path
) -> None:
    result = convert(image, tmp_path, {"new": VAULT.luks_key, "old": WRONG}, nics=(NIC,), root_disk="/dev/sda2")

    assert result.ok, result.failure
    assert result.os_id == "debian12"
    assert set(result.drivers) == {"virtio-blk", "virtio-net"}
    found = result.inspection
    assert found is not None
    assert [filesystem.mountpoint for filesystem in found.filesystems] == ["/", "/boot"]
    with Machine(image.disks, KUBEVIRT) as machine:
        booted = machine.wait_for(BOOT_LINE, timeout_s=300)
        console = machine.text
    assert (booted["hostname"], booted["disk"], booted["nic"]) == ("vault-1", "virtio_blk", "virtio_net")
    opened = ENCRYPTED_LINE.search(console)
    assert opened is not None, "the root is not encrypted any more"
    assert opened["what"] == f"CRYPT-LUKS2-{VAULT.luks_uuid.replace('-', '')}-root"
    assert {match["path"]: match["sha256"] for match in PAYLOAD_LINE.finditer(console)} == image.payload
    assert "MTV-NIC ens192 driver=virtio_net" in console, "the card lost its name"


def sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def refused(failure: Failure | None) -> str:
    """The code and sentence of a failure for which there is a cure, and which a retry does not help."""
    assert failure is not None
    assert "LUKS key" in failure.cure
    assert not failure.retryable
    return f"{failure.code}: {failure.message}"


@pytest.mark.long
def test_a_key_that_does_not_open_the_disk_fails_the_conversion_and_leaves_the_copy_as_it_was(
    image: GuestImage, tmp_path: Path
) -> None:
    before = sha256(image.root)
    result = convert(image, tmp_path, {"old": WRONG})
    assert refused(result.failure) == "encrypted: a disk is encrypted and no key opens it"
    assert result.untouched
    assert sha256(image.root) == before


@pytest.mark.parametrize("command", [convert, preflight])
def test_a_plan_that_names_no_keys_is_told_before_anything_starts(
    image: GuestImage, tmp_path: Path, command: Command
) -> None:
    result = command(image, tmp_path, None)
    assert refused(result.failure) == "encrypted: /dev/sda2 is encrypted (LUKS) and no key is given for it"
    assert not result.accelerator, "an appliance was to be started"


@pytest.mark.long
def test_a_key_that_does_not_open_the_disk_is_told_before_the_copy(image: GuestImage, tmp_path: Path) -> None:
    result = preflight(image, tmp_path, {"old": WRONG})
    assert refused(result.failure) == "encrypted: /dev/sda2 is encrypted and none of the 1 keys opens it"
