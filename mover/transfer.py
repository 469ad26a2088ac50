"""One transfer from spec to result: all disks of a VM, side by side, on one locked work volume."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from mover.budget import Budget
from mover.control.controls import Controls
from mover.crew import Crew
from mover.delta import check_delta
from mover.disk_copy import DiskCopy
from mover.events import Events
from mover.failure import (
    EXIT_PERMANENT,
    EXIT_TEMPORARY,
    EXIT_VOLUME_HELD,
    exit_code_of,
    failure_of,
    stopped,
    storage_error,
)
from mover.feed import Patience
from mover.flow import check_limits, governor_of
from mover.halt import Halt
from mover.journal import journal_path, sync_folder
from mover.progress import DiskMeter, Reporter
from mover.sources.base import Source
from mover.sources.open import open_source
from mover.targets.open import open_target
from mover.worklock import WorkLock, work_lock
from mtv.model.errors import NOT_UNDERSTOOD, MtvError, PermanentError
from mtv.model.transfer import DiskResult, DiskTransfer, Failure, TransferResult, TransferSpec

RESULT_NAME = "transfer-result.json"
DISKS_AT_ONCE = 4
"""More only share the same link and storage; each costs less than 16 MiB."""

_TOLD_FIRST = (EXIT_VOLUME_HELD, EXIT_PERMANENT, EXIT_TEMPORARY)
"""Of several failures the result names one: who lost the volume says so, then what needs a person."""


def read_spec(path: Path) -> TransferSpec:
    """The spec in a file; `PermanentError` (code spec) says what is wrong with it."""
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=TransferSpec)
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}", code="spec") from error
    except NOT_UNDERSTOOD as error:
        raise PermanentError(f"{path} is not a transfer spec: {error}", code="spec") from error
    names = [disk.id for disk in spec.disks]
    targets = [disk.target.path for disk in spec.disks]
    for what, values in (("disk id", names), ("target", targets)):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise PermanentError(f"{path}: {what} {twice[0]!r} is there twice", code="spec")
    if not names or "" in names or any(disk.size_bytes <= 0 for disk in spec.disks):
        raise PermanentError(f"{path}: every transfer needs disks with an id and a size", code="spec")
    check_limits(spec)
    for disk in spec.disks:
        check_delta(disk)
    return spec


def transfer(
    spec: TransferSpec, events: Events, halt: Halt, *, takeover_wait_s: float = 30.0, metrics: str = ""
) -> TransferResult:
    """Copy all disks. Never raises for a failed copy: the result says what failed; the journals keep the rest.

    `metrics` is where a Prometheus page of the progress is served (see `MetricsServer`; empty: nowhere).
    """
    work_dir = Path(spec.work_dir)
    try:
        with work_lock(work_dir, spec.epoch, takeover_wait_s=takeover_wait_s) as lock:
            result = _Transfer(spec, events, halt, lock).run(metrics)
            try:
                lock.check()
                write_result(work_dir / RESULT_NAME, result)
            except MtvError as error:
                events.error(failure_of(error))
                if result.ok:
                    result = TransferResult(ok=False, disks=result.disks, failure=failure_of(error))
    except MtvError as error:
        failure = failure_of(error)
        events.error(failure)
        result = TransferResult(ok=False, failure=failure)
    return result


def write_result(path: Path, result: msgspec.Struct) -> None:
    """Put the full result on the work volume, whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(result)))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, where="work-volume", what=f"write {path}") from error


class _Transfer:
    def __init__(self, spec: TransferSpec, events: Events, halt: Halt, lock: WorkLock) -> None:
        self.spec = spec
        self.events = events
        self.halt = halt
        self.lock = lock
        self.controls = Controls(Path(spec.credentials_dir), halt)
        self.meters = {disk.id: DiskMeter(disk.id) for disk in spec.disks}
        self.results: dict[str, DiskResult] = {}
        self.failures: dict[str, Failure] = {}
        self.governor = governor_of(spec, events.log)
        # Every disk under way holds a connection, so there are no more of them than there may be connections.
        disks_at_once = max(1, min(DISKS_AT_ONCE, len(spec.disks), spec.connections))
        self.budget = Budget(disks_at_once=disks_at_once, connections=spec.connections, bucket=self.governor.bucket)
        self._at_once = threading.Semaphore(disks_at_once)

    def run(self, metrics: str) -> TransferResult:
        crew = Crew(self.halt)
        try:
            with self._metrics(metrics), self.governor, Reporter(self.events, list(self.meters.values())):
                for disk in self.spec.disks:
                    crew.start(f"disk-{disk.id}", lambda disk=disk: self._run_disk(disk))  # type: ignore[misc]
                crew.join()
        finally:
            self.controls.close(well=not self.failures)
        done = tuple(self.results[disk.id] for disk in self.spec.disks if disk.id in self.results)
        failures = sorted(self.failures.values(), key=lambda failure: _TOLD_FIRST.index(exit_code_of(failure)))
        return TransferResult(ok=not failures, disks=done, failure=failures[0] if failures else None)

    def _metrics(self, where: str) -> AbstractContextManager[object]:
        if not where:
            return nullcontext()
        from mover.metrics import MetricsServer  # an HTTP server takes a while to load, and few ask for it

        return MetricsServer(where, lambda: [meter.reading() for meter in self.meters.values()])

    def _run_disk(self, disk: DiskTransfer) -> None:
        with self._at_once:
            try:
                self.results[disk.id] = self._copy(disk)
            except Exception as error:  # noqa: BLE001 - one bad disk must not lose the others' work; it is reported
                failure = failure_of(error, disk=disk.id)
                self.failures[disk.id] = failure
                self.meters[disk.id].enter("failed")
                self.events.error(failure)

    def _copy(self, disk: DiskTransfer) -> DiskResult:
        if self.halt.is_set():  # it has waited for its turn
            raise stopped(f"disk {disk.id}")
        source = self._open_source(disk)
        try:
            target = open_target(disk.target, disk.size_bytes)
            try:
                if not target.is_direct:
                    self.events.log(
                        f"{target.path} does not take O_DIRECT: written through the page cache", disk=disk.id
                    )
                copy = DiskCopy(
                    disk,
                    source,
                    target,
                    journal_path=journal_path(Path(self.spec.work_dir), disk.id),
                    lock=self.lock,
                    verify=self.spec.verify,
                    verify_source=self.spec.verify_source,
                    meter=self.meters[disk.id],
                    say=lambda message: self.events.log(message, disk=disk.id),
                    halt=self.halt,
                    budget=self.budget,
                )
                return copy.run()
            finally:
                target.close()
        finally:
            source.close()

    def _open_source(self, disk: DiskTransfer) -> Source:
        patience = Patience(self.halt, lambda message: self.events.log(message, disk=disk.id))
        return patience.persist(lambda: open_source(disk, self.controls))
