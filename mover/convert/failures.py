"""What virt-v2v's errors mean: a stable code, a sentence and a cure. Wording matched is that of virt-v2v 2.2."""

from __future__ import annotations

import re

from mtv.model.transfer import Failure

_TABLE: tuple[tuple[str, str, str, str], ...] = (
    (
        r"not enough free space for conversion on filesystem \W?(?P<what>/[^\s'\u2019]*)",
        "guest-disk-full",
        "the guest's filesystem {what} is too full to convert",
        "free space inside the guest (100 MiB on /, 50 MiB on /boot) and run the VM again",
    ),
    (
        r"inspection could not detect the source guest|no root device found",
        "no-operating-system",
        "no operating system was found on the disks",
        "check that the boot disk is among the VM's disks and not encrypted, or migrate it with skip_guest_conversion",
    ),
    (
        r"unable to convert this guest type \((?P<what>[^)]+)\)",
        "guest-not-supported",
        "virt-v2v cannot convert this operating system ({what})",
        "migrate it with skip_guest_conversion: disks are attached as SATA and the network card as e1000e",
    ),
    (
        r"could not read key from user|could not find key to open LUKS",
        "encrypted",
        "a disk is encrypted and no key opens it",
        "give the LUKS key of the VM, or decrypt the guest first",
    ),
    (
        r"multi-boot operating systems are not supported|this is a dual- or multi-boot",
        "several-operating-systems",
        "more than one operating system was found",
        "name the one to convert with root_disk",
    ),
    (
        r"guestfs_launch failed|appliance closed the connection|supermin exited with error",
        "appliance-failed",
        "the conversion appliance did not start",
        "look at convert.log on the work volume; check the pod's memory limit and TMPDIR space",
    ),
    (
        r"No space left on device",
        "work-volume-full",
        "the work volume is full",
        "give the work claim more space and run the VM again",
    ),
    (
        r"hibernated|unsafe state|Windows Fast Restart",
        "guest-hibernated",
        "the guest is hibernated or its filesystem is not clean",
        "start the guest on the source, switch fast start-up off, shut it down fully and run the VM again",
    ),
)
_RETRYABLE = frozenset({"appliance-failed"})


def explain(messages: list[str], *, exit_code: int) -> Failure:
    """Map virt-v2v's error messages (oldest first) to a `Failure`; an unknown one is passed on as it stands."""
    text = "\n".join(messages)
    for pattern, code, sentence, cure in _TABLE:
        if match := re.search(pattern, text):
            what = match.groupdict().get("what", "")
            return Failure(code=code, message=sentence.format(what=what), cure=cure, retryable=code in _RETRYABLE)
    last = messages[-1] if messages else f"virt-v2v ended with exit code {exit_code}"
    return Failure(code="conversion-failed", message=last[:500], cure="look at convert.log on the work volume")
