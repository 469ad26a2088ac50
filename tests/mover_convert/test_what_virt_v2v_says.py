"""Reading virt-v2v: errors and warnings become codes and cures, the debug log becomes facts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.convert import accelerator, domain, failures, log_inspection, virt_v2v, warnings
from mtv.model.conversion import GuestFilesystem, Notice


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("not enough free space for conversion on filesystem ‘/’.  3.8 MB free < 50 MB", "guest-disk-full"),
        ("not enough available inodes for conversion on filesystem ‘/’.  7 inodes available", "guest-inodes-full"),
        ("inspection could not detect the source guest (or physical machine).", "no-operating-system"),
        ("inspection could not detect …\n\nNo root device found in this image.", "no-operating-system"),
        ("root device /dev/sdb9 not found.  Roots found were: /dev/sda1", "root-disk-unknown"),
        ("libguestfs thinks this is not an installed operating system (it might be a live CD)", "not-installed"),
        ("multi-boot operating systems are not supported by virt-v2v.", "several-operating-systems"),
        ("virt-v2v is unable to convert this guest type (linux/alpinelinux)", "guest-not-supported"),
        ("guest type freebsd/freebsd is not supported", "guest-not-supported"),
        ("could not find key to open LUKS encrypted /dev/sda2.", "encrypted"),
        ("could not read key from user", "encrypted"),
        ("unable to mount the disk image for writing. This has probably happened because Windows Hibernation or Fast"
         " Restart is being used in this guest.", "guest-hibernated"),
        ("filesystem was mounted read-only, even though we asked for it to be mounted read-write.", "guest-hibernated"),
        ("NTFS partition is in an unsafe state", "guest-hibernated"),
        ("no installed kernel packages were found.\n\nThis probably indicates that virt-v2v …", "no-kernel-package"),
        ("only Xen kernels are installed in this guest.", "xen-kernel"),
        ("no kernels were found in the bootloader configuration.", "boot-loader"),
        ("failed to find grub2-mkconfig binary (but Grub2 was detected on guest)", "boot-loader"),
        ("unable to rebuild initrd (/boot/initrd) because mkinitrd or dracut was not found in the guest", "initrd"),
        ("libguestfs error: command: update-initramfs: No space", "initrd"),
        ("inspection of the package database failed for this Linux guest.", "package-database"),
        ("libguestfs error: mount_stub: /dev/mapper/croot: No such file or directory", "guest-mount"),
        ("One of rhsrvany.exe or pvvxsvc.exe is missing in /usr/share/virt-tools.", "windows-tools-missing"),
        ("virt-v2v: cannot open virtio-win ISO file: x.iso", "virtio-win-missing"),
        ("root directory ‘/’ is missing from the virtio-win directory or ISO.", "virtio-win-missing"),
        ("could not find registry key HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion", "windows-registry"),
        ("nbdkit-file-plugin is not installed or not working", "tool-missing"),
        ("libguestfs error: guestfs_launch failed.", "appliance-failed"),
        ("libguestfs error: appliance closed the connection unexpectedly.", "appliance-failed"),
        ("insufficient free space in the conversion server temporary directory /t (1M).", "work-volume-full"),
        ("libguestfs error: copy: write: No space left on device", "work-volume-full"),
        ("libguestfs error: pwrite: Input/output error", "storage-io"),
        ("the virtual size of the input disk 0 is not an exact multiple of 512 bytes.", "disk-size"),
        ("something never seen", "conversion-failed"),
    ],
)  # fmt: skip
def test_an_error_is_explained_with_code_and_cure(said, code):
    failure = failures.explain([said], exit_code=1)
    assert failure.code == code
    assert failure.cure
    assert failure.message
    assert "{" not in failure.message


@pytest.mark.parametrize("meaning", failures.TABLE, ids=lambda meaning: meaning.code)
def test_every_meaning_is_reachable_and_whole(meaning):
    re.compile(meaning.pattern)
    assert meaning.cure
    assert "{" not in meaning.sentence.format(what="")
    assert failures.refusal(meaning.code).code == meaning.code


@given(st.lists(st.text(max_size=300), max_size=5), st.integers(-64, 255))
def test_any_words_are_explained(said, exit_code):
    failure = failures.explain(said, exit_code=exit_code)
    assert failure.code
    assert failure.cure
    assert len(failure.message) <= 700


def test_the_full_filesystem_is_named():
    failure = failures.explain(["not enough free space for conversion on filesystem ‘/boot’. 1 MB"], exit_code=1)
    assert "/boot" in failure.message


def test_an_unknown_error_keeps_its_own_words():
    assert failures.explain(["first", "the very last"], exit_code=1).message == "the very last"


def test_no_message_at_all_still_says_the_exit_code():
    assert "137" in failures.explain([], exit_code=137).message


def test_only_what_a_retry_can_help_is_retried():
    assert {meaning.code for meaning in failures.TABLE if meaning.retryable} == {"appliance-failed", "storage-io"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("could not determine a way to update the configuration of Grub2", "default-kernel-unchanged"),
        ("could not add grub2 serial console (ignored)", "serial-console-unchanged"),
        ("The QEMU Guest Agent will not be installed.  The install command for package x is unknown.",
         "guest-agent-missing"),
        ("QEMU Guest Agent MSI not found on tools ISO/directory. You may want to install …", "guest-agent-missing"),
        ("VMware tools was detected, but uninstallation failed.  The error message was: x (ignored)", "old-tools-left"),
        ("there are no virtio drivers available for this version of Windows (5.1 i386 Client xp).",
         "virtio-drivers-missing"),
        ("this guest has Windows Group Policy Objects (GPO) and a new virtio block device driver", "group-policy"),
        ("this guest has Anti-Virus (AV) software and a new virtio block device driver", "anti-virus"),
        ("pnp_wait.exe is missing.  Firstboot scripts may conflict with PnP.", "pnp-wait-missing"),
        ("could not finish firstboot installation by running ‘x’ because the command failed: y", "first-boot-service"),
        ("fstrim on guest filesystem /data failed.  Usually you can ignore this message.", "not-trimmed"),
        ("/files/etc/fstab references unknown device \"sdz1\".  You may have to fix this entry manually",
         "device-name-left"),
        ("ignoring kernel /boot/x in bootloader, as it does not exist.", "boot-entry-ignored"),
        ("unknown sound device 'x' ignored", "device-ignored"),
        ("never heard of", "virt-v2v"),
    ],
)  # fmt: skip
def test_a_warning_gets_a_code_and_a_cure(said, code):
    notice = warnings.notice_of(said)
    assert notice.code == code
    assert notice.cure in warnings.sentence(notice)


def test_a_warning_that_comes_twice_is_told_once():
    said = ["could not add grub2 serial console (ignored)", "could not remove grub2 serial console (ignored)", "other"]
    assert [notice.code for notice in warnings.notices_of(said)] == ["serial-console-unchanged", "virt-v2v"]


@given(st.text(max_size=2000))
def test_any_warning_is_bounded(said):
    assert len(warnings.notice_of(said).message) <= 500
    assert isinstance(warnings.notice_of(said), Notice)


def test_facts_are_read_from_the_debug_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("noise\ni_distro = debian\n  gcaps_block_bus = virtio-blk\ni_distro = debian\nother = x\n")
    assert virt_v2v.read_facts(log) == {"i_distro": "debian", "gcaps_block_bus": "virtio-blk"}


def test_an_error_that_only_the_log_has_is_what_the_program_said_last_in_its_own_name(tmp_path):
    log = tmp_path / "log"
    version = "virt-v2v-in-place: virt-v2v 2.2.0 (x86_64)\n"
    key = "could not find key to open LUKS encrypted /dev/sda2."
    log.write_text(f"{version}libguestfs: error: no\nvirt-v2v-in-place: {key}\n\nTry --key\nlibguestfs: closing\n")
    assert virt_v2v.last_words(log, "virt-v2v-in-place") == (key,)
    assert failures.explain([key], exit_code=1).code == "encrypted"
    log.write_text(f"{version}guestfsd: => cryptsetup_open virt-v2v-in-place: {key}\n\nlibguestfs: closing\n")
    assert virt_v2v.last_words(log, "virt-v2v-in-place") == (key,), "the appliance was amid a line of its own"
    log.write_text(version)
    assert virt_v2v.last_words(log, "virt-v2v-in-place") == ()


@pytest.mark.parametrize(
    ("cpu", "tried"),
    [
        ("flags\t\t: fpu vmx sse\n", True),
        ("flags\t\t: fpu svm\n", True),
        ("flags\t\t: fpu sse\n", False),
        ("vmx flags\t: vnmi\nflags\t: fpu\n", False),
        ("Features\t: fp asimd\n", True),
    ],
)
def test_kvm_is_tried_only_on_a_cpu_that_may_have_it(tmp_path, monkeypatch, cpu, tried):
    (tmp_path / "cpuinfo").write_text(cpu)
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accelerator, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
    chosen, why = accelerator.probe({"LIBGUESTFS_PATH": str(tmp_path)}, qemu="false")
    assert chosen == "tcg"
    assert ("trial" in why) is tried


def test_a_fact_is_read_behind_an_unended_line_of_the_appliances_console(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "[    4.2] sda: sda1\nguestfsd: => is_file (0x25) took 0.09 secsgcaps_block_bus = virtio-blk\n"
        "[    4.3] crng gcaps_net_bus = virtio-net\n"
    )
    assert virt_v2v.read_facts(log) == {"gcaps_block_bus": "virtio-blk", "gcaps_net_bus": "virtio-net"}


def test_an_inspection_is_read_from_the_debug_log(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "mountpoint statvfs /dev/sdb /data (ext4):\n  bsize=1024 blocks=40939 bfree=32731 bavail=31748\n"
        "mountpoint statvfs /dev/sda1 / (xfs):\n[ 5.1] console noise\n  bsize=4096 blocks=10 bfree=5 bavail=4\n"
        "detected bootloader grub2 at /boot/grub/grub.cfg\n"
    )
    facts = {"i_distro": "debian", "i_major_version": "12", "i_minor_version": "4", "i_firmware": "UEFI"}
    found = log_inspection.inspection_of(facts, log)
    assert (found.distro, found.version, found.firmware, found.boot_loader) == ("debian", "12.4", "efi", "grub2")
    assert found.filesystems == (
        GuestFilesystem(device="/dev/sda1", mountpoint="/", type="xfs", size_bytes=40960, free_bytes=20480),
        GuestFilesystem(
            device="/dev/sdb", mountpoint="/data", type="ext4", size_bytes=40939 * 1024, free_bytes=32731 * 1024
        ),
    )
    assert not found.complete


@pytest.mark.parametrize(("index", "letters"), [(0, "a"), (25, "z"), (26, "aa"), (701, "zz"), (702, "aaa")])
def test_disk_letters_follow_linux(index, letters):
    assert domain.disk_letters(index) == letters


def test_the_domain_says_every_format(tmp_path):
    xml = domain.domain_xml("web<1>", [tmp_path / "a&b.qcow2"], firmware="efi")
    assert 'type="qcow2"' in xml
    assert "a&amp;b.qcow2" in xml
    assert "web&lt;1&gt;" in xml
    assert 'firmware="efi"' in xml
