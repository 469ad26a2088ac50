"""One conversion from spec to result: overlay, virt-v2v, journalled commit, digests of what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mover.convert import accelerator, domain, failures, overlay, virt_v2v
from mtv.model.transfer import ConvertDisk, ConvertResult, ConvertSpec, Progress

LOG = "convert.log"
Emit = Callable[[Progress], None]
Digest = Callable[[ConvertDisk], str]


def convert(
    spec: ConvertSpec,
    *,
    emit: Emit,
    say: Callable[[str], None],
    digest: Digest,
    environ: Mapping[str, str] = os.environ,
) -> ConvertResult:
    """Convert the guest on `spec.disks` so that it boots on virtio; the caller holds the work volume's lock.

    `digest` computes a disk's root digest. A failed conversion leaves every disk as it was copied. A crash after the
    commit began is finished by the next call (`resumed_commit`); a finished one is answered from its journal. A journal
    of other copies (the disks were copied again since) counts for nothing.
    """
    work = Path(spec.work_dir)
    started = time.monotonic()
    journal = overlay.read_journal(work)
    if journal and journal.copies != _copies(spec):
        say("the work volume holds the journal of another copy of these disks; it says nothing about this one")
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
        result = _convert_on_overlay(spec, work, emit=emit, say=say, environ=environ)
        if not result.ok:
            overlay.discard(work, spec.disks)
            return result
        overlay.write_journal(work, _journal("commit_started", spec, result))
    emit(Progress(phase="commit", percent=0))
    overlay.commit(work, spec.disks)
    emit(Progress(phase="commit", percent=50))
    result = msgspec.structs.replace(
        result,
        digests={disk.id: digest(disk) for disk in spec.disks},
        resumed_commit=resumed,
        seconds=round(time.monotonic() - started, 3),
    )
    overlay.write_journal(work, _journal("committed", spec, result))
    overlay.discard(work, spec.disks)
    emit(Progress(phase="done", percent=100))
    return result


def _convert_on_overlay(
    spec: ConvertSpec, work: Path, *, emit: Emit, say: Callable[[str], None], environ: Mapping[str, str]
) -> ConvertResult:
    chosen, why = accelerator.probe(environ)
    say(f"conversion runs on {chosen.upper()}: {why}")
    if chosen == "tcg":
        say("WARNING: without KVM the appliance is emulated; a conversion takes about ten times as long")
    emit(Progress(phase="overlay", percent=0))
    overlays = overlay.create(work, spec.disks)
    xml = work / "domain.xml"
    xml.write_text(domain.domain_xml(spec.vm, overlays, firmware=spec.firmware), encoding="utf-8")
    scratch = work / "tmp"
    scratch.mkdir(exist_ok=True)
    env = dict(environ) | {"TMPDIR": str(scratch), "LIBGUESTFS_BACKEND": "direct"}
    if chosen == "tcg":
        env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"

    def on_message(message: virt_v2v.Message) -> None:
        if message.type != "message":
            say(f"virt-v2v {message.type}: {message.message}")
        if reached := virt_v2v.phase_of(message.message):
            emit(Progress(phase=reached[0], percent=reached[1]))

    root = ["--root", spec.root_disk] if spec.root_disk else []
    argv = ["virt-v2v-in-place", "-i", "libvirtxml", *root, "--", str(xml)]
    started = time.monotonic()
    report = virt_v2v.run(argv, env=env, log=work / LOG, on_message=on_message)
    seconds = round(time.monotonic() - started, 3)
    if report.exit_code:
        failure = failures.explain(list(report.errors), exit_code=report.exit_code)
        return ConvertResult(ok=False, accelerator=chosen, seconds=seconds, warnings=report.warnings, failure=failure)
    overlay.make_durable(overlays)
    facts = report.facts
    distro = facts.get("i_distro", "")
    version = ".".join(v for v in (facts.get("i_major_version"), facts.get("i_minor_version")) if v)
    return ConvertResult(
        ok=True,
        os_name=f"{distro} {version}".strip() if distro else facts.get("i_product_name", ""),
        os_id=facts.get("i_osinfo", ""),
        # The guest's own firmware as inspected; it must agree with the firmware the target VM gets.
        firmware=facts.get("i_firmware", "").lower(),
        drivers=tuple(facts[name] for name in ("gcaps_block_bus", "gcaps_net_bus") if facts.get(name)),
        warnings=report.warnings,
        accelerator=chosen,
        seconds=seconds,
    )


def _journal(state: str, spec: ConvertSpec, result: ConvertResult) -> overlay.Commit:
    return overlay.Commit(state=state, copies=_copies(spec), result=result)


def _copies(spec: ConvertSpec) -> dict[str, str]:
    return {disk.id: disk.digest for disk in spec.disks}
