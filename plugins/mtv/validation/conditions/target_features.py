"""What VMs need of KubeVirt that its object on the target must have switched on: feature gates and configuration.

A gate that has become a part of KubeVirt needs no word in the list any more; `since` is the release from which that is
so. Secure boot and UEFI need no gate: the machine asks for them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from mtv.model.condition import Condition
from mtv.model.source import SourceVm
from mtv.model.target_facts import KubeVirt, TargetFacts, known
from mtv.validation.conditions.case import Case, critical, rows_of, warning

_PASSED_THROUGH = ("VirtualPCIPassthrough", "VirtualUSBPassthrough")


class _Need(msgspec.Struct, frozen=True, kw_only=True):
    """A feature gate, the VMs that need it, and what follows where it is off."""

    gate: str
    since: tuple[int, int] | None = None
    applies: Callable[[SourceVm], bool]
    what: str
    cure: str
    blocks: bool = False


def _has_host_devices(seen: SourceVm) -> bool:
    kinds = {row.get("kind") for row in rows_of(seen, "devices")}
    return bool(kinds & set(_PASSED_THROUGH)) or bool(rows_of(seen, "hostDevices"))


_NEEDS = (
    _Need(
        gate="VMPersistentState",
        since=(1, 7),
        applies=lambda seen: seen.tpm,
        what="Its TPM has to keep its state",
        cure="Add the gate to the KubeVirt object; without it the VM with its TPM is refused.",
        blocks=True,
    ),
    _Need(
        gate="CPUManager",
        applies=lambda seen: seen.dedicated_cpus,
        what="Its CPUs are dedicated",
        cure="Add the gate to the KubeVirt object, and give nodes a static CPU manager: no node takes the VM else.",
        blocks=True,
    ),
    _Need(
        gate="CPUManager",
        applies=lambda seen: not seen.dedicated_cpus and bool(seen.document.get("numaNodeAffinity")),
        what="It is tied to NUMA nodes",
        cure="The VM runs without that tie. It can be set again only where CPUs can be dedicated.",
    ),
    _Need(
        gate="HostDevices",
        applies=_has_host_devices,
        what="It uses devices of its host",
        cure="The VM comes without them. They can be given to it again only with the gate.",
    ),
    _Need(
        gate="PersistentReservation",
        applies=lambda seen: any(row.get("scsiReservation") is True for row in rows_of(seen, "diskAttachments")),
        what="It reserves SCSI disks",
        cure="Reservations are not carried over, and can be allowed on the target only with the gate.",
    ),
    _Need(
        gate="HotplugVolumes",
        applies=lambda seen: (
            seen.document.get("cpuHotAddEnabled") is True or seen.document.get("memoryHotAddEnabled") is True
        ),
        what="It is made to grow while it runs",
        cure="Disks can be attached to the running VM only with the gate.",
    ),
)


def conditions(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """Return what the VMs need and the target's KubeVirt does not give; nothing where it cannot be told."""
    kubevirt = known(target.kubevirt)
    if kubevirt is None or not kubevirt.phase:  # without a phase its object was not seen
        return
    for case in cases:
        for seen in case.found:
            yield from _gates(case, seen, kubevirt)
            yield from _state_class(case, seen, kubevirt, target)
            yield from _growing(case, seen, kubevirt)


def _gates(case: Case, seen: SourceVm, kubevirt: KubeVirt) -> Iterable[Condition]:
    for need in _NEEDS:
        if need.applies(seen) and not _is_on(need, kubevirt):
            make = critical if need.blocks else warning
            yield make(
                "FeatureGateOff",
                f"mtv.target.gate_{need.gate.lower()}",
                "NotSupported",
                f"{need.what}, and KubeVirt's feature gate {need.gate} is off on the target",
                need.cure,
                vms=(case.vm.id,),
            )


def _is_on(need: _Need, kubevirt: KubeVirt) -> bool:
    release = kubevirt.release()
    if need.gate in kubevirt.feature_gates:
        return True
    return need.since is not None and release is not None and release >= need.since


def _state_class(case: Case, seen: SourceVm, kubevirt: KubeVirt, target: TargetFacts) -> Iterable[Condition]:
    """A TPM's state lies on a claim of its own, whose class the KubeVirt object names, else it is the default one."""
    classes = known(target.storage_classes)
    if not seen.tpm or classes is None:
        return
    if kubevirt.state_class and kubevirt.state_class not in {one.name for one in classes}:
        missing = f"KubeVirt keeps the state of TPMs on StorageClass {kubevirt.state_class}, which the target has not"
    elif not kubevirt.state_class and not target.default_class():
        missing = "KubeVirt names no StorageClass for the state of TPMs, and the target has no default one"
    else:
        return
    yield critical(
        "StateStorageNotValid",
        "mtv.target.no_state_class",
        "NotFound",
        missing,
        "Set vmStateStorageClass of the KubeVirt object, or mark a class as the default: the VM does not start else.",
        vms=(case.vm.id,),
    )


def _growing(case: Case, seen: SourceVm, kubevirt: KubeVirt) -> Iterable[Condition]:
    """Whether a VM that could get memory or CPUs while it runs still can."""
    if seen.document.get("memoryHotAddEnabled") is not True and seen.document.get("cpuHotAddEnabled") is not True:
        return
    if kubevirt.rollout == "Stage":
        yield warning(
            "LiveUpdateOff",
            "mtv.target.no_live_update",
            "NotSupported",
            "It can get CPUs and memory while it runs, and KubeVirt on the target changes VMs at their restart only",
            "Set vmRolloutStrategy: LiveUpdate in the KubeVirt object, or plan restarts.",
            vms=(case.vm.id,),
        )
    limit = kubevirt.max_guest_bytes
    if seen.document.get("memoryHotAddEnabled") is True and limit is not None and seen.memory_bytes > limit:
        yield warning(
            "MemoryOverMaximum",
            "mtv.target.memory_over_maximum",
            "NotSupported",
            f"Its memory of {seen.memory_bytes} bytes is beyond the {limit} up to which KubeVirt lets running VMs grow",
            "It runs, but cannot get more memory without a restart. Raise liveUpdateConfiguration.maxGuest.",
            vms=(case.vm.id,),
        )
