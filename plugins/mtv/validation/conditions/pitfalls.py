"""What users were bitten by and nothing else warns of: what boots, converts or answers on the source only."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mtv.model.condition import Condition
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceVm
from mtv.validation.conditions.addresses import guest_addresses
from mtv.validation.conditions.case import Case, critical, rows_of, warning

_LARGEST_BIOS_DISK = 2 << 40
"""Bytes that a master boot record can speak of, with sectors of 512 bytes."""
_MOST_CARDS = 28
"""Cards that are safe beside the other devices on the 32 slots of a q35 machine's bus."""
_LONGEST_CHAIN = 31
"""Files below a disk's current one: vSphere takes 32 in all, and each round of a warm copy adds one for a while."""
_LONG_CHAIN = 3
_CANNOT_CONVERT = (
    (re.compile(r"freebsd|openbsd|netbsd|dragonfly", re.IGNORECASE), "BSD"),
    (re.compile(r"solaris|illumos|omnios", re.IGNORECASE), "Solaris"),
    (re.compile(r"darwin|mac ?os", re.IGNORECASE), "macOS"),
    (re.compile(r"netware", re.IGNORECASE), "NetWare"),
    (re.compile(r"\bos/?2(guest)?\b|ecomstation", re.IGNORECASE), "OS/2"),
    (re.compile(r"unixware|openserver|\bsco\b", re.IGNORECASE), "SCO Unix"),
    (re.compile(r"ms-?dos|\bdosguest|windows (3\.1|95|98|me)\b|\bwin(31|95|98|me)guest", re.IGNORECASE), "DOS"),
    (re.compile(r"vmkernel|\besxi?\b", re.IGNORECASE), "ESXi"),
)
_ENCRYPTED = re.compile(r"bitlocker|fve|luks", re.IGNORECASE)
_OLD_TOOLS = ("guestToolsTooOld", "guestToolsBlacklisted")


