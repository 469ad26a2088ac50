"""The process that talks to libguestfs: a `Request` comes in on stdin, an `Answer` goes out on stdout.

Started by `mover.convert.guest`. libguestfs' Python module is the distribution's own; its folder is added last, so that
nothing else of it comes before what the mover brought along.
"""

from __future__ import annotations

import importlib
import os
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import msgspec

from mover.convert import failures, interface_names, linux_files, windows_files
from mover.convert.guest import Answer, Drive, Key, Request, passphrase
from mover.convert.linux_files import GuestFile
from mover.convert.scripts import When, sorted_scripts
from mover.convert.survey import shortage, survey
from mover.convert.volumes import OPENED, root_device
from mtv.model.conversion import Inspection, Notice
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import Failure

_SYSTEM_PACKAGES = "/usr/lib/python3/dist-packages"
_MAX_CONFIG_BYTES = 256 << 10
_SYSTEMD = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")


def main() -> int:
    """Answer one request."""
    # libguestfs and its children may print; the answer must stay alone on the stream that it goes out by.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer = _answer(request)
    except MtvError as error:
        answer = Answer(failure=Failure.of(error))
    except RuntimeError as error:  # libguestfs' only exception
        answer = Answer(failure=failures.explain([str(error)], exit_code=1))
    with out:
        out.write(msgspec.json.encode(answer))
    return 0


def _answer(request: Request) -> Answer:
    guest = _guestfs().GuestFS(python_return_dict=True)
    try:
        if request.memory_mb:
            guest.set_memsize(request.memory_mb)
        for drive in request.drives:
            _add(guest, drive, readonly=not request.write)
        guest.launch()
        _unlock(guest, request.keys)
        root = _root(guest, root_device(request.root_disk, request.volumes))
        notices = _mount(guest, root, readonly=not request.write)
        inspection = survey(guest, root)
        notices += _notices(inspection)
        if failure := shortage(inspection):
            return Answer(inspection=inspection, notices=tuple(notices), failure=failure)
        written: list[str] = []
        if request.write:
            written, more = _write(guest, request, inspection)
            notices += more
            guest.umount_all()
            guest.shutdown()  # reports a failed flush, which close() would not
        return Answer(inspection=inspection, notices=tuple(notices), written=tuple(written))
    finally:
        guest.close()


def _guestfs() -> Any:
    sys.path.append(_SYSTEM_PACKAGES)
    try:
        return importlib.import_module("guestfs")
    except ImportError as error:
        raise PermanentError(
            f"libguestfs' Python module does not load: {error}",
            cure="apt-get install python3-guestfs, and run the mover with the distribution's own Python version",
            code="tool-missing",
        ) from error


def _add(guest: Any, drive: Drive, *, readonly: bool) -> None:
    if not drive.nbd:
        guest.add_drive_opts(drive.path, format=drive.format, readonly=readonly)
        return
    uri = urllib.parse.urlsplit(drive.nbd)
    if uri.scheme not in ("nbd", "nbd+unix"):
        raise PermanentError(f"{uri.scheme} sources cannot be inspected", code="source-unsupported")
    socket = urllib.parse.parse_qs(uri.query).get("socket", [""])[0]
    server = f"unix:{socket}" if uri.scheme == "nbd+unix" else f"tcp:{uri.hostname}:{uri.port or 10809}"
    export = urllib.parse.unquote(uri.path.lstrip("/"))
    guest.add_drive_opts(export, format="raw", protocol="nbd", server=[server], readonly=readonly)


def _unlock(guest: Any, keys: tuple[Key, ...]) -> None:
    """Open every LUKS device that a key is given for; several keys for one device are tried in turn."""
    wanted: dict[str, list[Path]] = {}
    for key in keys:
        device = key.device if key.device.startswith("/dev/") else guest.findfs_uuid(key.device)
        wanted.setdefault(device, []).append(Path(key.path))
    for device, paths in wanted.items():
        name = OPENED.format(uuid=guest.luks_uuid(device))
        for path in paths:
            try:
                guest.cryptsetup_open(device, passphrase(path), name)
                break
            except RuntimeError:
                continue  # not this key; libguestfs does not say more
        else:
            raise failures.refusal("encrypted", f"{device} is encrypted and none of the {len(paths)} keys opens it")
    if wanted:
        guest.lvm_scan(True)


def _root(guest: Any, wanted: str) -> str:
    roots = sorted(guest.inspect_os())
    if not roots:
        encrypted = [device for device in guest.list_filesystems().items() if device[1] == "crypto_LUKS"]
        if encrypted:
            raise failures.refusal("encrypted", f"no operating system was found, and {encrypted[0][0]} is encrypted")
        raise failures.refusal("no-operating-system")
    if wanted:
        if wanted not in roots:
            raise failures.refusal(
                "root-disk-unknown", f"no operating system is on {wanted}, but on {', '.join(roots)}"
            )
        return wanted
    if len(roots) > 1:
        raise failures.refusal(
            "several-operating-systems", f"more than one operating system was found: on {', '.join(roots)}"
        )
    return str(roots[0])


