"""Looks into a guest and puts files into it, in a process of its own that can be ended at any time.

The process boots the appliance (about 3 s with KVM, 10 s without), inspects, writes, and is gone. Key files are named,
never passed: their content is read where it is used.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

import mtv.model
from mover.convert import failures
from mover.convert.process_group import kill_group
from mover.convert.volumes import Volume
from mover.failure import Interrupted
from mover.halt import Halt
from mtv.model.conversion import ConvertNic, GuestScript, Inspection, Notice
from mtv.model.errors import NOT_UNDERSTOOD, PermanentError
from mtv.model.transfer import Failure

LOG = "inspection.log"
_LOOK_S = 0.5
TIMEOUT_S = 1800.0
"""Opening LUKS volumes costs over a minute each under TCG; nothing else takes long."""


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """A disk: the path of an image or device with its format, or the URI of an NBD export (raw)."""

    path: str = ""
    format: str = "raw"
    nbd: str = ""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A device (/dev/sda2) or the UUID of a LUKS volume, and the file with its key."""

    device: str
    path: str


def passphrase(path: Path) -> str:
    """The key in a file: one line of text, for that is what virt-v2v reads of it.

    Raises `PermanentError` (code luks-key), which never quotes it, for a file that cannot be read, is empty or is more.
    """
    try:
        content = path.read_bytes().rstrip(b"\n")
    except OSError as error:
        raise PermanentError(
            f"the LUKS key file {path.name!r} cannot be read: {error.strerror}",
            cure="put the key into the VM's secret under that name",
            code="luks-key",
        ) from error
    if not content:
        raise PermanentError(
            f"the LUKS key file {path.name!r} is empty", cure="put the key into the VM's secret", code="luks-key"
        )
    try:
        key = content.decode()
    except UnicodeDecodeError:
        key = "\0"  # no text; the error itself would quote the key
    if "\n" in key or "\0" in key:
        raise PermanentError(
            f"the LUKS key file {path.name!r} is not one line of text, and virt-v2v takes nothing else",
            cure="give the device a passphrase (cryptsetup luksAddKey), and put that into the VM's secret",
            code="luks-key",
        )
    return key


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. Nothing is written unless `write`; `volumes` are those of all drives as scanned."""

    drives: tuple[Drive, ...]
    write: bool = False
    root_disk: str = ""
    keys: tuple[Key, ...] = ()
    nics: tuple[ConvertNic, ...] = ()
    scripts: tuple[GuestScript, ...] = ()
    volumes: tuple[Volume, ...] = ()
    memory_mb: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and which files were written, or why not."""

    inspection: Inspection | None = None
    notices: tuple[Notice, ...] = ()
    written: tuple[str, ...] = ()
    failure: Failure | None = None


def visit(
    request: Request, *, env: Mapping[str, str], log: Path, timeout_s: float = TIMEOUT_S, halt: Halt | None = None
) -> Answer:
    """Start the process, wait for its answer. Never longer than `timeout_s`; libguestfs' words go to `log`.

    Raises `Interrupted` when `halt` is raised.
    """
    folders = [str(Path(__file__).parents[2]), *(str(Path(path).parents[1]) for path in mtv.model.__path__)]
    inherited = [environment for environment in (env.get("PYTHONPATH", ""),) if environment]
    environ = dict(env) | {"PYTHONPATH": os.pathsep.join([*folders, *inherited]), "LIBGUESTFS_DEBUG": "1"}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "mover.convert.guest_session"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environ,
            start_new_session=True,
        )
        try:
            out = _wait(process, msgspec.json.encode(request), timeout_s=timeout_s, halt=halt or Halt())
        except subprocess.TimeoutExpired:
            return Answer(failure=failures.timed_out("looking into the guest", timeout_s))
        finally:
            if process.poll() is None:
                kill_group(process.pid)
                process.communicate()
    try:
        return msgspec.json.decode(out, type=Answer)
    except NOT_UNDERSTOOD:
        return Answer(
            failure=Failure(
                code="appliance-failed",
                message=f"looking into the guest broke off (exit code {process.returncode})",
                cure=f"look at {log.name} on the work volume; check the pod's memory limit and python3-guestfs",
                retryable=True,
            )
        )


def _wait(process: subprocess.Popen[bytes], question: bytes, *, timeout_s: float, halt: Halt) -> bytes:
    deadline = time.monotonic() + timeout_s
    send: bytes | None = question
    while True:
        try:
            return process.communicate(send, timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired:
            if halt.is_set():
                raise Interrupted("told to stop while looking into the guest", code="interrupted") from None
            if time.monotonic() > deadline:
                raise
        send = None
