"""`mtv-mover copy`: one disk, by hand, with the same engine and journal as a transfer."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

import msgspec

from mover.budget import Budget
from mover.command_options import JOURNAL_SUFFIX, LIMIT_SUFFIX, LOCK_SUFFIX, uri_options
from mover.control.controls import Controls
from mover.disk_copy import DiskCopy
from mover.events import Events
from mover.failure import exit_code_of, failure_of
from mover.feed import Patience
from mover.flow import Governor
from mover.halt import Halt
from mover.journal import refuse_other_file
from mover.progress import DiskMeter, Reporter
from mover.sources.base import Source
from mover.sources.open import open_source
from mover.sources.uri import NamedSource, source_of
from mover.targets.open import is_device, open_target
from mover.worklock import WorkLock, refuse_other_lock, work_lock
from mtv.model.errors import MtvError, PermanentError
from mtv.model.rates import parse_rate
from mtv.model.transfer import DiskResult, DiskTarget, DiskTransfer, Failure, Proof, Verify


class CopyResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the copy. `bytes_copied` were read from the source now, `bytes_skipped` is the rest of the disk:
    holes, and what an earlier attempt had proven (`bytes_resumed`). `digest` is the root digest.
    """

    ok: bool
    target: str
    journal: str
    size_bytes: int = 0
    bytes_copied: int = 0
    bytes_skipped: int = 0
    bytes_resumed: int = 0
    digest: str = ""
    proof: Proof = Proof.NONE
    source_digest: str = ""
    seconds: float = 0.0
    failure: Failure | None = None


def copy(arguments: argparse.Namespace, events: Events, halt: Halt) -> int:
    """Copy one disk; returns the exit code. The result is the last thing said, whether it went well or not."""
    target: Path = arguments.target.absolute()
    journal: Path = (arguments.journal or target.with_name(target.name + JOURNAL_SUFFIX)).absolute()
    result = CopyResult(ok=False, target=str(target), journal=str(journal))
    try:
        if is_device(target) and not arguments.journal:
            raise PermanentError(
                f"{target} is a device: its journal cannot lie beside it", cure="give --journal PATH", code="spec"
            )
        named = source_of(arguments.source, uri_options(arguments))
        refuse_other_file(journal)
        lock_file = journal.with_name(journal.name + LOCK_SUFFIX)
        refuse_other_lock(lock_file)
        with work_lock(journal.parent, 1, takeover_wait_s=0, name=lock_file.name) as lock:
            done = _Copy(named, target, arguments, events, halt).run(journal, lock)
        result = msgspec.structs.replace(
            result,
            ok=True,
            size_bytes=done.size_bytes,
            bytes_copied=done.bytes_read,
            bytes_skipped=max(done.size_bytes - done.bytes_read, 0),
            bytes_resumed=done.bytes_resumed,
            digest=done.digest,
            proof=done.proof,
            source_digest=done.source_digest,
            seconds=done.seconds,
        )
    except MtvError as error:
        failure = failure_of(error)
        events.error(failure)
        result = msgspec.structs.replace(result, failure=failure)
    events.end(result, _sentence(result))
    return exit_code_of(result.failure)


class _Copy:
    def __init__(
        self, named: NamedSource, target: Path, arguments: argparse.Namespace, events: Events, halt: Halt
    ) -> None:
        self.named = named
        self.target = DiskTarget(path=str(target), block=is_device(target), preallocate=arguments.preallocate)
        self.verify = Verify(arguments.verify)
        self.rate = parse_rate(arguments.limit)
        self.verify_source: bool = arguments.verify_source
        self.controls = Controls(arguments.credentials, halt)
        self.events = events
        self.halt = halt

    def run(self, journal: Path, lock: WorkLock) -> DiskResult:
        well = False
        try:
            with contextlib.closing(self._open()) as source:
                if not source.size_bytes:
                    raise PermanentError("the source is empty", cure="name the disk's own file", code="source-size")
                _refuse_one_file_twice(source, Path(self.target.path), journal)
                with contextlib.closing(open_target(self.target, source.size_bytes)) as target:
                    meter = DiskMeter(Path(self.target.path).name)
                    limit_file = journal.with_name(journal.name + LIMIT_SUFFIX)
                    governor = Governor(limit_file, self.events.log, rate=self.rate)
                    with governor, Reporter(self.events, [meter]):
                        done = DiskCopy(
                            self._disk(source.size_bytes),
                            source,
                            target,
                            journal_path=journal,
                            lock=lock,
                            verify=self.verify,
                            verify_source=self.verify_source,
                            meter=meter,
                            say=self.events.log,
                            halt=self.halt,
                            budget=Budget(bucket=governor.bucket),
                        ).run()
            well = True
            return done
        finally:
            self.controls.close(well=well)

    def _open(self) -> Source:
        disk = self._disk(self.named.size_bytes)
        return Patience(self.halt, self.events.log).persist(lambda: open_source(disk, self.controls))

    def _disk(self, size_bytes: int) -> DiskTransfer:
        return self.named.as_disk(Path(self.target.path).name, self.target, size_bytes=size_bytes)


def _refuse_one_file_twice(source: Source, target: Path, journal: Path) -> None:
    """Before anything is written: target and journal are neither a file of the source nor each other."""
    for path, what in ((target, "target"), (journal, "journal")):
        if any(_is_same(path, file) for file in source.files):
            raise PermanentError(f"{path} is the source itself", cure=f"name another {what}", code="spec")
    if _is_same(target, journal):
        raise PermanentError(f"{journal} is the target itself", cure="name another journal", code="spec")


def _is_same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _sentence(result: CopyResult) -> str:
    if result.failure:
        began = result.failure.code not in ("spec", "journal", "lock") and os.access(result.journal, os.F_OK)
        kept = f"; what was proven until now is kept in {result.journal}" if began else ""
        return f"{result.target}: not copied{kept}"
    return (
        f"{result.target}: {result.bytes_copied / 1e6:.0f} MB copied, {result.bytes_skipped / 1e6:.0f} MB skipped in"
        f" {result.seconds:.1f} s; proof: {result.proof.value}; root digest {result.digest}"
    )