def _mount(guest: Any, root: str, *, readonly: bool) -> list[Notice]:
    mount = guest.mount_ro if readonly else guest.mount
    notices = []
    points: dict[str, str] = guest.inspect_get_mountpoints(root)
    for point in sorted(points, key=len):
        try:
            mount(points[point], point)
        except RuntimeError as error:
            if point == "/":
                raise
            notices.append(
                Notice(
                    code="guest-mount",
                    message=f"{points[point]} cannot be mounted on {point}: {str(error)[:200]}",
                    cure="check the guest's fstab and filesystems",
                )
            )
    return notices


def _notices(inspection: Inspection) -> list[Notice]:
    return [
        Notice(
            code="fstab-by-path",
            message=f"the guest's fstab names a device by its bus: {entry}",
            cure="write UUID= in its place before the migration: the bus is another one afterwards",
        )
        for entry in inspection.fstab_by_path
    ]


def _write(guest: Any, request: Request, inspection: Inspection) -> tuple[list[str], list[Notice]]:
    scripts = sorted_scripts(request.scripts)
    if inspection.type == "windows":
        return _write_windows(guest, request, inspection)
    notices: list[Notice] = []
    names = interface_names.names_of(_network_configuration(guest), request.nics)
    for nic in request.nics:
        if nic.addresses and interface_names.mac_of(nic.mac) not in names:
            notices.append(
                Notice(
                    code="nic-name-unknown",
                    message=f"the guest's name of the card {nic.mac} ({', '.join(nic.addresses)}) was not found",
                    cure="check after the migration that the card has its address",
                )
            )
    systemd = any(guest.is_file(path, followsymlinks=True) for path in _SYSTEMD)
    files = linux_files.network_files(names, systemd=systemd)
    if scripts[When.LINUX_FIRST_BOOT] and not systemd:
        raise PermanentError(
            "first-boot scripts need a guest with systemd",
            cure="use a linux_run script, or run it by hand",
            code="script-not-installable",
        )
    files += linux_files.first_boot_files(scripts[When.LINUX_FIRST_BOOT])
    written = _put(guest, files)
    for script in scripts[When.LINUX_RUN]:
        _run(guest, script.name, script.content)
        written.append(script.name)
    return written, notices


def _write_windows(guest: Any, request: Request, inspection: Inspection) -> tuple[list[str], list[Notice]]:
    volumes = {volume.device: volume for volume in request.volumes}
    letters, notices = [], []
    for letter, device in inspection.drive_letters.items():
        volume = volumes.get(device)
        if volume and (volume.partition_guid or volume.disk_signature):
            letters.append(
                windows_files.DriveLetter(
                    letter=letter.upper(),
                    disk_signature=volume.disk_signature,
                    offset=volume.offset,
                    partition_guid=volume.partition_guid,
                )
            )
        else:
            notices.append(
                Notice(
                    code="drive-letter",
                    message=f"drive {letter}: is on {device}, no plain partition: Windows chooses its letter",
                    cure="check drive letters after the migration",
                )
            )
    scripts = sorted_scripts(request.scripts)[When.WINDOWS_FIRST_BOOT]
    files = windows_files.first_boot_files(letters=letters, nics=request.nics, scripts=scripts)
    programs = guest.case_sensitive_path("/Program Files")
    placed = [msgspec.structs.replace(file, path=file.path.replace("/Program Files", programs, 1)) for file in files]
    return _put(guest, placed), notices


def _network_configuration(guest: Any) -> dict[str, str]:
    files = {}
    for pattern in interface_names.PATTERNS:
        for path in guest.glob_expand(pattern):
            if guest.is_file(path, followsymlinks=True) and guest.filesize(path) <= _MAX_CONFIG_BYTES:
                files[path] = bytes(guest.read_file(path)).decode(errors="replace")
    return files


def _put(guest: Any, files: list[GuestFile]) -> list[str]:
    for file in files:
        guest.mkdir_p(file.path.rpartition("/")[0])
        if file.link_to:
            guest.ln_sf(file.link_to, file.path)
        else:
            guest.write(file.path, file.content.encode())
            guest.chmod(file.mode, file.path)
    return [file.path for file in files]


def _run(guest: Any, name: str, content: str) -> None:
    """Run a script in the guest's filesystem, as root, without network. Its failure fails the conversion."""
    path = "/.mtv-script"
    guest.write(path, content.encode())
    guest.chmod(0o700, path)
    try:
        guest.command([path] if content.startswith("#!") else ["/bin/sh", path])
    except RuntimeError as error:
        raise PermanentError(
            f"the script {name} failed in the guest: {str(error)[-400:]}",
            cure="correct the script; the copied disks are unchanged",
            code="script-failed",
        ) from error
    finally:
        guest.rm_f(path)


if __name__ == "__main__":
    sys.exit(main())
