"""`mtv-mover copy` and `verify` as people use them: sources as URIs, resumed copies, offsets and digests of damage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mover.cli import main
from mover.failure import EXIT_OK, EXIT_PERMANENT, EXIT_TEMPORARY, EXIT_VOLUME_HELD
from mover.journal_format import RECORD_BYTES
from mover.measure import digest_of_path
from mover.sources.uri import SCHEMES
from mover.worklock import work_lock
from tests.mover import moving, web
from tests.mover.devices import unprivileged
from tests.mover.moving import MIB

SIZE = 13 * MIB + 700
AREAS = [(0, MIB), (9 * MIB, 70000)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("disk") / "disk.img", SIZE, AREAS)


class Said:
    """Runs the command in this process and keeps what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.lines: list[dict[str, Any]] = []

    def __call__(self, *argv: object) -> int:
        code = main([str(word) for word in argv])
        self.lines = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        return code

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]

    def words(self) -> str:
        return json.dumps(self.lines)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_a_copy_ends_with_what_it_did_and_the_next_one_has_nothing_to_do(
    tmp_path: Path, disk: Path, said: Said
) -> None:
    assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t") == EXIT_OK
    assert said.last["event"] == "result"
    assert said.last["digest"] == digest_of_path(disk)
    assert (said.last["ok"], said.last["proof"]) == (True, "as read")
    assert said.last["bytes_copied"] + said.last["bytes_skipped"] == SIZE
    assert MIB < said.last["bytes_copied"] < 2 * MIB
    assert said.last["seconds"] >= 0
    assert (tmp_path / "t.mtv-journal").exists()
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)
    assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t") == EXIT_OK
    assert "bytes_copied" not in said.last
    assert said.last["bytes_skipped"] == SIZE
    assert said.last["bytes_resumed"] > 0


@pytest.mark.parametrize(("mode", "proof"), [("full", "as read"), ("sampled", "none"), ("off", "none")])
def test_a_copy_is_called_proven_only_if_all_of_it_was_read_back(
    tmp_path: Path, disk: Path, said: Said, mode: str, proof: str
) -> None:
    assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t", "--verify", mode) == EXIT_OK
    assert said.last.get("proof", "none") == proof


def test_a_source_that_was_written_to_is_copied_anew(tmp_path: Path, disk: Path, said: Said) -> None:
    source = tmp_path / "s"
    source.write_bytes(disk.read_bytes())
    assert said("copy", "--source", f"file:{source}", "--target", tmp_path / "t") == EXIT_OK
    with source.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"new")
    os.utime(source, ns=(1, 1))
    assert said("copy", "--source", f"file:{source}", "--target", tmp_path / "t") == EXIT_OK
    assert said.last["digest"] == digest_of_path(source)
    assert "another generation" in said.words()


def test_a_file_of_the_same_size_and_time_in_the_place_of_the_source_is_copied_anew(
    tmp_path: Path, disk: Path, said: Said
) -> None:
    """As `cp -p` and `rsync -t` put it there: blocks of two disks on one target would be called proven."""
    source, other = tmp_path / "s", moving.make_disk(tmp_path / "other", SIZE, AREAS, seed=8)
    source.write_bytes(disk.read_bytes())
    assert said("copy", "--source", f"file:{source}", "--target", tmp_path / "t") == EXIT_OK
    times = source.stat()
    source.write_bytes(other.read_bytes())
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert said("copy", "--source", f"file:{source}", "--target", tmp_path / "t") == EXIT_OK
    assert said.last["digest"] == digest_of_path(other)
    assert moving.same_bytes(other, tmp_path / "t", SIZE)


