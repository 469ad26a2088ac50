"""What is refused before an appliance starts, what stops one, and what a pod's last words keep."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from mover.convert import accelerator, convert, guest, overlay, space, virt_v2v
from mover.convert.guest import Drive, Request
from mover.convert.preflight import preflight as look_into
from mover.convert.survey import shortage
from mover.failure import Interrupted
from mover.halt import Halt
from mover.termination import MAX_BYTES, termination_message
from mtv.kubevirt import claims
from mtv.model.conversion import (
    ConvertDisk,
    ConvertResult,
    ConvertSpec,
    GuestFilesystem,
    GuestScript,
    Inspection,
    LuksKey,
    Notice,
    PreflightResult,
)
from tests.kubevirt import values

MIB = 1 << 20


def disk_of(path: Path, *, size: int = MIB, start: bytes = b"") -> ConvertDisk:
    with path.open("wb") as out:
        out.write(start)
        out.truncate(size)
    return ConvertDisk(id=path.name, path=str(path), block=False, size_bytes=size, digest="d")


def spec_of(tmp_path: Path, *disks: ConvertDisk, **changes) -> ConvertSpec:
    work = tmp_path / "work"
    work.mkdir()
    return ConvertSpec(plan="p", run="r", vm="v", epoch=1, disks=disks, work_dir=str(work), **changes)


def refused(spec: ConvertSpec) -> ConvertResult:
    said: list[str] = []
    result = convert(spec, emit=lambda _: None, say=said.append, digest=lambda _: "", environ={"PATH": ""})
    assert not result.ok
    assert result.untouched
    assert said == [], "something was started"
    assert not list(Path(spec.work_dir).glob("overlay-*"))
    return result


@pytest.mark.parametrize(
    ("start", "changes", "code"),
    [
        (b"\xeb\x58\x90-FVE-FS-", {}, "bitlocker"),
        (b"LUKS\xba\xbe\0\1", {}, "encrypted"),
        (b"LUKS\xba\xbe\0\1", {"luks_keys": (LuksKey(file="nowhere"),)}, "luks-key"),
        (b"", {"scripts": (GuestScript(name="setup.sh", content=""),)}, "script-name"),
    ],
)
def test_a_hopeless_conversion_is_refused_before_anything_starts(tmp_path, start, changes, code):
    spec = spec_of(tmp_path, disk_of(tmp_path / "d", start=start), credentials_dir=str(tmp_path), **changes)
    failure = refused(spec).failure
    assert failure is not None
    assert failure.code == code
    assert failure.cure
    assert not failure.retryable


def test_a_work_volume_that_is_too_small_is_refused_with_the_numbers(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    size = free + (8 << 30)
    huge = ConvertDisk(id="0", path=str(tmp_path / "none"), block=False, size_bytes=size, digest="d")
    failure = refused(spec_of(tmp_path, huge)).failure
    assert failure is not None
    assert failure.code == "work-volume-small"
    assert f"can need {-(-(space.worst_case_bytes([huge]) + 32 * MIB) // MIB)} MiB" in failure.message
    assert "MiB more" in failure.cure


@pytest.mark.parametrize("size", [1, 65536, MIB, 10**12])
def test_an_overlay_is_counted_as_the_claims_count_it(size):
    boot = values.disk(size_bytes=size)
    asked = [claims.work_bytes([boot], boot.id, converts=converts) for converts in (True, False)]
    disk = ConvertDisk(id="0", path="", block=False, size_bytes=size, digest="")
    assert space.worst_case_bytes([disk]) == asked[0] - asked[1]


def test_a_real_overlay_with_every_cluster_written_is_within_its_worst_case(tmp_path):
    disk = disk_of(tmp_path / "d", size=24 * MIB + 512)
    (image,) = overlay.create(tmp_path, [disk])
    command = f"write -q -P 1 0 {disk.size_bytes}"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(image)], check=True, capture_output=True)
    assert disk.size_bytes < image.stat().st_size <= space.worst_case_bytes([disk])


def never_ending(folder: Path) -> Path:
    """A program whose child never ends by itself; the child is known by the file `never` among its arguments."""
    (folder / "never").touch()
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntail -f {folder}/never\necho ended\n")
    program.chmod(0o755)
    return program


def is_alive(argument: str) -> bool:
    """Whether any process has this argument; one that was just killed gets a moment to be gone."""
    for _ in range(100):
        done = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True)
        found = [line for line in done.stdout.splitlines() if argument in line and not line.startswith("Z")]
        if not found:
            return False
        time.sleep(0.05)
    return True


def test_a_wish_to_stop_ends_the_look_into_a_guest(tmp_path):
    disk = disk_of(tmp_path / "disk.img")
    halt = Halt()
    halt.set()
    request = Request(drives=(Drive(path=disk.path),))
    appliance = tmp_path / "appliance"
    appliance.mkdir()
    for name in ("README.fixed", "kernel", "initrd", "root"):
        (appliance / name).touch()
    env = dict(os.environ) | {
        "TMPDIR": str(tmp_path),
        "LIBGUESTFS_PATH": str(appliance),
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_HV": str(never_ending(tmp_path)),
    }
    with pytest.raises(Interrupted):
        guest.visit(request, env=env, log=tmp_path / "log", halt=halt)
    assert not is_alive(f"{tmp_path}/never")


def test_a_conversion_whose_time_is_over_ends_before_its_commit_with_the_disks_as_they_were(tmp_path):
    disk = disk_of(tmp_path / "d", start=b"as it was copied")
    before = Path(disk.path).read_bytes()
    spec = spec_of(tmp_path, disk, timeout_s=0.0)
    result = convert(spec, emit=lambda _: None, say=lambda _: None, digest=lambda _: "", environ={"PATH": ""})
    assert result.failure is not None
    assert result.failure.code == "conversion-timeout"
    assert Path(disk.path).read_bytes() == before
    assert overlay.read_journal(Path(spec.work_dir)) is None
    assert not list(Path(spec.work_dir).glob("overlay-*"))


@pytest.mark.parametrize(("memory_mb", "said"), [(0, None), (3000, "1500")])
def test_the_appliance_has_the_memory_that_the_spec_allows(tmp_path, memory_mb, said):
    """virt-v2v itself doubles what libguestfs is told."""
    env = accelerator.environment({"PATH": "/bin"}, "tcg", scratch=tmp_path, memory_mb=memory_mb)
    assert env.get("LIBGUESTFS_MEMSIZE") == said
    assert env["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
    assert "LIBGUESTFS_BACKEND_SETTINGS" not in accelerator.environment({}, "kvm", scratch=tmp_path)


@pytest.mark.parametrize(
    ("given", "chosen", "wanted"),
    [
        ({}, "tcg", "norandmaps"),
        ({"LIBGUESTFS_APPEND": "quiet"}, "tcg", "quiet norandmaps"),
        ({"LIBGUESTFS_APPEND": "quiet"}, "kvm", "quiet"),
        ({}, "kvm", None),
    ],
)
def test_an_emulated_appliance_has_its_programs_at_fixed_addresses_beside_what_the_user_asks_for(
    tmp_path, given, chosen, wanted
):
    assert accelerator.environment(given, chosen, scratch=tmp_path).get("LIBGUESTFS_APPEND") == wanted


@pytest.mark.parametrize("how", ["time", "halt"])
def test_a_run_that_must_end_is_ended_with_all_its_children(tmp_path, how):
    halt = Halt()
    if how == "halt":
        halt.set()
    report = virt_v2v.run(
        [str(never_ending(tmp_path))],
        env=dict(os.environ),
        log=tmp_path / "log",
        on_message=lambda _: None,
        timeout_s=1.0 if how == "time" else 600,
        halt=halt,
    )
    assert report.exit_code
    assert report.timed_out == (how == "time")
    assert not is_alive(f"{tmp_path}/never")


def program_that_leaves_a_child(folder: Path, child: str, *, exit_code: int) -> list[str]:
    """A program that ends while its child still holds the pipe of its messages, as virt-v2v does with qemu-nbd."""
    (folder / "never").touch()
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{child} &\nexit {exit_code}\n")
    program.chmod(0o755)
    return [str(program)]


def report_of(argv: list[str], folder: Path, *, timeout_s: float) -> virt_v2v.Report:
    return virt_v2v.run(argv, env=dict(os.environ), log=folder / "log", on_message=lambda _: None, timeout_s=timeout_s)


def test_a_run_that_failed_is_over_though_a_child_of_it_lives_on(tmp_path):
    argv = program_that_leaves_a_child(tmp_path, f"tail -f {tmp_path}/never", exit_code=1)
    report = report_of(argv, tmp_path, timeout_s=60)
    assert (report.exit_code, report.timed_out) == (1, False)
    assert not is_alive(f"{tmp_path}/never")


def test_a_run_that_succeeded_is_over_when_its_children_have_written_what_they_hold(tmp_path):
    argv = program_that_leaves_a_child(tmp_path, f"(sleep 1.5; echo flushed >{tmp_path}/written)", exit_code=0)
    report = report_of(argv, tmp_path, timeout_s=600)
    assert (report.exit_code, report.timed_out) == (0, False)
    assert (tmp_path / "written").read_text() == "flushed\n"


def test_a_run_whose_children_were_cut_off_while_writing_has_not_succeeded(tmp_path):
    argv = program_that_leaves_a_child(tmp_path, f"tail -f {tmp_path}/never", exit_code=0)
    report = report_of(argv, tmp_path, timeout_s=1)
    assert report.timed_out
    assert report.exit_code
    assert not is_alive(f"{tmp_path}/never")


def test_a_look_that_cannot_start_its_appliance_is_a_failure_that_a_retry_may_help(tmp_path):
    disk = disk_of(tmp_path / "disk.img")
    env = dict(os.environ) | {"TMPDIR": str(tmp_path), "LIBGUESTFS_PATH": str(tmp_path / "none")}
    answer = guest.visit(Request(drives=(Drive(path=disk.path),)), env=env, log=tmp_path / "log")
    assert answer.failure is not None
    assert answer.failure.cure


def filesystem(point: str, free: int, inodes: int = 1000) -> GuestFilesystem:
    return GuestFilesystem(
        device="/dev/x", mountpoint=point, size_bytes=1 << 40, free_bytes=free * MIB, inodes_free=inodes
    )


@pytest.mark.parametrize(
    ("kind", "filesystems", "code"),
    [
        ("linux", [filesystem("/", 50)], ""),
        ("linux", [filesystem("/", 49)], "guest-disk-full"),
        ("linux", [filesystem("/", 20), filesystem("/boot", 50)], ""),
        ("linux", [filesystem("/", 20), filesystem("/boot", 49)], "guest-disk-full"),
        ("linux", [filesystem("/", 60), filesystem("/data", 9)], "guest-disk-full"),
        ("linux", [filesystem("/", 60, inodes=99)], "guest-inodes-full"),
        ("linux", [filesystem("/", 60, inodes=-1)], ""),
        ("windows", [filesystem("/", 99)], "guest-disk-full"),
        ("windows", [filesystem("/", 100)], ""),
    ],
)
def test_full_filesystems_are_told_by_virt_v2v_s_limits(kind, filesystems, code):
    failure = shortage(Inspection(type=kind, filesystems=tuple(filesystems)))
    assert (failure.code if failure else "") == code


def preflight(*arguments: str) -> tuple[int, dict]:
    argv = [sys.executable, "-m", "mover", "preflight", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_preflight_refuses_a_disk_in_no_time_and_by_the_codes_of_a_conversion(tmp_path):
    disk = disk_of(tmp_path / "d", start=b"\xeb\x58\x90-FVE-FS-")
    code, result = preflight("--disk", disk.path)
    assert code == 10
    assert result["failure"]["code"] == "bitlocker"
    assert "manage-bde" in result["failure"]["cure"]


def test_preflight_reads_an_nbd_source(tmp_path):
    disk = disk_of(tmp_path / "d", start=b"LUKS\xba\xbe\0\1")
    socket = tmp_path / "s"
    server = subprocess.Popen(["nbdkit", "-f", "-r", "-U", str(socket), "file", disk.path])
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        code, result = preflight("--source", f"nbd+unix:///?socket={socket}")
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert (code, result["failure"]["code"]) == (10, "encrypted")


def test_preflight_does_not_wait_for_ever_for_a_source_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr("mover.sources.nbd.STALL_S", 0.3)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        result = look_into([f"nbd+unix:///?socket={tmp_path}/s"], say=lambda _: None)
    assert (result.failure.code, result.failure.retryable) == ("source-stalled", True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--disk", "/nowhere/d"], "target-missing"), (["--source", "https://host/x"], "source-unsupported")],
)
def test_preflight_says_what_it_cannot_read(tmp_path, arguments, code):
    assert preflight(*arguments)[1]["failure"]["code"] == code


def test_a_termination_message_keeps_as_much_of_the_inspection_as_fits():
    found = Inspection(distro="debian", applications=tuple(f"package-{n} 1.0" for n in range(500)), complete=True)
    notices = tuple(Notice(code=f"c{n}", message="m" * 150, cure="c" * 150) for n in range(3))
    for result in (
        ConvertResult(ok=True, inspection=found, notices=notices),
        PreflightResult(ok=True, inspection=found),
    ):
        message = termination_message(result)
        assert len(message) <= MAX_BYTES
        back = msgspec.json.decode(message, type=type(result))
        assert back.inspection == msgspec.structs.replace(found, applications=(), applications_left_out=500)
        assert back.notices == result.notices


@pytest.mark.parametrize("kind", [ConvertResult, PreflightResult])
def test_a_termination_message_fits_whatever_was_found(kind):
    found = Inspection(filesystems=tuple(filesystem(f"/mnt/{n}", n) for n in range(200)))
    notices = tuple(Notice(code=f"c{n}", message="m" * 500) for n in range(50))
    message = termination_message(kind(ok=True, inspection=found, notices=notices))
    assert len(message) <= MAX_BYTES
    assert msgspec.json.decode(message, type=kind).ok
