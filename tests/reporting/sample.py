"""Evidence as a wave leaves it. `python -m tests.reporting.sample FOLDER` writes its report, to be looked at."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from sqlalchemy import update

from mtv.model.concern import Category, Concern
from mtv.model.conversion import ConvertResult
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import NetworkTarget, Plan, PlannedVm, Source, StorageTarget, Target, Wave
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceNic, SourceVm
from mtv.model.transfer import DiskResult, Failure, Proof, TransferResult, Verify
from mtv.reporting import write_report
from mtv.store import Store
from mtv.store.tables import RunRecord, StepRecord

MIB, GIB = 1024**2, 1024**3
BEGIN = datetime(2026, 11, 25, 22, 4, 11, tzinfo=UTC)
STEPS = (("prepare", 21), ("transfer", 48), ("convert", 96), ("create_vm", 4), ("verify", 31), ("settle", 3))


def fill(store: Store) -> str:
    """Fill the store with one finished run and return its id."""
    vms = (
        PlannedVm(id="web-1", name="web-1"),
        PlannedVm(id="db-1", name="db-1"),
        PlannedVm(id="app-1", name="app-1", source="lab-ova"),
        PlannedVm(id="billing-frontend-production", name="Billing Frontend (production) <b>&co", target_name="billing"),
        PlannedVm(id="gpu-1", name="gpu-1"),
        PlannedVm(id="late-1", name="late-1"),
    )
    plan = Plan(
        name="01-first-wave",
        description="Two VMs from a vCenter and one from an OVA, each proven to boot on the target.",
        source=Source(connection="lab-vcenter"),
        target=Target(connection="lab-cluster", namespace="demo"),
        network_map={"VM Network": NetworkTarget()},
        storage_map={"*": StorageTarget(storage_class="lab-fs")},
        waves=(Wave(name="first", vms=vms),),
    )
    run = store.start_run(
        plan_hash=store.put_plan(plan), plan_name=plan.name, wave="first",
        dag_id="mtv.01-first-wave.first", dag_run_id="manual__2026-11-25T22:04:09+00:00",
    )  # fmt: skip
    store.freeze_vms(run.id, [vm.id for vm in vms])
    _migrated(store, run.id, "web-1", (2 * GIB, 512 * MIB), power=PowerState.ON, resumed=96 * MIB)
    _migrated(store, run.id, "db-1", (GIB,), power=PowerState.OFF)
    _migrated(store, run.id, "app-1", (GIB,), power=PowerState.OFF, provider="ova", proof=Proof.SOURCE_CHECKED)
    _rolled_back(store, run.id, "billing-frontend-production")
    _blocked(store, run.id, "gpu-1")
    store.finish_run(run.id, "failed")
    with store._writing() as session:  # the sample's times are told, not waited for
        session.execute(
            update(RunRecord).values(started_at=BEGIN - timedelta(seconds=9), finished_at=BEGIN + timedelta(minutes=6))
        )
    return run.id


def _digest(text: str) -> str:
    return blake3(text.encode()).hexdigest()


def _source(name: str, sizes: tuple[int, ...], power: PowerState, provider: str = "vsphere") -> SourceVm:
    return SourceVm(
        provider=provider, id="vm-42", name=name, uuid="42", power=power, cpu_count=2, cores_per_socket=1,
        memory_bytes=512 * MIB, firmware=Firmware.BIOS, guest_os="debian12_64Guest",
        host="esx-1.dc1" if provider == "vsphere" else "",
        disks=tuple(
            SourceDisk(id=f"disk-{2000 + n}", index=n, size_bytes=size, bus="scsi", identity="i", generation="g",
                       storage="ds-gold" if n == 0 else "ds-silver")
            for n, size in enumerate(sizes)
        ),
        nics=(SourceNic(index=0, network="VM Network", mac="00:50:56:00:00:01"),),
    )  # fmt: skip


def _see(store: Store, run_id: str, vm_id: str, kind: EvidenceKind, document: Any, subject: str = "") -> None:
    store.add_evidence(run_id, vm_id, kind, msgspec.to_builtins(document), subject=subject)


def _steps(store: Store, run_id: str, vm_id: str, upto: int = 6, failed: str = "", error: str = "") -> None:
    moment = BEGIN + timedelta(seconds=len(vm_id))
    for step, seconds in STEPS:
        if STEPS.index((step, seconds)) >= upto and step != "settle":
            continue
        number = store.begin_step(run_id, vm_id, step)
        store.end_step(number, state="failed" if step == failed else "success", error=error if step == failed else "")
        with store._writing() as session:
            session.execute(
                update(StepRecord)
                .where(StepRecord.id == number)
                .values(started_at=moment, finished_at=moment + timedelta(seconds=seconds))
            )
        moment += timedelta(seconds=seconds + 1)


def _copied(
    store: Store, run_id: str, vm: SourceVm, *, resumed: int = 0, proof: Proof = Proof.AS_READ
) -> tuple[DiskResult, ...]:
    claims = [
        {"disk": d.id, "name": f"mtv-{vm.name[:7].lower()}-{d.index}", "size_bytes": d.size_bytes,
         "class": "lab-block" if d.index == 0 else "lab-fs", "mode": "Block" if d.index == 0 else "Filesystem"}
        for d in vm.disks
    ]  # fmt: skip
    results = tuple(
        DiskResult(
            id=d.id, size_bytes=d.size_bytes, bytes_data=d.size_bytes // 3, bytes_read=d.size_bytes // 3 - resumed,
            bytes_resumed=resumed, digest=_digest(d.id + vm.name), proof=proof, seconds=14.2 + d.index,
            verify=Verify.OFF if proof is Proof.NONE else Verify.FULL, reread=vm.name == "db-1",
        )
        for d in vm.disks
    )  # fmt: skip
    vm_id = next(row.id for row in store.plan(store.run(run_id).plan_hash).waves[0].vms if row.name == vm.name)
    _see(store, run_id, vm_id, EvidenceKind.SOURCE, vm)
    _see(store, run_id, vm_id, EvidenceKind.VOLUMES, {"claims": claims, "work": "mtv-work"})
    _see(store, run_id, vm_id, EvidenceKind.TRANSFER, TransferResult(ok=True, disks=results))
    return results


def _migrated(
    store: Store, run_id: str, vm_id: str, sizes: tuple[int, ...], *, power: PowerState, provider: str = "vsphere",
    resumed: int = 0, proof: Proof = Proof.AS_READ,
) -> None:  # fmt: skip
    vm = _source(vm_id, sizes, power, provider)
    store.claim_vm("01-first-wave", vm_id, run_id)
    if power is PowerState.ON:
        concern = Concern(
            id="vmware.changed_block_tracking.disabled", category=Category.WARNING,
            label="Changed Block Tracking (CBT) not enabled",
            assessment="Warm migration needs changed block tracking. A cold migration does not mind.",
        )  # fmt: skip
        _see(store, run_id, vm_id, EvidenceKind.CONCERNS, {"concerns": [concern]})
        store.record_source_change(run_id, vm_id, "power", {"before": "on", "connection": "lab-vcenter"})
    results = _copied(store, run_id, vm, resumed=resumed, proof=proof)
    method = "guest shutdown" if power is PowerState.ON else "already off"
    _see(
        store,
        run_id,
        vm_id,
        EvidenceKind.POWER,
        {"before": power, "method": method, "seconds": 11.4 if power is PowerState.ON else 0.0},
    )
    _see(
        store, run_id, vm_id, EvidenceKind.CONVERSION,
        ConvertResult(
            ok=True, os_name="Debian GNU/Linux 12 (bookworm)", os_id="debian12", firmware="bios",
            drivers=("virtio_blk", "virtio_net"), accelerator="tcg", seconds=91.7,
            warnings=("no QEMU guest agent could be installed: no network in the appliance",),
            digests={result.id: _digest(result.id + "converted" + vm_id) for result in results},
        ),
    )  # fmt: skip
    strategy = "Always" if power is PowerState.ON else "Halted"
    _see(
        store, run_id, vm_id, EvidenceKind.TARGET_VM,
        {"name": vm_id, "namespace": "demo", "uid": "6f1b", "run_strategy": strategy},
    )  # fmt: skip
    payload = f"MTV-PAYLOAD {_digest(vm_id)} /data/payload-1"
    marker = f"MTV-BOOT-OK {vm_id} disk-driver=virtio_blk nic=virtio_net mac=00:50:56:00:00:01"
    lines = [
        "[    1.204] virtio_blk virtio2: [vda] 4194304 512-byte logical blocks",
        payload,
        marker,
        f"{vm_id} login:",
    ]
    _see(
        store, run_id, vm_id, EvidenceKind.BOOT,
        {"proven": True, "how": "console marker", "marker": marker, "lines": lines, "seconds": 23.8},
    )  # fmt: skip
    removed = ["2 pods", "2 Secrets", "work claim"]
    settled = {"outcome": "migrated", "removed": removed, "source_power": "off"}
    _see(store, run_id, vm_id, EvidenceKind.SETTLED, settled)
    _steps(store, run_id, vm_id)
    store.release_vm("01-first-wave", vm_id, run_id, VmPhase.MIGRATED)


def _rolled_back(store: Store, run_id: str, vm_id: str) -> None:
    vm = _source("Billing Frontend (production) <b>&co", (40 * GIB,), PowerState.ON)
    store.claim_vm("01-first-wave", vm_id, run_id)
    change = store.record_source_change(run_id, vm_id, "power", {"before": "on", "connection": "lab-vcenter"})
    _copied(store, run_id, vm)
    message = "virt-v2v could not make the guest bootable: no space left on device (3 of 100 MiB free in /)"
    cure = "free space in the guest's root file system, then start a new run"
    failure = Failure(code="guest-root-full", message=message, cure=cure)
    _see(store, run_id, vm_id, EvidenceKind.FAILURE, {"step": "convert", **msgspec.to_builtins(failure)}, "convert")
    store.undo_source_change(change)
    settled = {"outcome": "rolled back", "removed": ["2 pods"], "source_power": "on"}
    _see(store, run_id, vm_id, EvidenceKind.SETTLED, settled)
    _steps(store, run_id, vm_id, upto=3, failed="convert", error=message)
    store.release_vm("01-first-wave", vm_id, run_id, VmPhase.FAILED)


def _blocked(store: Store, run_id: str, vm_id: str) -> None:
    store.claim_vm("01-first-wave", vm_id, run_id)
    _see(store, run_id, vm_id, EvidenceKind.SOURCE, _source(vm_id, (GIB,), PowerState.ON))
    concern = Concern(
        id="vmware.passthrough_device.detected", category=Category.CRITICAL, label="Passthrough device detected",
        assessment="The VM uses a passthrough device (GPU). It cannot be migrated before the device is removed.",
    )  # fmt: skip
    _see(store, run_id, vm_id, EvidenceKind.CONCERNS, {"concerns": [concern]})
    _see(store, run_id, vm_id, EvidenceKind.SETTLED, {"outcome": "blocked", "removed": [], "source_power": "on"})
    store.release_vm("01-first-wave", vm_id, run_id, VmPhase.BLOCKED)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with Store.open(f"sqlite:///{target / 'sample.sqlite'}") as sample:
        sample.upgrade()
        print(write_report(sample, fill(sample), target).html)