def test_every_kind_of_source_can_be_written_as_a_uri(tmp_path: Path, disk: Path, said: Said) -> None:
    vmdk = tmp_path / "disk.vmdk"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, vmdk]
    subprocess.run(argv, check=True)
    with tarfile.open(tmp_path / "a.ova", "w") as tar:
        tar.add(vmdk, arcname="disk1.vmdk")
    secrets = tmp_path / "secrets"
    rounded = -(-SIZE // 512) * 512  # a VMDK has whole sectors
    padded = moving.make_disk(tmp_path / "padded", rounded, [])
    with padded.open("r+b") as file:
        file.write(disk.read_bytes())
    with moving.nbdkit(tmp_path, "file", str(disk)) as nbd, web.serve(disk, secrets) as server:
        server.token = "right"
        (secrets / "token").write_text("X-Auth-Token: right\n")
        https = (f"{server.url}/disk", "--credentials", secrets, "--header-file", "token")
        for number, (expected, source) in enumerate(
            [
                (disk, (f"file:{disk}",)),
                (disk, (f"file://{disk}",)),
                (padded, (f"vmdk:{vmdk}",)),
                (padded, (f"ova:{tmp_path / 'a.ova'}!disk1.vmdk",)),
                (disk, (nbd,)),
                (disk, https),
            ]
        ):
            assert said("copy", "--target", tmp_path / f"t{number}", "--source", *source) == EXIT_OK, said.words()
            assert said.last["digest"] == digest_of_path(expected)
            assert main(["digest", *map(str, source)]) == EXIT_OK
            assert said._capsys.readouterr().out.strip() == digest_of_path(expected)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/images/disk.raw", "file:/path"),
        ("ftp://host/disk", "nbd:"),
        ("file:", "names no file"),
        ("file:/x/disk.vmdk", "vmdk:/x/disk.vmdk"),
        ("file:/x/disk.qcow2", "qemu-nbd"),
        ("vmdk:/none.vmdk", "No such file"),
        ("ova:/none.ova!a", "No such file"),
        ("https://user:pw@host/disk", "holds credentials"),
        ("file:/dev/null", "neither a file"),
    ],
)
def test_a_source_that_is_not_understood_is_told_with_its_cure(
    tmp_path: Path, said: Said, source: str, words: str
) -> None:
    assert said("copy", "--source", source, "--target", tmp_path / "t") == EXIT_PERMANENT
    assert words in said.words()
    assert said.last["failure"]["cure"]
    assert said.last["ok"] is False
    assert not (tmp_path / "t").exists()


def test_an_ova_tells_which_disks_it_has(tmp_path: Path, disk: Path, said: Said) -> None:
    with tarfile.open(tmp_path / "a.ova", "w") as tar:
        tar.add(disk, arcname="web-disk1.img")
    for uri in (f"ova:{tmp_path / 'a.ova'}", f"ova:{tmp_path / 'a.ova'}!other"):
        assert said("copy", "--source", uri, "--target", tmp_path / "t") == EXIT_PERMANENT
        assert "web-disk1.img" in said.words()


def test_an_option_that_means_nothing_for_the_source_is_refused(tmp_path: Path, disk: Path, said: Said) -> None:
    argv = ("copy", "--source", f"file:{disk}", "--target", tmp_path / "t", "--header-file", "x")
    assert said(*argv) == EXIT_PERMANENT
    assert "--header-file means nothing" in said.words()


def test_the_source_is_never_its_own_target(tmp_path: Path, disk: Path, said: Said) -> None:
    (tmp_path / "link").symlink_to(disk)
    assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "link") == EXIT_PERMANENT
    assert disk.stat().st_size == SIZE
    assert "is the source itself" in said.words()


@pytest.mark.parametrize("slip", ["--target", "--journal"])
@pytest.mark.parametrize("lies_in", ["file", "vmdk", "ova"])
def test_no_file_of_the_source_is_taken_for_target_or_journal(
    tmp_path: Path, disk: Path, said: Said, lies_in: str, slip: str
) -> None:
    """A journal that is all zeros would be taken for the torn beginning of one, and so might a disk's start."""
    zeros = tmp_path / "disk-flat.vmdk"
    zeros.write_bytes(bytes(4096))
    (tmp_path / "disk.vmdk").write_text('# Disk DescriptorFile\nparentCID=ffffffff\nRW 8 FLAT "disk-flat.vmdk" 0\n')
    with tarfile.open(tmp_path / "disk.ova", "w") as tar:
        tar.add(disk, arcname="web.img")
    source, file = {
        "file": (f"file:{zeros}", zeros),
        "vmdk": (f"vmdk:{tmp_path / 'disk.vmdk'}", zeros),
        "ova": (f"ova:{tmp_path / 'disk.ova'}!web.img", tmp_path / "disk.ova"),
    }[lies_in]
    before = file.read_bytes()
    words = {"--target": tmp_path / "t", "--journal": tmp_path / "j", slip: file}
    argv = [word for option, value in words.items() for word in (option, value)]
    assert said("copy", "--source", source, *argv) == EXIT_PERMANENT
    assert said.last["failure"]["code"] in ("spec", "journal")
    assert file.read_bytes() == before