def of_vm(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """What is known of one VM."""
    yield from _boot_disk(case, seen)
    yield from _cards(case, seen)
    yield from _guest(case, seen)
    yield from _encryption(case, seen)
    yield from _chain(case, seen)
    if seen.power is PowerState.ON and seen.document.get("toolsVersionStatus2") in _OLD_TOOLS:
        yield warning(
            "GuestToolsOld",
            "mtv.vm.tools_too_old",
            "NotValid",
            "The guest's tools are too old to be relied on for a shutdown",
            "It would be powered off, as by pulling its plug. Update its tools, or shut it down before the wave.",
            vms=(case.vm.id,),
        )


def of_wave(cases: Sequence[Case]) -> Iterable[Condition]:
    """Addresses that two cards of the wave's VMs would have on one network."""
    macs: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    ips: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for case in cases:
        for seen in case.found:
            places = {nic.mac: case.place(nic) for nic in seen.nics if nic.mac and case.place(nic)}
            for nic in seen.nics:
                if nic.mac in places:
                    macs[case.place(nic), nic.mac][case.vm.id] = None
            for mac, ip in guest_addresses(seen):
                place = places.get(mac, "")
                if place and case.keeps_addresses and _is_an_address_of_its_own(ip):
                    ips[place, ip][case.vm.id] = None
    yield from _twice(macs, ips)


def _twice(
    macs: Mapping[tuple[str, str], Mapping[str, None]], ips: Mapping[tuple[str, str], Mapping[str, None]]
) -> Iterable[Condition]:
    for (place, mac), vms in macs.items():
        if len(vms) > 1:
            yield critical(
                "MacConflicts",
                "mtv.wave.mac_twice",
                "NotUnique",
                f"MAC address {mac} is on cards of {', '.join(vms)}, which meet on {_network(place)}",
                "Two VMs with one address on one network lose packets. Change one, or map them to different networks.",
                vms=tuple(vms),
            )
    for (place, ip), vms in ips.items():
        if len(vms) > 1 and place != "pod":  # the pod network gives addresses of its own
            yield warning(
                "IpConflicts",
                "mtv.wave.ip_twice",
                "NotUnique",
                f"Address {ip} is kept by {', '.join(vms)}, which meet on {_network(place)}",
                "Only one of them would be reached. Look whether the tools of one tell an old address.",
                vms=tuple(vms),
            )


def _boot_disk(case: Case, seen: SourceVm) -> Iterable[Condition]:
    boots = _root(case, seen)
    if seen.firmware is Firmware.BIOS and boots is not None and boots.size_bytes > _LARGEST_BIOS_DISK:
        yield warning(
            "BootDiskTooLarge",
            "mtv.disk.bios_boot_over_2tib",
            "NotSupported",
            f"Disk {boots.id}, from which it boots by BIOS, is larger than 2 TiB",
            "A BIOS may not reach what a boot loader needs beyond that. Test it first, or convert it to UEFI.",
            vms=(case.vm.id,),
        )


def _root(case: Case, seen: SourceVm) -> SourceDisk | None:
    wanted = case.option("root_disk")
    named = [disk for disk in seen.disks if wanted and wanted in (disk.id, str(disk.index))]
    return next(iter(named), None) or min(seen.disks, key=lambda disk: disk.index, default=None)


def _cards(case: Case, seen: SourceVm) -> Iterable[Condition]:
    carried = sum(1 for nic in seen.nics if case.place(nic))
    if carried > _MOST_CARDS:
        yield warning(
            "TooManyCards",
            "mtv.nic.count_exceeds_limit",
            "NotSupported",
            f"It would have {carried} network cards",
            f"More than {_MOST_CARDS} may find no slot on the machine's bus. Map networks that are not needed to "
            "type: ignored.",
            vms=(case.vm.id,),
        )
    for nic in seen.nics:
        target = case.network(nic)
        passed = seen.is_kvm_guest and nic.model == "pci_passthrough" and target is not None and target.type == "multus"
        if passed and not nic.connected:
            yield warning(
                "CardCannotBeDown",
                "mtv.nic.sriov_down",
                "NotSupported",
                f"Card {nic.index} is unplugged or unlinked, and KubeVirt knows no such state of an SR-IOV card",
                "It would be up on the target. Remove the card, or map its network to type: ignored.",
                vms=(case.vm.id,),
            )
    if seen.provider == "openstack" and 1 < len({nic.network for nic in seen.nics}) < len(seen.nics):
        yield warning(
            "CardOrderUnknown",
            "mtv.nic.order_unknown",
            "NotValid",
            "It has several cards on one network and others elsewhere, and nova tells their order by network only",
            "Cards of one network stand together on the target VM. See that the guest tells them by MAC address.",
            vms=(case.vm.id,),
        )


def _guest(case: Case, seen: SourceVm) -> Iterable[Condition]:
    if not case.is_converted or seen.is_kvm_guest:
        return
    said = f"{seen.document.get('guestId') or ''} {seen.guest_os}"
    for pattern, name in _CANNOT_CONVERT:
        if pattern.search(said):
            yield warning(
                "GuestCannotBeConverted",
                "mtv.guest.not_convertible",
                "NotSupported",
                f"The guest is {name}, which virt-v2v cannot convert",
                "Set skip_guest_conversion: true: its disks are copied as they are, and it gets devices that it knows.",
                vms=(case.vm.id,),
            )
            return


def _encryption(case: Case, seen: SourceVm) -> Iterable[Condition]:
    """What the tools tell of encrypted file systems, and TPMs, which often hold the key of a Windows disk."""
    if not case.is_converted or seen.is_kvm_guest:
        return
    named = [row for row in rows_of(seen, "guestDisks") if _ENCRYPTED.search(str(row.get("filesystemType", "")))]
    locked = [row for row in named if "luks" not in str(row["filesystemType"]).lower() or not case.option("luks")]
    if locked:
        paths = ", ".join(str(row.get("diskPath") or "?") for row in locked)
        yield critical(
            "GuestDiskEncrypted",
            "mtv.guest.encrypted",
            "NotSupported",
            f"File systems of the guest are encrypted, and there is no key: {paths}",
            "Name a Secret with LUKS keys (luks), or decrypt it first (BitLocker: suspending it is not enough).",
            vms=(case.vm.id,),
        )
    elif seen.tpm and "windows" in f"{seen.document.get('guestId') or ''} {seen.guest_os}".lower():
        yield warning(
            "GuestDiskMaybeEncrypted",
            "mtv.guest.bitlocker_possible",
            "NotValid",
            "A Windows guest has a TPM, whose content stays behind: BitLocker may hold its key there",
            "If it does, the disk cannot be opened afterwards. Look with manage-bde -status, and decrypt it first.",
            vms=(case.vm.id,),
        )


def _chain(case: Case, seen: SourceVm) -> Iterable[Condition]:
    if not case.is_warm:
        return
    depths = [row["depth"] for row in rows_of(seen, "disks") if isinstance(row.get("depth"), int)]
    deepest = max(depths, default=0)
    if deepest > _LONG_CHAIN:
        make = critical if deepest >= _LONGEST_CHAIN else warning
        yield make(
            "SnapshotChainLong",
            "mtv.warm.snapshot_chain",
            "NotValid",
            f"A disk stands on {deepest} other files",
            f"A warm migration adds snapshots, and vSphere takes {_LONGEST_CHAIN + 1} files; long chains also read "
            "slowly. Consolidate the disk, or move the VM cold.",
            vms=(case.vm.id,),
        )


def _is_an_address_of_its_own(text: str) -> bool:
    """Whether a text is an address that nobody else on the network may have; every card has a link-local one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_link_local or address.is_loopback or address.is_unspecified)


def _network(place: str) -> str:
    return "the pod network" if place == "pod" else place
