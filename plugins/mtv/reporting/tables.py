"""The report as CSV (one row for each disk) and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import msgspec

from mtv.reporting.facts import DiskFacts, RunFacts, VmFacts

COLUMNS = (
    "run", "plan", "wave", "vm", "outcome", "source", "target", "vm_seconds", "boot_proven", "boot_line",
    "disk", "size_bytes", "data_bytes", "read_bytes", "resumed_bytes", "digest", "proof", "verify", "reread",
    "converted_digest", "disk_seconds", "claim", "storage_class", "volume_mode", "concerns", "failure", "cure",
)  # fmt: skip
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_json(facts: RunFacts) -> bytes:
    """Return the whole report as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"


def as_csv(facts: RunFacts) -> str:
    """Return one row for each disk, and one for a VM without disks. Text that a spreadsheet would run is quoted."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for vm in facts.vms:
        for disk in vm.disks or (None,):
            row = {**_vm_cells(facts, vm), **(_disk_cells(disk) if disk else {})}
            writer.writerow({column: _inert(value) for column, value in row.items()})
    return out.getvalue()


def _vm_cells(facts: RunFacts, vm: VmFacts) -> dict[str, object]:
    boot = vm.boot or {}
    # The newest failure of a step counts; one of settle only when there is no other: it is seldom the cause.
    failures = [failure for failure in vm.failures if failure.step != "settle"] or vm.failures
    failure = failures[-1] if failures else None
    return {
        "run": facts.run_id,
        "plan": facts.plan_name,
        "wave": facts.wave,
        "vm": vm.name,
        "outcome": vm.outcome,
        "source": vm.source_connection,
        "target": f"{vm.namespace}/{vm.target_name}",
        "vm_seconds": vm.seconds,
        "boot_proven": boot.get("proven"),
        "boot_line": boot.get("marker", ""),
        "concerns": "; ".join(map(_concern, vm.concerns)),
        "failure": failure.message if failure else "",
        "cure": failure.cure if failure else "",
    }


def _concern(concern: Mapping[str, Any]) -> str:
    accepted = concern.get("accepted")
    by = f" (accepted by {accepted.get('by')}: {accepted.get('reason')})" if accepted else ""
    return f"{concern.get('category')}: {concern.get('label')}{by}"


def _disk_cells(disk: DiskFacts) -> dict[str, object]:
    return {
        "disk": disk.id,
        "size_bytes": disk.size_bytes,
        "data_bytes": disk.data_bytes,
        "read_bytes": disk.read_bytes,
        "resumed_bytes": disk.resumed_bytes,
        "digest": disk.digest,
        "proof": disk.proof,
        "verify": disk.verify,
        "reread": disk.reread,
        "converted_digest": disk.converted_digest,
        "disk_seconds": disk.seconds,
        "claim": disk.claim,
        "storage_class": disk.storage_class,
        "volume_mode": disk.volume_mode,
    }


def _inert(value: object) -> object:
    """VM names and messages come from elsewhere; a spreadsheet must not take them for formulas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
