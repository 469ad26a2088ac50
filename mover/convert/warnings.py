"""What virt-v2v's warnings mean: the conversion goes on, but somebody should know. Wording is that of virt-v2v 2.2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mtv.model.conversion import Notice


class _Meaning(NamedTuple):
    pattern: str
    code: str
    sentence: str
    cure: str


_AGENT_CURE = "install qemu-guest-agent in the VM after the migration"
_TABLE: tuple[_Meaning, ...] = (
    _Meaning(
        r"way to update the configuration of Grub2",
        "default-kernel-unchanged",
        "the guest's default kernel stays as it is (virt-v2v cannot change it on Debian and Ubuntu)",
        "nothing to do if the guest started its newest kernel on the source",
    ),
    _Meaning(
        r"grub2 serial console|rebuild grub2 configuration|grub output will not be sent",
        "serial-console-unchanged",
        "the boot loader's serial console was left as it is",
        "nothing to do; for `virtctl console` add console=ttyS0 to the guest's kernel options",
    ),
    _Meaning(
        r"QEMU Guest Agent MSI not found",
        "guest-agent-missing",
        "virtio-win holds no guest agent for Windows",
        "give a virtio-win that has guest-agent/qemu-ga-x86_64.msi, or install it in the VM after the migration",
    ),
    _Meaning(
        r"QEMU Guest Agent will not be installed|provides the QEMU Guest Agent for this guest OS is unknown|"
        r"guest agent will not be installed",
        "guest-agent-missing",
        "the QEMU guest agent could not be installed offline",
        _AGENT_CURE,
    ),
    _Meaning(
        r"tools was detected, but uninstallation failed|cannot uninstall|could not install replacement for|"
        r"uninstall Parallels",
        "old-tools-left",
        "the source's guest tools could not be removed",
        "remove them in the VM after the migration",
    ),
    _Meaning(
        r"no virtio drivers available|no virtio (?:block device|network) driver|slower emulated device",
        "virtio-drivers-missing",
        "virtio-win has no driver for this Windows; the VM gets slower emulated devices",
        "give a virtio-win that supports this Windows (older ones need an older virtio-win) and run the VM again",
    ),
    _Meaning(
        r"Group Policy",
        "group-policy",
        "the guest has group policies, which may keep the new disk driver from working (stop 0x7B)",
        "if the VM does not start, lift the policy on device installation on the source and run the VM again",
    ),
    _Meaning(
        r"Anti-Virus",
        "anti-virus",
        "the guest has anti-virus software, which may keep the new disk driver from working (stop 0x7B)",
        "if the VM does not start, switch it off on the source and run the VM again",
    ),
    _Meaning(
        r"pnp_wait|Firstboot scripts may conflict with PnP",
        "pnp-wait-missing",
        "pnp_wait.exe is not in the mover's image: first-boot scripts may run before the new devices are there",
        "put pnp_wait.exe into /usr/share/virt-tools",
    ),
    _Meaning(
        r"firstboot",
        "first-boot-service",
        "the service that runs scripts at first boot could not be enabled for certain",
        "check in the VM that the scripts ran; run them by hand if not",
    ),
    _Meaning(
        r"fstrim on guest filesystem",
        "not-trimmed",
        "a filesystem could not be trimmed; the target may hold blocks that the guest does not use",
        "nothing to do; `fstrim -a` in the VM frees them",
    ),
    _Meaning(
        r"references unknown device|don.t know how to update|fix this entry manually",
        "device-name-left",
        "a configuration file of the guest names a disk that is called otherwise now",
        "use UUID= in the guest's fstab and boot loader; correct the entry in the VM",
    ),
    _Meaning(
        r"SELinux|selinux",
        "selinux-relabel",
        "SELinux labels could not all be set",
        "run `touch /.autorelabel` in the VM and restart it",
    ),
    _Meaning(
        r"UEFI bootloader|UEFI fix",
        "uefi-boot-loader",
        "the UEFI boot loader could not be put where any firmware finds it",
        "copy the guest's loader to EFI/BOOT/BOOTX64.EFI on its EFI partition before the migration",
    ),
    _Meaning(
        r"display driver was updated",
        "display-driver",
        "the display driver was changed, but no X11 was found in the guest",
        "nothing to do on a server; else configure the display in the VM",
    ),
    _Meaning(
        r"in bootloader, as it does not exist|not under grub tree",
        "boot-entry-ignored",
        "the boot loader names a kernel that does not exist; it was ignored",
        "remove the stale entry in the VM",
    ),
    _Meaning(
        r"RPM database|RPM file owned",
        "package-database",
        "the guest's RPM database is damaged; it was rebuilt where possible",
        "run rpm --rebuilddb in the VM",
    ),
    _Meaning(
        r"augeas",
        "configuration-file",
        "a configuration file of the guest could not be parsed and was left as it is",
        "look at convert.log for its name and correct it in the VM",
    ),
    _Meaning(
        r"unknown firmware value|sound|<disk|<listen|graphics|interfaces? which will|passthrough host device",
        "device-ignored",
        "a device of the source VM was left out of the conversion",
        "nothing to do: the target VM's devices come from the plan",
    ),
)


def notice_of(message: str) -> Notice:
    """What one warning means; one that is not known keeps its own words under the code `virt-v2v`."""
    for meaning in _TABLE:
        if re.search(meaning.pattern, message):
            return Notice(code=meaning.code, message=meaning.sentence, cure=meaning.cure)
    return Notice(code="virt-v2v", message=message[:500], cure="look at convert.log on the work volume")


def notices_of(messages: Iterable[str]) -> tuple[Notice, ...]:
    """The meanings of all warnings, each once, in order."""
    return tuple(dict.fromkeys(notice_of(message) for message in messages))


def sentence(notice: Notice) -> str:
    """A notice for people, on one line."""
    return f"{notice.message} — {notice.cure}" if notice.cure else notice.message
