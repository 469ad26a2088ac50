"""Reading virt-v2v: errors become codes and cures, the debug log becomes facts."""

from __future__ import annotations

import pytest

from mover.convert import domain, failures, virt_v2v


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("not enough free space for conversion on filesystem ‘/’.  3.8 MB free < 50 MB", "guest-disk-full"),
        ("inspection could not detect the source guest (or physical machine).", "no-operating-system"),
        ("virt-v2v is unable to convert this guest type (linux/alpinelinux)", "guest-not-supported"),
        ("could not find key to open LUKS encrypted /dev/sda2.", "encrypted"),
        ("libguestfs error: guestfs_launch failed.", "appliance-failed"),
        ("libguestfs error: copy: write: No space left on device", "work-volume-full"),
        ("something never seen", "conversion-failed"),
    ],
)
def test_an_error_is_explained_with_code_and_cure(said, code):
    failure = failures.explain([said], exit_code=1)
    assert failure.code == code
    assert failure.cure
    assert failure.message


def test_the_full_filesystem_is_named():
    failure = failures.explain(["not enough free space for conversion on filesystem ‘/boot’. 1 MB"], exit_code=1)
    assert "/boot" in failure.message


def test_an_unknown_error_keeps_its_own_words():
    assert failures.explain(["first", "the very last"], exit_code=1).message == "the very last"


def test_no_message_at_all_still_says_the_exit_code():
    assert "137" in failures.explain([], exit_code=137).message


def test_facts_are_read_from_the_debug_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("noise\ni_distro = debian\n  gcaps_block_bus = virtio-blk\ni_distro = debian\nother = x\n")
    assert virt_v2v.read_facts(log) == {"i_distro": "debian", "gcaps_block_bus": "virtio-blk"}


def test_a_fact_is_read_behind_an_unended_line_of_the_appliances_console(tmp_path):
    log = tmp_path / "log"
    log.write_text("[    4.2] sda: sda1\n[    4.3] crng gcaps_block_bus = virtio-blk\ngcaps_net_bus = virtio-net\n")
    assert virt_v2v.read_facts(log) == {"gcaps_block_bus": "virtio-blk", "gcaps_net_bus": "virtio-net"}


@pytest.mark.parametrize(("index", "letters"), [(0, "a"), (25, "z"), (26, "aa"), (701, "zz"), (702, "aaa")])
def test_disk_letters_follow_linux(index, letters):
    assert domain.disk_letters(index) == letters


def test_the_domain_says_every_format(tmp_path):
    xml = domain.domain_xml("web<1>", [tmp_path / "a&b.qcow2"], firmware="efi")
    assert 'type="qcow2"' in xml
    assert "a&amp;b.qcow2" in xml
    assert "web&lt;1&gt;" in xml
    assert 'firmware="efi"' in xml
