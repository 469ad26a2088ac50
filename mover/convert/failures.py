"""What virt-v2v's errors mean: a stable code, a sentence and a cure. Wording matched is that of virt-v2v 2.2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from mtv.model.errors import PermanentError
from mtv.model.transfer import Failure

_LOG = "look at convert.log on the work volume"
_IMAGE = "the mover's image is incomplete: build it from images/Dockerfile"
_RAW = "migrate it with skip_guest_conversion: disks are attached as SATA and the network card as e1000e"


class Meaning(NamedTuple):
    """One kind of failure. `{what}` in `sentence` is the pattern's group of that name."""

    pattern: str
    code: str
    sentence: str
    cure: str
    retryable: bool = False


TABLE: tuple[Meaning, ...] = (
    # ── the guest ──
    Meaning(
        r"not enough free space for conversion on filesystem \W?(?P<what>/[^\s'\u2019]*)",
        "guest-disk-full",
        "the guest's filesystem {what} is too full to convert",
        "free space inside the guest (100 MiB on /, 50 MiB on /boot) and run the VM again",
    ),
    Meaning(
        r"not enough available inodes for conversion on filesystem \W?(?P<what>/[^\s'\u2019]*)",
        "guest-inodes-full",
        "the guest's filesystem {what} has fewer than 100 free inodes",
        "remove files inside the guest and run the VM again",
    ),
    Meaning(
        r"root device (?P<what>\S+) not found",
        "root-disk-unknown",
        "no operating system is on {what}, which root_disk names",
        "name a root that inspection found (convert.log lists them), or leave root_disk empty",
    ),
    Meaning(
        r"not an installed operating system",
        "not-installed",
        "the boot disk holds an installer or a live system, not an installed one",
        "check which disk boots; name it with root_disk",
    ),
    Meaning(
        r"multi-boot operating systems are not supported|this is a dual- or multi-boot|Dual- or multi-boot",
        "several-operating-systems",
        "more than one operating system was found",
        "name the one to convert with root_disk",
    ),
    Meaning(
        r"could not read key from user|could not find key to open LUKS",
        "encrypted",
        "a disk is encrypted and no key opens it",
        "give the LUKS key of the VM, or decrypt the guest first",
    ),
    Meaning(
        r"clevis_luks_unlock",
        "clevis-unavailable",
        "this libguestfs cannot unlock disks with Clevis",
        "give a LUKS key of the VM instead",
    ),
    Meaning(
        r"hibernated|Windows Hibernation|unsafe state|Windows Fast Restart|mounted read-only, even though we asked",
        "guest-hibernated",
        "the guest is hibernated or its filesystem is not clean",
        "start the guest on the source, switch fast start-up off (powercfg /h off), shut it down fully"
        " and run the VM again",
    ),
    Meaning(
        r"unable to convert this guest type \((?P<what>[^)]+)\)|guest type (?P<also>\S+) is not supported",
        "guest-not-supported",
        "virt-v2v cannot convert this operating system ({what})",
        _RAW,
    ),
    Meaning(
        r"how to convert UEFI guests for architecture|does not support a \S+ KVM guest",
        "architecture-not-supported",
        "the guest's processor architecture cannot be converted",
        "migrate x86-64 guests only",
    ),
    Meaning(
        r"inspection of the package database failed",
        "package-database",
        "the guest's package database cannot be read",
        "repair it in the guest (rpm --rebuilddb, dpkg --configure -a) and run the VM again",
    ),
    Meaning(
        r"no installed kernel packages were found",
        "no-kernel-package",
        "no kernel that a package installed was found in the guest",
        "install the distribution's kernel package in the guest and run the VM again",
    ),
    Meaning(
        r"only Xen kernels are installed",
        "xen-kernel",
        "the guest has only Xen kernels, which do not start on KVM",
        "install a regular kernel in the guest and run the VM again",
    ),
    Meaning(
        r"no kernels were found in the bootloader|no bootloader|failed to find grub2-mkconfig|"
        r"could not find bootloader mount point|find grub entry for kernel",
        "boot-loader",
        "the guest's boot loader configuration cannot be read or changed",
        "repair GRUB in the guest (update-grub, grub2-mkconfig) and run the VM again",
    ),
    Meaning(
        r"unable to rebuild initrd|no initrd was found|mkinitrd or dracut was not found|update-initramfs was not found|"
        r"command: (?:update-initramfs|/sbin/mkinitrd|/usr/bin/dracut|dracut|/sbin/dracut|mkinitrd)",
        "initrd",
        "the guest's initrd with the virtio drivers cannot be built",
        "make the guest's own update-initramfs or dracut work (packages, space on /boot) and run the VM again",
    ),
    Meaning(
        r"mount_\w+: (?P<what>/dev/\S+)[^\n]*No such file|could not be mounted|unable to mount the disk image",
        "guest-mount",
        "a filesystem of the guest cannot be mounted {what}",
        "check the guest's fstab (use UUID=) and its filesystems (fsck), then run the VM again",
    ),
    Meaning(
        r"could not find registry key|cannot read the Windows Registry|hivex",
        "windows-registry",
        "the guest's Windows registry cannot be read",
        "start the guest on the source, let it repair itself, shut it down fully and run the VM again",
    ),
    Meaning(
        r"inspection could not detect the source guest|[Nn]o root device found|no operating system was found",
        "no-operating-system",
        "no operating system was found on the disks",
        "check that the boot disk is among the VM's disks and not encrypted, or migrate it with skip_guest_conversion",
    ),
    Meaning(
        r"this guest has no non-removable disks",
        "no-disk",
        "the guest has no disk",
        "check the VM's disks",
    ),
    Meaning(
        r"is not an exact multiple of 512 bytes",
        "disk-size",
        "a disk's size is no multiple of 512 bytes",
        "copy the disk again from its source",
    ),
    # ── what the pod brings along ──
    Meaning(
        r"rhsrvany\.exe or pvvxsvc\.exe is missing",
        "windows-tools-missing",
        "rhsrvany.exe, which runs first-boot scripts on Windows, is not in the mover's image",
        "put rhsrvany.exe (and pnp_wait.exe) into /usr/share/virt-tools, or name their folder in VIRT_TOOLS_DATA_DIR",
    ),
    Meaning(
        r"cannot open virtio-win ISO|root directory \W?/\W? is missing from the virtio-win",
        "virtio-win-missing",
        "the virtio-win drivers for Windows cannot be opened",
        "give the virtio-win ISO or its unpacked folder in VIRTIO_WIN",
    ),
    Meaning(
        r"insufficient free space in the conversion server|No space left on device",
        "work-volume-full",
        "the work volume is full",
        "give the work claim more space and run the VM again",
    ),
    Meaning(
        r"nbdkit\S* (?:is not installed|did not start|is not new enough|is too old)|executable not found|"
        r"cannot find firmware for UEFI|qemu-nbd did not start",
        "tool-missing",
        "a program or plugin that virt-v2v needs is missing or does not start",
        _IMAGE,
    ),
    Meaning(
        r"guestfs_launch failed|appliance closed the connection|supermin exited with error|"
        r"libguestfs appliance|child process died unexpectedly",
        "appliance-failed",
        "the conversion appliance did not start or broke off",
        f"{_LOG}; check the pod's memory limit and TMPDIR space",
        retryable=True,
    ),
    Meaning(
        r"unable to parse XML|libvirt XML|internal error|parse -ic|selector '|unknown --root option|exception: |"
        r"expecting a libvirt XML filename",
        "conversion-internal",
        "virt-v2v did not understand what the mover gave it, or broke in itself",
        f"{_LOG} and report it",
    ),
    Meaning(
        r"Input/output error|Read-only file system",
        "storage-io",
        "reading or writing the disks failed during the conversion",
        "look at the storage of the work and target volumes, then run the step again",
        retryable=True,
    ),
)
"""In order: what names the cause precisely stands before what only names the place."""

