"""The VM's disks: there are some, they have sizes, and nobody else writes to them during the copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtv.model.condition import Condition
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.validation.conditions import readable
from mtv.validation.conditions.case import Case, critical, rows_of, warning


def of_vm(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """What each disk is by itself."""
    vms = (case.vm.id,)
    if not seen.disks and not readable.hides_disks(seen):
        yield critical(
            "VMHasNoDisks",
            "plan.vm.no_disks",
            "NotFound",
            f"{seen.name} has no disks",
            "There is nothing to copy and nothing to boot from.",
            vms=vms,
        )
    empty = [disk.id for disk in seen.disks if disk.size_bytes <= 0]
    if empty:
        yield critical(
            "InvalidDiskSizes",
            "plan.disk.no_size",
            "NotValid",
            f"The source says no size of disk {', '.join(empty)}",
            "A claim must be as large as the disk. Look at the disk on the source; it may be damaged or locked.",
            vms=vms,
        )
    yield from _luns(seen, vms)
    yield from _deactivated(seen, vms)
    yield from _sealed(seen, vms)
    for disk in rows_of(seen, "disks"):
        name = disk.get("file") or disk.get("key") or "?"
        if disk.get("rdm") is True and (not case.is_warm or disk.get("physicalMode") is True):
            yield warning(
                "RDMDiskWarning",
                "plan.disk.raw_device",
                "NotSupported",
                f"Disk {name} is a raw device of the storage array",
                "Its whole device is copied into a claim; what else uses the device keeps using the old one.",
                vms=vms,
            )
        if str(disk.get("mode", "")).startswith("independent"):
            yield warning(
                "IndependentDiskWarning",
                "plan.disk.independent",
                "NotSupported",
                f"Disk {name} is independent",
                "Snapshots leave it out, so it can be copied only while the VM is off.",
                vms=vms,
            )


def _luns(seen: SourceVm, vms: tuple[str, ...]) -> Iterable[Condition]:
    """A LUN that is attached to the VM itself is no image, so nobody hands its bytes out."""
    attached = [row.get("disk") for row in rows_of(seen, "diskAttachments")]
    luns = [disk for disk in attached if isinstance(disk, dict) and disk.get("storageType") == "lun"]
    if luns:
        names = ", ".join(map(_name, luns))
        yield critical(
            "VMStorageNotSupported",
            "plan.disk.lun",
            "NotSupported",
            f"Disk {names} is a LUN that the VM uses directly",
            "Only images of storage domains are copied. Copy it to an image, or detach it and attach it on the target.",
            vms=vms,
        )


def _deactivated(seen: SourceVm, vms: tuple[str, ...]) -> Iterable[Condition]:
    """A disk that is attached but deactivated (taken from a running guest, say) is in no domain that the engine makes:
    the guest does not see it, until it runs on the target, where a VM has no such disks.
    """
    rows = [row for row in rows_of(seen, "diskAttachments") if row.get("active") is False]
    if rows:
        names = ", ".join(_name(row["disk"] if isinstance(row.get("disk"), dict) else row) for row in rows)
        yield critical(
            "DeactivatedDisk",
            "mtv.disk.deactivated",
            "NotSupported",
            f"Disk {names} is deactivated: the guest does not see it, but would on the target",
            "A clone of another of its disks could be mounted in that one's place. Detach it, or activate it; if it is"
            " accepted, it is copied and plugged in as the last disk.",
            vms=vms,
        )


def _sealed(seen: SourceVm, vms: tuple[str, ...]) -> Iterable[Condition]:
    """Disks whose bytes the source gives to nobody, or only as ciphertext: better known before the VM is shut down."""
    rows = [*rows_of(seen, "disks"), *rows_of(seen, "volumes")]
    encrypted = ", ".join(_name(row) for row in rows if row.get("encrypted") is True)
    if encrypted:
        yield critical(
            "VMStorageNotSupported",
            "mtv.disk.encrypted_by_source",
            "NotSupported",
            f"Disk {encrypted} is encrypted by the source, which would hand out ciphertext",
            "Decrypt it there: vSphere by a storage policy without encryption, OpenStack by a volume type without.",
            vms=vms,
        )
    physical = ", ".join(_name(row) for row in rows if row.get("physicalMode") is True)
    if physical:
        yield critical(
            "VMStorageNotSupported",
            "plan.disk.physical_mode",
            "NotSupported",
            f"Disk {physical} is a raw device in physical mode, which vSphere lets nobody read",
            "Change it to virtual mode, or detach it and attach its LUN on the target.",
            vms=vms,
        )
    yield from _on_the_compute_host(seen, vms)


def _on_the_compute_host(seen: SourceVm, vms: tuple[str, ...]) -> Iterable[Condition]:
    """Disks that nova keeps beside the server: no service hands out their bytes."""
    if any(disk.locator.get("kind") == "image" for disk in seen.disks):
        yield critical(
            "VMStorageNotSupported",
            "mtv.disk.root_on_compute_host",
            "NotSupported",
            "It boots from an image: its root disk lies on its compute host, where nobody can read it whole",
            "Make an image of the server, start a server from a volume of it, and migrate that one.",
            vms=vms,
        )
    flavor = seen.document.get("flavor")
    ephemeral, swap = (_amount(flavor, name) for name in ("ephemeral", "swap"))
    if ephemeral:
        yield critical(
            "VMStorageNotSupported",
            "mtv.disk.ephemeral",
            "NotSupported",
            f"Its flavor has {ephemeral} GiB of ephemeral disk, on its compute host, which nobody can read",
            "Copy what is needed to a volume. Then accept this, or start a server of its volumes with another flavor.",
            vms=vms,
        )
    if swap:
        yield warning(
            "SwapDiskLeftOut",
            "mtv.disk.swap_left_out",
            "NotSupported",
            f"Its flavor has a swap disk of {swap} MiB, which the target VM does not have",
            "See that nothing waits for it when the guest boots (fstab), and that its memory is enough.",
            vms=vms,
        )


def _amount(flavor: Any, name: str) -> int:
    """Return a size of a flavor; nova says "" or 0 for none."""
    text = str(flavor.get(name)) if isinstance(flavor, Mapping) else ""
    return int(text) if text.isdecimal() else 0


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("file") or row.get("name") or row.get("key") or row.get("id") or "?")


def shared(cases: Sequence[Case]) -> Iterable[Condition]:
    """Disks that several VMs use: a copy holds only while every one of them is off."""
    users: dict[str, list[tuple[Case, SourceVm]]] = defaultdict(list)
    for case in cases:
        for seen in case.found:
            for disk in seen.disks:
                if disk.shared:
                    users[_key(seen, disk)].append((case, seen))
    for key, sharers in users.items():
        for case, seen in sharers:
            others = [other for _, other in sharers if other.id != seen.id]
            yield from _shared_disk(case, key, others)


def _shared_disk(case: Case, key: str, others: Sequence[SourceVm]) -> Iterable[Condition]:
    vms = (case.vm.id,)
    running = ", ".join(sorted(other.name for other in others if other.power is not PowerState.OFF))
    if case.is_warm:
        yield critical(
            "SharedDisks",
            "plan.disk.shared_warm",
            "NotSupported",
            f"Disk {key} is shared, and the VM is to move warm",
            "Others write to it between two rounds. Move the VM cold, with all VMs that use the disk off.",
            vms=vms,
        )
    elif running:
        yield critical(
            "SharedDisks",
            "plan.disk.shared_running",
            "NotValid",
            f"Disk {key} is shared with {running}, which runs",
            "A copy of a disk that somebody writes to is no copy. Shut all VMs down that use the disk.",
            vms=vms,
        )
    if not others:
        yield warning(
            "SharedWarnDisks",
            "plan.disk.shared_outside",
            "NotValid",
            f"Disk {key} is shared with VMs that are not in the wave",
            "Make sure that they are off during the copy; they keep the old disk, this VM gets one of its own.",
            vms=vms,
        )


def _key(seen: SourceVm, disk: SourceDisk) -> str:
    """Return what names a disk across VMs: its LUN or its file where the source has those, else its identity."""
    for row in rows_of(seen, "disks"):
        if str(row.get("key", "")) == disk.id and (named := row.get("lunUuid") or row.get("file")):
            return str(named)
    return disk.identity
