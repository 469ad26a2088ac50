"""What the demo says at the end: a table of evidence, one row per disk, and whether the guest's own sums agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.table import Table

from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.transfer import TransferResult
from mtv.store import Store

PAYLOAD = re.compile(r"^MTV-PAYLOAD (?P<sha256>[0-9a-f]{64}) (?P<path>\S+)")


@dataclass(frozen=True)
class VmSummary:
    """One VM as the evidence shows it. `payload` is (files whose sums agree, files expected)."""

    name: str
    outcome: str
    transfer: TransferResult | None
    seconds: float
    boot: str
    boot_proven: bool
    payload: tuple[int, int]

    @property
    def is_proven(self) -> bool:
        """Migrated, every disk verified, booted, and every payload file as it was on the source."""
        copied = self.transfer is not None and self.transfer.ok and bool(self.transfer.disks)
        return self.outcome == "migrated" and copied and self.boot_proven and self.payload[0] == self.payload[1] > 0


def run_of_each(store: Store, run_id: str) -> dict[str, str]:
    """Return the VMs of the run's plan that it moved, or if it found all of them migrated those that others had moved,
    each with the id of that run.
    """
    run = store.run(run_id)
    if run.frozen_vms:
        return dict.fromkeys(run.frozen_vms, run_id)
    return {row.vm_id: row.last_run for row in store.vms(run.plan_name) if row.phase is VmPhase.MIGRATED}


def summarise(store: Store, runs: Mapping[str, str], payloads: Mapping[str, Mapping[str, str]]) -> list[VmSummary]:
    """Read the evidence that runs have of VMs, as `run_of_each` names them.

    `payloads` is VM name → path in the guest → SHA-256, as the guests were made.
    """
    found = []
    for vm_id, run_id in runs.items():
        steps = store.steps(run_id)
        evidence: dict[EvidenceKind, dict[str, Any]] = {e.kind: e.document for e in store.evidence(run_id, vm_id)}
        transfer = evidence.get(EvidenceKind.TRANSFER)
        boot = evidence.get(EvidenceKind.BOOT, {})
        found.append(
            VmSummary(
                name=str(evidence.get(EvidenceKind.SOURCE, {}).get("name", vm_id)),
                outcome=str(evidence.get(EvidenceKind.SETTLED, {}).get("outcome", "unknown")),
                transfer=msgspec.convert(transfer, TransferResult) if transfer else None,
                seconds=sum(step.seconds or 0 for step in steps if step.vm_id == vm_id),
                boot=str(boot.get("marker") or "not proven"),
                boot_proven=bool(boot.get("proven")),
                payload=_agreeing(boot.get("lines", []), payloads.get(vm_id, {})),
            )
        )
    return found


def table(summaries: list[VmSummary]) -> Table:
    """Return the closing table."""
    shown = Table(title="What moved, and how it is proven", title_justify="left", expand=False)
    for heading in ("VM", "outcome", "disk", "size", "data read", "digest", "proof", "time", "boot proof"):
        shown.add_column(
            heading, overflow="fold", justify="right" if heading in {"size", "data read", "time"} else "left"
        )
    for vm in summaries:
        good, expected = vm.payload
        proof = f"{vm.boot}\n{good} of {expected} payload sums agree"
        disks = vm.transfer.disks if vm.transfer else ()
        for n, disk in enumerate(disks or (None,)):
            first = n == 0
            shown.add_row(
                vm.name if first else "",
                vm.outcome if first else "",
                disk.id if disk else "-",
                _mebibytes(disk.size_bytes) if disk else "-",
                _mebibytes(disk.bytes_read) if disk else "-",
                f"{disk.digest[:16]}…" if disk and disk.digest else "-",
                str(disk.proof) if disk else "-",
                f"{vm.seconds:.0f} s" if first else "",
                proof if first else "",
                end_section=n == len(disks) - 1,
            )
    return shown


def _agreeing(lines: list[str], expected: Mapping[str, str]) -> tuple[int, int]:
    seen = {match["path"]: match["sha256"] for line in lines if (match := PAYLOAD.match(line.strip()))}
    return sum(seen.get(path) == digest for path, digest in expected.items()), len(expected)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