TIMED_OUT = "conversion-timeout"


def explain(messages: Sequence[str], *, exit_code: int) -> Failure:
    """Map virt-v2v's error messages (oldest first) to a `Failure`; an unknown one is passed on as it stands."""
    text = "\n".join(messages)
    for meaning in TABLE:
        if match := re.search(meaning.pattern, text):
            named = match.groupdict()
            what = named.get("what") or named.get("also") or ""
            return Failure(
                code=meaning.code,
                message=meaning.sentence.format(what=what).rstrip(),
                cure=meaning.cure,
                retryable=meaning.retryable,
            )
    last = messages[-1] if messages else f"virt-v2v ended with exit code {exit_code}"
    return Failure(code="conversion-failed", message=last[:500], cure=_LOG)


def timed_out(what: str, timeout_s: float) -> Failure:
    """The failure of a step that was ended because it took longer than allowed."""
    return Failure(
        code=TIMED_OUT,
        message=f"{what} did not end within {timeout_s:.0f} s and was stopped; the disks are as they were copied",
        cure="use nodes with working KVM, or raise the time allowed",
    )


@contextmanager
def starting(program: str) -> Iterator[None]:
    """A program that is not there, when the block starts it, is a `PermanentError` (code tool-missing) naming it."""
    try:
        yield
    except FileNotFoundError as error:
        raise refusal("tool-missing", f"the program {program} is missing") from error


def refusal(code: str, message: str = "") -> PermanentError:
    """The error of a code in the table, found by our own look at the disks and not by virt-v2v."""
    meaning = next(meaning for meaning in TABLE if meaning.code == code)
    return PermanentError(message or meaning.sentence.format(what="").rstrip(), cure=meaning.cure, code=code)
