"""The command as pods and people use it: exit codes, JSON lines, messages that fit, help that helps."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lab.state import PYTHON_PATH
from mover.cli import main
from mover.events import MAX_LINE_BYTES, Events
from mover.failure import EXIT_OK, EXIT_PERMANENT, EXIT_TEMPORARY, EXIT_VOLUME_HELD, exit_code_of
from mover.measure import digest_of_path
from mover.progress import bar_line
from mover.sources.nbd_module import find_nbd
from mover.termination import MAX_BYTES, termination_message
from mover.worklock import work_lock
from mtv.model.conversion import ConvertResult, ConvertSpec
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskResult, Failure, OvaMember, Progress, Proof, TransferResult, TransferSpec
from tests.mover import moving

SIZE = 9 * moving.MIB


@pytest.fixture
def spec(tmp_path: Path) -> TransferSpec:
    disk = moving.make_disk(tmp_path / "s", SIZE, [(0, moving.MIB)])
    member = OvaMember(path=str(disk), offset=0, length=SIZE, format="raw")
    return moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / "t"))


def call(tmp_path: Path, spec: TransferSpec, *extra: str) -> int:
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode(spec))
    return main(["transfer", "--spec", str(tmp_path / "spec.json"), *extra])


def test_a_transfer_ends_with_a_result_line_a_message_and_a_file(
    tmp_path: Path, spec: TransferSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, spec, "--termination-log", str(tmp_path / "message")) == EXIT_OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "result"
    assert {line["event"] for line in lines[:-1]} == {"progress"}
    assert [line["phase"] for line in lines if line["event"] == "progress"][-1] == "done"
    message = msgspec.json.decode((tmp_path / "message").read_bytes(), type=TransferResult)
    kept = msgspec.json.decode((tmp_path / "w" / "transfer-result.json").read_bytes(), type=TransferResult)
    assert message == kept
    assert message.disks[0].digest == digest_of_path(tmp_path / "s")


def test_a_held_volume_gives_its_own_exit_code(tmp_path: Path, spec: TransferSpec) -> None:
    with work_lock(tmp_path / "w", spec.epoch):
        assert call(tmp_path, spec) == EXIT_VOLUME_HELD
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"disks": ()}, "needs disks"),
        ({"epoch": "x"}, "epoch"),
        ({"disks": "twice"}, "there twice"),
    ],
    ids=["no-disks", "wrong-type", "same-disk-twice"],
)
def test_a_wrong_spec_is_told_and_is_permanent(
    tmp_path: Path, spec: TransferSpec, change: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if change == {"disks": "twice"}:
        change = {"disks": spec.disks * 2}
    assert call(tmp_path, msgspec.structs.replace(spec, **change)) == EXIT_PERMANENT
    assert words in capsys.readouterr().out


def test_exit_codes_tell_whether_a_retry_helps() -> None:
    codes = [None, Failure(code="x", message=""), Failure(code="x", message="", retryable=True)]
    assert [exit_code_of(code) for code in codes] == [EXIT_OK, EXIT_PERMANENT, EXIT_TEMPORARY]
    assert exit_code_of(Failure(code="volume-held", message="", retryable=True)) == EXIT_VOLUME_HELD


def test_every_command_has_help_with_an_example_or_its_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("transfer", "convert", "digest", "preflight-block"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert "example" in said or "exit codes" in said


@pytest.mark.parametrize(("command", "spec"), [("transfer", TransferSpec), ("convert", ConvertSpec)])
def test_the_spec_in_the_help_is_a_spec(
    command: str, spec: type[TransferSpec | ConvertSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    example = said[said.index('{"plan"') : said.index("}]}") + 3]
    assert msgspec.json.decode(example, type=spec).vm == "web-1"


def test_digest_prints_the_digest_of_a_file_and_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = moving.make_disk(tmp_path / "d", SIZE, [(5, 5)])
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        assert (main(["digest", str(disk)]), main(["digest", uri])) == (EXIT_OK, EXIT_OK)
    assert capsys.readouterr().out.split() == [digest_of_path(disk)] * 2
    assert main(["digest", str(tmp_path / "none")]) == EXIT_PERMANENT


def test_preflight_proves_a_device_and_leaves_it_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    back = moving.make_disk(tmp_path / "back", SIZE, [(0, SIZE)])
    before = back.read_bytes()
    found = subprocess.run(["losetup", "--find", "--show", back], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no loop devices here: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        assert main(["preflight-block", device]) == EXIT_OK
        said = json.loads(capsys.readouterr().out)
        assert (said["ok"], said["size_bytes"], said["uid"]) == (True, SIZE, os.geteuid())
        subprocess.run(["losetup", "--detach", device], check=True)
        subprocess.run(["losetup", "--read-only", device, back], check=True)
        assert main(["preflight-block", device]) == EXIT_PERMANENT
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert back.read_bytes() == before


def test_preflight_refuses_what_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert main(["preflight-block", str(tmp_path / "file")]) == EXIT_PERMANENT
    assert main(["preflight-block", str(tmp_path / "nothing")]) == EXIT_PERMANENT


def test_a_preflight_of_another_user_says_who_may_not(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    found = subprocess.run(
        ["losetup", "--find", "--show", moving.make_disk(tmp_path / "b", SIZE, [])], capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip("no loop devices here")
    search = os.pathsep.join([PYTHON_PATH, str(Path(msgspec.__file__).parents[1])])
    device = found.stdout.strip()
    try:
        ran = subprocess.run(
            ["/usr/bin/python3", "-m", "mover", "preflight-block", device],
            env={"PYTHONPATH": search, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            user=107,
            group=107,
            extra_groups=[],
            cwd="/",
        )
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    if "No module named" in ran.stderr or "Permission denied" in ran.stderr:
        pytest.skip("this user cannot read the mover's own files here")
    assert ran.returncode == EXIT_PERMANENT, ran.stderr
    said = json.loads(ran.stdout)
    assert said["code"] == "target-denied"
    assert "user 107, group 107" in said["message"]


def disks(count: int) -> tuple[DiskResult, ...]:
    return tuple(
        DiskResult(
            id=f"disk-{n}",
            size_bytes=1 << 40,
            bytes_data=1 << 39,
            bytes_read=1 << 39,
            digest="a" * 64,
            proof=Proof.SOURCE_CHECKED,
            source_digest="sha256:" + "b" * 64,
            seconds=12345.678,
        )
        for n in range(count)
    )


@pytest.mark.parametrize("count", [1, 11, 12, 16, 17, 64])
def test_a_termination_message_always_fits_and_says_what_it_left_out(count: int) -> None:
    failure = Failure(code="x", message="m" * 5000, cure="c" * 5000)
    for result in (TransferResult(ok=True, disks=disks(count)), TransferResult(ok=False, failure=failure)):
        message = termination_message(result)
        assert len(message) <= MAX_BYTES
        back = msgspec.json.decode(message, type=TransferResult)
        assert back.disks == result.disks[: len(back.disks)]  # whole: half a disk would pass for all of its evidence
        assert len(back.disks) + back.disks_left_out == len(result.disks)
    long = ConvertResult(ok=True, warnings=tuple("w" * 300 for _ in range(40)))
    assert len(termination_message(long)) <= MAX_BYTES


def test_no_line_is_longer_than_a_log_reader_takes() -> None:
    stream = io.StringIO()
    events = Events(stream)
    events.log("x" * 10000)
    events.error(Failure(code="c", message="y" * 10000))
    events.result(TransferResult(ok=True, disks=disks(64)))
    for line in stream.getvalue().splitlines():
        assert len(line.encode()) < MAX_LINE_BYTES
        json.loads(line)


def test_a_terminal_gets_bars_instead_of_json(tmp_path: Path, spec: TransferSpec) -> None:
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode(spec))
    code, said = moving.on_a_terminal("transfer", "--spec", tmp_path / "spec.json")
    assert code == EXIT_OK
    assert re.search(r"\[#{4,}\] 100%", said)
    assert '"event"' not in said


def test_a_bar_says_how_long_it_will_take() -> None:
    reading = Progress(disk="web-1", phase="copy", bytes_done=50, bytes_total=100, rate_bytes_per_s=2e6, eta_s=3700)
    assert "50%" in bar_line(reading)
    assert "1:01:40 left" in bar_line(reading)


@pytest.mark.parametrize("columns", [40, 80, 99, 100, 200])
def test_a_bar_never_wraps_and_at_80_columns_says_all(columns: int) -> None:
    reading = Progress(
        disk="a-name-of-a-disk-that-is-long", phase="verify", bytes_done=5 << 40, bytes_total=9 << 40,
        rate_bytes_per_s=1.2e9, eta_s=36000,
    )  # fmt: skip
    line = bar_line(reading, columns)
    assert len(line) < columns
    assert line.endswith("10:00:00 left") == (columns >= 80)


@pytest.mark.parametrize("phase", ["done", "failed"])
def test_the_bar_of_a_disk_that_has_ended_tells_no_rate(phase: str) -> None:
    reading = Progress(disk="0", phase=phase, bytes_done=1 << 30, bytes_total=1 << 30, rate_bytes_per_s=0, eta_s=None)
    assert bar_line(reading).endswith("1074 MB")


def test_a_python_that_libnbd_is_not_built_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nbd.py").touch()
    (tmp_path / "libnbdmod.cpython-36-x86_64-linux-gnu.so").touch()
    monkeypatch.setitem(sys.modules, "nbd", None)  # what an environment without libnbd looks like
    with pytest.raises(PermanentError, match="cpython-36") as caught:
        find_nbd.__wrapped__(tmp_path)
    assert caught.value.code == "libnbd-missing"
