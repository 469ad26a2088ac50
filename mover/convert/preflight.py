"""Can these disks be converted at all? Asked before hours of copying; nothing is written, the codes are a conversion's.

What reading can tell is told: encryption, hibernation, operating system, space, fstab, drivers for Windows. Whether the
guest's own initrd can be rebuilt shows only in the conversion itself.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mover.convert import accelerator, exports, failures, guest, hazards, virtio_win
from mover.convert.guest import Drive, Request
from mover.convert.volumes import Volume
from mover.failure import failure_of
from mover.geometry import Extent
from mover.halt import Halt
from mover.sources.base import ReadRequest
from mover.sources.nbd import NbdSource
from mtv.model.conversion import Inspection, LuksKey, Notice, PreflightResult, PreflightSpec
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import Failure

_NBD = ("nbd://", "nbd+unix://")
_CONVERTIBLE = frozenset(
    {
        *("fedora", "rhel", "centos", "circle", "scientificlinux", "redhat-based", "oraclelinux", "rocky", "almalinux"),
        *("sles", "suse-based", "opensuse", "altlinux", "debian", "ubuntu", "linuxmint", "kalilinux"),
    }
)
"""Linux distributions that virt-v2v 2.2 converts, by libguestfs' names."""


def preflight(
    disks: Sequence[str],
    *,
    say: Callable[[str], None],
    root_disk: str = "",
    luks_keys: Sequence[LuksKey] = (),
    credentials_dir: Path = Path("/run/mtv"),
    windows_drivers: str = "",
    memory_mb: int = 0,
    timeout_s: float = guest.TIMEOUT_S,
    halt: Halt | None = None,
    environ: Mapping[str, str] = os.environ,
) -> PreflightResult:
    """Examine `disks` in boot order: paths of raw images and devices, `file:` URIs, or NBD URIs. Never raises for what
    is wrong with the guest: the result says it.
    """
    started = time.monotonic()
    chosen = ""
    inspection: Inspection | None = None
    notices: tuple[Notice, ...] = ()
    try:
        drives = tuple(_drive(disk) for disk in disks)
        volumes, notices = _scan(drives)
        keys = hazards.keys_for(luks_keys, credentials_dir, volumes)
        chosen, why = accelerator.probe(environ)
        say(f"the inspection runs on {chosen.upper()}: {why}")
        request = Request(drives=drives, root_disk=root_disk, keys=keys, volumes=volumes, memory_mb=memory_mb)
        with tempfile.TemporaryDirectory(prefix="mtv-preflight-", dir=environ.get("TMPDIR")) as folder:
            env = accelerator.environment(environ, chosen, scratch=Path(folder))
            answer = guest.visit(request, env=env, log=Path(folder) / guest.LOG, timeout_s=timeout_s, halt=halt)
        notices += answer.notices
        failure, inspection = answer.failure, answer.inspection
        if inspection and not failure:
            notices += _judge(inspection, windows_drivers, environ)
    except MtvError as error:
        failure = failure_of(error)
    return PreflightResult(
        ok=failure is None,
        inspection=inspection,
        notices=notices,
        accelerator=chosen,
        seconds=round(time.monotonic() - started, 3),
        failure=failure,
    )


def preflight_spec(
    spec: PreflightSpec,
    *,
    say: Callable[[str], None],
    halt: Halt | None = None,
    environ: Mapping[str, str] = os.environ,
) -> PreflightResult:
    """Examine the disks of a VM where they lie on the source. A stream cannot be looked into, which is a notice."""
    started = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mtv-", dir=environ.get("TMPDIR")) as folder,
            exports.exported(spec.disks, Path(spec.credentials_dir), Path(folder)) as uris,
        ):
            return preflight(
                uris,
                say=say,
                root_disk=spec.root_disk,
                luks_keys=spec.luks_keys,
                credentials_dir=Path(spec.keys_dir),
                windows_drivers=spec.virtio_win,
                timeout_s=spec.timeout_s,
                halt=halt,
                environ=environ,
            )
    except exports.CannotLook as error:
        notice = Notice(
            code="preflight-not-possible",
            message=f"the guest was not looked into before the copy: {error.message}",
            cure="nothing needs to be done; the conversion looks into the copied disks",
        )
        return PreflightResult(ok=True, notices=(notice,), seconds=round(time.monotonic() - started, 3))
    except MtvError as error:
        return PreflightResult(ok=False, failure=failure_of(error), seconds=round(time.monotonic() - started, 3))


def unsupported(inspection: Inspection) -> Failure | None:
    """Why virt-v2v does not convert this kind of guest; None if it does."""
    if inspection.type == "windows" or (inspection.type == "linux" and inspection.distro in _CONVERTIBLE):
        return None
    what = f"{inspection.type}/{inspection.distro}"
    return failures.explain([f"unable to convert this guest type ({what})"], exit_code=1)


def _judge(inspection: Inspection, windows_drivers: str, environ: Mapping[str, str]) -> tuple[Notice, ...]:
    if failure := unsupported(inspection):
        raise PermanentError(failure.message, cure=failure.cure, code=failure.code)
    if inspection.type == "windows":
        return virtio_win.check(inspection, wanted=windows_drivers, environ=environ)
    return ()


def _drive(disk: str) -> Drive:
    if disk.startswith(_NBD):
        return Drive(nbd=disk)
    path = disk.removeprefix("file://").removeprefix("file:")
    if "://" in path:
        raise PermanentError(
            f"{disk.split('://')[0]} sources cannot be inspected",
            cure="give a raw image, a device, or an NBD URI",
            code="source-unsupported",
        )
    return Drive(path=path)


def _scan(drives: Sequence[Drive]) -> tuple[tuple[Volume, ...], tuple[Notice, ...]]:
    volumes: tuple[Volume, ...] = ()
    notices: tuple[Notice, ...] = ()
    for number, drive in enumerate(drives):
        if drive.nbd:
            found, said = _scan_nbd(drive.nbd, number)
        else:
            with hazards.reading(Path(drive.path)) as (read, size):
                found, said = hazards.examine(read, size, disk=number)
        volumes, notices = volumes + found, notices + said
    return volumes, notices


def _scan_nbd(uri: str, number: int) -> tuple[tuple[Volume, ...], tuple[Notice, ...]]:
    source = NbdSource(uri)
    reader = source.open_reader()
    try:

        def read(offset: int, length: int) -> bytes:
            wanted = Extent(offset, min(length, source.size_bytes - offset))
            if wanted.length <= 0:
                return b""
            content = bytearray(wanted.length)
            request = ReadRequest(memoryview(content), offset, [wanted])
            reader.begin(request)
            reader.complete(request)
            return bytes(content)

        return hazards.examine(read, source.size_bytes, disk=number)
    finally:
        reader.close()