def test_target_and_journal_are_two_files(tmp_path: Path, disk: Path, said: Said) -> None:
    (tmp_path / "here").symlink_to(tmp_path)
    argv = ("--target", tmp_path / "t", "--journal", tmp_path / "here" / "t")
    assert said("copy", "--source", f"file:{disk}", *argv) == EXIT_PERMANENT
    assert "is the target itself" in said.words()


@pytest.mark.parametrize("content", [b"QFI\xfb" + bytes(99), bytes(MIB), bytes(70000) + b"x", b"MTVJRN", b"\0" * 300])
def test_only_a_journal_or_the_torn_beginning_of_one_is_overwritten(
    tmp_path: Path, disk: Path, said: Said, content: bytes
) -> None:
    journal = tmp_path / "web.img"
    journal.write_bytes(content)
    torn = len(content) < 400 and not content.startswith(b"QFI")
    ended = said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t", "--journal", journal)
    assert ended == (EXIT_OK if torn else EXIT_PERMANENT)
    if not torn:
        assert said.last["failure"]["code"] == "journal"
        assert journal.read_bytes() == content
        assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("content", "ours"),
    [(b"", True), (bytes(20), True), (b"7".rjust(19) + b"\n", True), (b"the notes of somebody", False), (b"!", False)],
)
def test_only_a_lock_or_what_a_power_cut_left_of_one_is_overwritten(
    tmp_path: Path, disk: Path, said: Said, content: bytes, ours: bool
) -> None:
    lock = tmp_path / "j.lock"
    lock.write_bytes(content)
    ended = said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t", "--journal", tmp_path / "j")
    if ours:  # a lock of a newer epoch is one, too: it stays
        assert ended == (EXIT_VOLUME_HELD if b"7" in content else EXIT_OK)
    else:
        assert ended == EXIT_PERMANENT
        assert said.last["failure"]["code"] == "lock"
        assert lock.read_bytes() == content
        assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("closed", ["target", "journal"])
def test_a_folder_that_may_not_be_searched_ends_the_copy_with_a_result(tmp_path: Path, said: Said, closed: str) -> None:
    places = {"target": Path("/none/t"), "journal": Path("/none/j"), closed: tmp_path / "x"}
    argv = ("--target", places["target"], "--journal", places["journal"])
    assert said("copy", "--source", "file:/none", *argv) == EXIT_PERMANENT  # and all that is needed is loaded now
    with unprivileged(tmp_path):
        assert said("copy", "--source", "nbd://none/disk", *argv) == EXIT_PERMANENT
    assert said.last["failure"]["code"] == {"target": "target-denied", "journal": "work-volume-denied"}[closed]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_journal_is_a_plain_file(tmp_path: Path, disk: Path, said: Said, kind: str) -> None:
    place = tmp_path / kind
    place.mkdir() if kind == "folder" else os.mkfifo(place)
    argv = ("--target", tmp_path / "t", "--journal", place)
    assert said("copy", "--source", f"file:{disk}", *argv) == EXIT_PERMANENT


def test_two_copies_to_one_target_do_not_run_at_once(tmp_path: Path, disk: Path, said: Said) -> None:
    with work_lock(tmp_path, 1, name="t.mtv-journal.lock"):
        assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t") == EXIT_VOLUME_HELD
    assert not (tmp_path / "t").exists()


