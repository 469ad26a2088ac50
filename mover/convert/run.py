"""One conversion from spec to result: overlay, preparation, virt-v2v, journalled commit, digests of what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mover.command_options import JOURNAL_SUFFIX
from mover.convert import (
    accelerator,
    domain,
    failures,
    guest,
    hazards,
    log_inspection,
    overlay,
    scripts,
    space,
    virt_v2v,
    virtio_win,
    warnings,
)
from mover.convert.guest import Answer, Drive, Key, Request
from mover.convert.volumes import Volume, root_device
from mover.failure import Interrupted, failure_of, storage_error
from mover.halt import Halt
from mover.journal import is_believed, journal_path, spoil
from mtv.model.conversion import ConvertDisk, ConvertResult, ConvertSpec, Notice
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import Progress

LOG = "convert.log"
Emit = Callable[[Progress], None]
Digest = Callable[[ConvertDisk], str]


def convert(
    spec: ConvertSpec,
    *,
    emit: Emit,
    say: Callable[[str], None],
    digest: Digest,
    halt: Halt | None = None,
    environ: Mapping[str, str] = os.environ,
    check_lock: Callable[[], None] = lambda: None,
) -> ConvertResult:
    """Convert the guest on `spec.disks` so that it boots on virtio; the caller holds the work volume's lock.

    `check_lock` raises when a newer mover has the volume: what lies on it is no longer ours then. It is asked before
    anything is put in place, committed or thrown away.

    `digest` computes a disk's root digest. A failed conversion leaves every disk as it was copied. A crash after the
    commit began is finished by the next call (`resumed_commit`); a finished one is answered from its journal. A journal
    of other copies (the disks were copied again since) counts for nothing. `halt` stops it until the commit has begun.
    From then on the journals of the copies on the work volume prove nothing any more. They are spoiled before the first
    byte of a commit, so one that is not spoiled belongs to a newer copy, or to a commit that has not touched the disks.

    Whatever fails until the commit begins is a result, `untouched`; from then on it is raised (`MtvError`).
    Storage that fails has the codes of `storage_error`.
    """
    work = Path(spec.work_dir)
    started = time.monotonic()
    with _storage_named(work):
        journal = overlay.read_journal(work)
        if journal and (journal.copies != _copies(spec) or any(is_believed(path) for path in _copy_journals(spec))):
            say("the commit journal is of another copy of these disks, or of a commit that wrote nothing")
            journal = None
        if journal and journal.state == "committed":
            say("this conversion is already committed; nothing is done again")
            overlay.discard(work, spec.disks)
            return journal.result
        resumed = journal is not None
        if journal:
            say("a commit was cut off earlier: finishing it from the same overlays")
            result = journal.result
        else:
            conversion = _Conversion(spec, emit=emit, say=say, halt=halt or Halt(), environ=environ)
            result = _until_commit(conversion, check_lock)
            if not result.ok:
                return msgspec.structs.replace(result, untouched=True, seconds=round(time.monotonic() - started, 3))
        emit(Progress(phase="commit", percent=0))
        for path in _copy_journals(spec):
            spoil(path, "its target was converted since", check_lock=check_lock)
        overlay.commit(work, spec.disks, check_lock=check_lock)
        emit(Progress(phase="commit", percent=50))
        result = msgspec.structs.replace(
            result,
            digests={disk.id: digest(disk) for disk in spec.disks},
            resumed_commit=resumed,
            seconds=round(time.monotonic() - started, 3),
        )
        check_lock()
        overlay.write_journal(work, _journal("committed", spec, result))
        overlay.discard(work, spec.disks)
        emit(Progress(phase="done", percent=100))
        return result


def _until_commit(conversion: _Conversion, check_lock: Callable[[], None]) -> ConvertResult:
    """Convert on overlays and say in the journal that the commit begins. After a failure nothing of either is left."""
    work, spec = conversion.work, conversion.spec
    try:
        with _storage_named(work):
            result = conversion.run()
    except MtvError as error:
        result = ConvertResult(ok=False, failure=failure_of(error))
    check_lock()
    if result.ok:
        try:
            overlay.write_journal(work, _journal("commit_started", spec, result))
        except OSError as error:
            overlay.take_back(work)  # it may be there, and the overlays that it asks for go
            result = ConvertResult(ok=False, failure=failure_of(_storage_failure(error, work)))
    if not result.ok:
        try:
            overlay.discard(work, spec.disks)
        except OSError as error:
            conversion.say(f"the overlays are left on the work volume: {error}")
    return result


@contextmanager
def _storage_named(work: Path) -> Iterator[None]:
    """Raise an `OSError` that nobody below named as one of the work volume: disks are named where they fail."""
    try:
        yield
    except OSError as error:
        raise _storage_failure(error, work) from error


def _storage_failure(error: OSError, work: Path) -> MtvError:
    return storage_error(error, where="work-volume", what=str(error.filename or work))


class _Conversion:
    """Everything before the commit: may fail or be stopped at any point without a trace on the disks."""

    def __init__(
        self,
        spec: ConvertSpec,
        *,
        emit: Emit,
        say: Callable[[str], None],
        halt: Halt,
        environ: Mapping[str, str],
    ) -> None:
        self.spec = spec
        self.work = Path(spec.work_dir)
        self.emit = emit
        self.say = say
        self.halt = halt
        self.environ = environ
        self.deadline = time.monotonic() + spec.timeout_s
        self.env: dict[str, str] = {}
        self.notices: list[Notice] = []

    def run(self) -> ConvertResult:
        spec, work = self.spec, self.work
        overlay.discard(work, spec.disks)
        space.require_room(work, spec.disks)
        scripts.sorted_scripts(spec.scripts)  # a wrong name fails here, not after an appliance has started
        found, notices = hazards.volumes(Path(disk.path) for disk in spec.disks)
        self.notices += notices
        keys = hazards.keys_for(spec.luks_keys, Path(spec.credentials_dir), found)
        chosen, why = accelerator.probe(self.environ)
        self.say(f"conversion runs on {chosen.upper()}: {why}")
        if chosen == "tcg":
            self.say("WARNING: without KVM the appliance is emulated; a conversion takes about ten times as long")
        scratch = work / "tmp"
        scratch.mkdir(exist_ok=True)
        self.env = accelerator.environment(self.environ, chosen, scratch=scratch, memory_mb=spec.memory_mb)
        self.emit(Progress(phase="overlay", percent=0))
        overlays = overlay.create(work, spec.disks)
        looked = self._prepare(overlays, keys, found)
        if looked and looked.failure:
            return self._result(chosen, looked, failure=looked.failure)
        report = self._virt_v2v(overlays, keys, root_device(spec.root_disk, found))
        for notice in warnings.notices_of(report.warnings):
            if notice not in self.notices:
                self.notices.append(notice)
        if report.exit_code:
            if self.halt.is_set():
                raise Interrupted("told to stop during the conversion; the disks are as they were", code="interrupted")
            failure = (
                failures.timed_out("the conversion", spec.timeout_s)
                if report.timed_out
                else failures.explain(report.errors, exit_code=report.exit_code)
            )
            return self._result(chosen, looked, failure=failure)
        overlay.make_durable(overlays)
        facts = report.facts
        distro, version = facts.get("i_distro", ""), log_inspection.version_of(facts)
        return msgspec.structs.replace(
            self._result(chosen, looked),
            ok=True,
            os_name=f"{distro} {version}".strip() if distro else facts.get("i_product_name", ""),
            os_id=facts.get("i_osinfo", ""),
            # The guest's own firmware as inspected; it must agree with the firmware the target VM gets.
            firmware=facts.get("i_firmware", "").lower(),
            drivers=tuple(facts[name] for name in ("gcaps_block_bus", "gcaps_net_bus") if facts.get(name)),
            inspection=(looked and looked.inspection) or log_inspection.inspection_of(facts, work / LOG),
        )

    def _prepare(self, overlays: list[Path], keys: tuple[Key, ...], found: tuple[Volume, ...]) -> Answer | None:
        """Look into the guest and put into it what must be there before virt-v2v, if anything asks for that."""
        spec = self.spec
        may_be_windows = any(volume.kind == "ntfs" for volume in found)
        if not (spec.inspect or spec.scripts or may_be_windows or any(nic.addresses for nic in spec.nics)):
            return None
        self.emit(Progress(phase="inspect", percent=0))
        request = Request(
            drives=tuple(Drive(path=str(path), format="qcow2") for path in overlays),
            write=True,
            root_disk=spec.root_disk,
            keys=keys,
            nics=spec.nics,
            scripts=spec.scripts,
            volumes=found,
            memory_mb=spec.memory_mb,
        )
        limit = min(guest.TIMEOUT_S, self._time_left())
        answer = guest.visit(request, env=self.env, log=self.work / guest.LOG, timeout_s=limit, halt=self.halt)
        self.notices += answer.notices
        for path in answer.written:
            self.say(f"put into the guest: {path}")
        if answer.inspection and answer.inspection.type == "windows" and not answer.failure:
            self.notices += virtio_win.check(answer.inspection, wanted=spec.virtio_win, environ=self.environ)
            drivers = virtio_win.source(spec.virtio_win, self.environ)
            self.env[virtio_win.ENVIRONMENT] = str(drivers)
        return answer

    def _virt_v2v(self, overlays: list[Path], keys: tuple[Key, ...], root: str) -> virt_v2v.Report:
        spec = self.spec
        xml = self.work / "domain.xml"
        xml.write_text(domain.domain_xml(spec.vm, overlays, firmware=spec.firmware), encoding="utf-8")

        def on_message(message: virt_v2v.Message) -> None:
            if message.type != "message":
                self.say(f"virt-v2v {message.type}: {message.message}")
            if reached := virt_v2v.phase_of(message.message):
                self.emit(Progress(phase=reached[0], percent=reached[1]))

        argv = ["virt-v2v-in-place", "-i", "libvirtxml", "--root", root or "single"]
        for key in keys:
            argv += ["--key", f"{key.device}:file:{key.path}"]
        return virt_v2v.run(
            [*argv, "--", str(xml)],
            env=self.env,
            log=self.work / LOG,
            on_message=on_message,
            timeout_s=self._time_left(),
            halt=self.halt,
        )

    def _time_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            failure = failures.timed_out("the conversion", self.spec.timeout_s)
            raise PermanentError(failure.message, cure=failure.cure, code=failure.code)
        return left

    def _result(self, chosen: str, looked: Answer | None, **changes: object) -> ConvertResult:
        result = ConvertResult(
            ok=False,
            accelerator=chosen,
            warnings=tuple(warnings.sentence(notice) for notice in self.notices),
            notices=tuple(self.notices),
            inspection=looked.inspection if looked else None,
        )
        return msgspec.structs.replace(result, **changes)


def _journal(state: str, spec: ConvertSpec, result: ConvertResult) -> overlay.Commit:
    return overlay.Commit(state=state, copies=_copies(spec), result=result)


def _copies(spec: ConvertSpec) -> dict[str, str]:
    return {disk.id: disk.digest for disk in spec.disks}


def _copy_journals(spec: ConvertSpec) -> Iterator[Path]:
    """Where the journals of the disks' copies are, if there are any: a transfer's, and that of a copy by hand."""
    for disk in spec.disks:
        yield journal_path(Path(spec.work_dir), disk.id)
        yield Path(f"{disk.path}{JOURNAL_SUFFIX}")