def test_verify_names_offset_and_both_digests_of_every_wrong_block(tmp_path: Path, disk: Path, said: Said) -> None:
    target, journal = tmp_path / "t", tmp_path / "j"
    assert said("copy", "--source", f"file:{disk}", "--target", target, "--journal", journal) == EXIT_OK
    assert said("verify", "--target", target, "--journal", journal) == EXIT_OK
    assert (said.last["ok"], said.last["blocks_checked"]) == (True, 4)
    assert said.last["digest"] == digest_of_path(disk)
    right = journal.read_bytes()
    with target.open("r+b") as file:
        for offset in (6 * MIB, SIZE - 1):  # one in a hole, one in the last, short block
            file.seek(offset)
            file.write(b"\xa5")
    assert said("verify", "--target", target, "--journal", journal) == EXIT_PERMANENT
    assert (said.last["blocks_different"], said.last["ok"]) == (2, False)
    messages = [line["message"] for line in said.lines if line["event"] == "log"]
    assert [message.split(" (")[0] for message in messages] == [
        f"the block at {offset}" for offset in (4 * MIB, 12 * MIB)
    ]
    assert all(len(set(re.findall(r"\b[0-9a-f]{64}\b", message))) == 2 for message in messages)
    assert journal.read_bytes() == right


def test_verify_of_a_copy_that_was_not_finished_says_so(tmp_path: Path, disk: Path, said: Said) -> None:
    target, journal = tmp_path / "t", tmp_path / "j"
    assert said("copy", "--source", f"file:{disk}", "--target", target, "--journal", journal) == EXIT_OK
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size - RECORD_BYTES - 1)  # of the last block; behind it is the mark of the end
    assert said("verify", "--target", target, "--journal", journal) == EXIT_TEMPORARY
    assert said.last["blocks_unproven"] >= 1
    with target.open("r+b") as file:
        file.truncate(SIZE - 1)
    assert said("verify", "--target", target, "--journal", journal) == EXIT_PERMANENT
    assert said.last["failure"]["code"] == "source-truncated"


def test_verify_needs_a_true_journal(tmp_path: Path, disk: Path, said: Said) -> None:
    (tmp_path / "j").write_bytes(b"something else")
    assert said("verify", "--target", disk, "--journal", tmp_path / "j") == EXIT_PERMANENT
    assert said.last["failure"]["code"] == "journal"
    assert said("verify", "--target", disk, "--journal", tmp_path / "none") == EXIT_PERMANENT


def test_help_has_an_example_of_every_kind_of_source(capsys: pytest.CaptureFixture[str]) -> None:
    helped = {}
    for command in ("copy", "verify", "digest"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helped[command] = capsys.readouterr().out
        assert "example" in helped[command]
    for kind in {name.split("+")[0].rstrip("s") for name in SCHEMES}:
        assert kind in helped["copy"]


def test_on_a_terminal_a_copy_shows_a_bar_and_ends_with_a_sentence(tmp_path: Path, disk: Path) -> None:
    code, shown = moving.on_a_terminal("copy", "--source", f"file:{disk}", "--target", tmp_path / "t")
    assert code == EXIT_OK
    assert re.search(r"\[#{4,}\] 100%", shown)
    assert "root digest" in shown.splitlines()[-1]
    assert "{" not in shown


def test_a_copy_by_hand_reads_its_source_again_and_reserves_space_on_demand(
    tmp_path: Path, disk: Path, said: Said
) -> None:
    options = ("--verify-source", "--preallocate")
    assert said("copy", "--source", f"file:{disk}", "--target", tmp_path / "t", *options) == EXIT_OK
    assert said.last["proof"] == "re-read"
    assert (tmp_path / "t").stat().st_blocks * 512 >= SIZE
    assert said("verify", "--target", tmp_path / "t", "--journal", tmp_path / "t.mtv-journal") == EXIT_OK


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_has_no_size_has_no_digest_and_is_refused_by_name(tmp_path: Path, said: Said, kind: str) -> None:
    place = tmp_path / kind
    place.mkdir() if kind == "folder" else os.mkfifo(place)
    assert said("digest", place) == EXIT_PERMANENT
    assert f"{place} is neither a file nor a block device" in said.last["message"]


@pytest.mark.parametrize(("source", "journal"), [("none", "j"), ("notes", "notes")])
def test_a_copy_that_never_began_does_not_speak_of_a_journal_that_is_not_there(
    tmp_path: Path, source: str, journal: str
) -> None:
    (tmp_path / "notes").write_text("no journal")
    argv = ("--source", f"file:{tmp_path / source}", "--target", tmp_path / "t", "--journal", tmp_path / journal)
    code, shown = moving.on_a_terminal("copy", *argv)
    assert code == EXIT_PERMANENT
    assert shown.splitlines()[-1] == f"{tmp_path / 't'}: not copied"
