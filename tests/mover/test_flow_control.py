"""Flow control: how fast, how much at once, how long to wait; shared by all disks of a pod."""

from __future__ import annotations

import signal
import socket
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.budget import FIRST_DISK_BLOCKS, FURTHER_DISK_BLOCKS, Budget, Depth
from mover.cli import main
from mover.failure import EXIT_OK, EXIT_PERMANENT
from mover.feed import MAX_ATTEMPTS, Patience
from mover.flow import TokenBucket, check_limits, governor_of, offset_at, window_rate
from mover.geometry import Extent
from mover.halt import Halt
from mover.metrics import MetricsServer, metrics_text
from mover.sources import nbd
from mover.sources.base import ReadRequest
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.rates import parse_rate
from mtv.model.transfer import LimitWindow, Progress, TransferSpec
from tests.mover import moving
from tests.mover.moving import MIB

DAY = LimitWindow(start="08:00", end="18:00", bytes_per_s=1)
NIGHT = LimitWindow(start="22:30", end="06:00", bytes_per_s=2)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("0", 0), ("off", 0), ("100M", 10**8), ("1.5GiB/s", 3 << 29), (" 64k\n", 64_000), ("12b", 12), ("2 MiB", 2 << 20)],
)
def test_rates_are_read_as_people_write_them(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "-1", "fast", "1T", "1M M", "1e9"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match="not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("utc", "offset_min", "rate"),
    [("07:59", 0, None), ("08:00", 0, 1), ("18:00", 0, None), ("22:30", 0, 2), ("05:59", 0, 2), ("07:00", 60, 1)],
)
def test_windows_follow_the_clock_of_their_own_offset(utc: str, offset_min: int, rate: int | None) -> None:
    now = datetime.fromisoformat(f"2026-11-25T{utc}+00:00").astimezone(UTC)
    assert window_rate((DAY, NIGHT), now, offset_min) == rate


def test_windows_follow_the_clock_over_its_change(tmp_path: Path) -> None:
    change = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # Berlin: 03:00 becomes 02:00
    spec = msgspec.structs.replace(
        moving.spec_of(tmp_path / "w"),
        limits_utc_offset_min=120,
        limits_offset_changes=((int(change.timestamp()), 60),),
    )
    seven_in_summer, seven_in_winter = (
        datetime(2026, 10, 24, 5, 0, tzinfo=UTC),
        datetime(2026, 10, 25, 6, 0, tzinfo=UTC),
    )
    window = (LimitWindow(start="07:00", end="19:00", bytes_per_s=1),)
    for seven in (seven_in_summer, seven_in_winter):
        just_before = seven - timedelta(minutes=1)
        assert window_rate(window, seven, offset_at(spec, seven)) == 1
        assert window_rate(window, just_before, offset_at(spec, just_before)) is None


@pytest.mark.parametrize("clock", ["24:00", "8:00", "noon", ""])
def test_a_window_without_a_clock_time_is_refused(tmp_path: Path, clock: str) -> None:
    window = LimitWindow(start=clock, end="10:00", bytes_per_s=1)
    with pytest.raises(PermanentError, match="time of day"):
        check_limits(msgspec.structs.replace(moving.spec_of(tmp_path / "w"), limits=(window,)))


def test_windows_are_named_from_to_and_rate_in_a_spec() -> None:
    raw = b'{"from": "08:00", "to": "18:00", "rate": 1}'
    assert msgspec.json.decode(raw, type=LimitWindow) == DAY


@given(st.lists(st.integers(1, 4 * MIB), min_size=20, max_size=60), st.integers(10**6, 10**9))
def test_a_bucket_lets_through_its_rate_and_no_more(counts: list[int], rate: int) -> None:
    now = 0.0
    bucket = TokenBucket(rate, clock=lambda: now)
    for count in counts:
        before = bucket.ready_in()
        now += before
        bucket.take(count, Halt())
    assert sum(counts[:-1]) <= now * rate + rate / 4 + 4 * MIB


def test_takers_are_served_in_turn_and_feel_a_new_rate_at_once() -> None:
    bucket, served = TokenBucket(1), list[int]()

    def take(number: int) -> None:
        bucket.take(1000, Halt())
        served.append(number)

    threads = []
    bucket.take(1000, Halt())  # the burst; from here on everybody would wait for a quarter of an hour
    for number in range(4):
        threads.append(threading.Thread(target=take, args=(number,)))
        threads[-1].start()
        moving.wait_for(lambda number=number: bucket.waiting == number + 1, "the taker")  # type: ignore[misc]
    bucket.set_rate(10**9)
    for thread in threads:
        thread.join(timeout=300)
    assert served == [0, 1, 2, 3]


def test_who_waits_for_the_bucket_ends_when_told_to_stop() -> None:
    bucket, halt = TokenBucket(1), Halt()
    bucket.take(10**6, halt)
    thread = threading.Thread(target=bucket.take, args=(1, halt))
    thread.start()
    halt.set()
    thread.join(timeout=300)
    assert not thread.is_alive()


def limited(tmp_path: Path, **changes: object) -> TransferSpec:
    return msgspec.structs.replace(moving.spec_of(tmp_path / "w"), **changes)


def test_the_limit_file_overrides_the_spec_while_it_runs_and_nonsense_in_it_changes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    always = LimitWindow(start="00:00", end="00:00", bytes_per_s=7)
    with governor_of(limited(tmp_path, limit_bytes_per_s=5, limits=(always,)), said.append) as governor:
        assert governor.bucket.rate == 7
        (tmp_path / "w" / "limit").write_text("3M")
        moving.wait_for(lambda: governor.bucket.rate == 3_000_000, "the new rate")
        (tmp_path / "w" / "limit").write_text("very fast")
        moving.wait_for(lambda: any("not a rate" in line for line in said), "the complaint")
        assert governor.bucket.rate == 3_000_000
        (tmp_path / "w" / "limit").write_text("off")
        moving.wait_for(lambda: governor.bucket.rate == 0, "no limit")
        (tmp_path / "w" / "limit").unlink()
        moving.wait_for(lambda: governor.bucket.rate == 7, "the spec's window")


def test_a_limit_holds_for_all_disks_together_and_can_be_lifted_under_way(tmp_path: Path) -> None:
    size = 16 * MIB
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        disks = [moving.disk_of(uri, size, tmp_path / f"t{n}", id=str(n)) for n in range(2)]
        # At 100 kB/s the two would take more than five minutes.
        with moving.running_mover(tmp_path, moving.spec_of(tmp_path / "w", *disks), "--limit", "100K") as mover:
            moving.wait_for((tmp_path / "w" / "journal-1.bin").exists, "the start")
            mover.send_signal(signal.SIGHUP)
            (tmp_path / "w" / "limit").write_text("off")
            said, _ = mover.communicate(timeout=300)
    assert mover.returncode == 0, said
    assert "at most 0.1 MB/s" in said
    assert "without a limit" in said


def test_the_limit_of_a_copy_by_hand_can_be_lifted_under_way(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", 8 * MIB, [(0, 8 * MIB)])
    (tmp_path / "t.mtv-journal.limit").write_text("1K")  # more than two hours
    lift = threading.Thread(target=lambda: lift_when_begun(tmp_path))
    lift.start()
    assert main(["copy", "--source", f"file:{source}", "--target", str(tmp_path / "t"), "--limit", "2K"]) == EXIT_OK
    lift.join()
    assert moving.same_bytes(source, tmp_path / "t", 8 * MIB)


def lift_when_begun(folder: Path) -> None:
    moving.wait_for((folder / "t.mtv-journal").exists, "the start")
    (folder / "t.mtv-journal.limit").write_text("off")


def test_depth_climbs_while_it_helps_and_halves_when_the_source_complains() -> None:
    def rounds(depth: Depth, rate_of: dict[int, float], count: int) -> None:
        nonlocal now
        for _ in range(count * (Depth.ROUND_BLOCKS + 1)):
            now += 1 / rate_of[depth.allowed]
            depth.arrived(1, now)

    now = 0.0
    depth = Depth(2, 6)
    rounds(depth, {2: 1, 3: 2, 4: 4, 5: 4, 6: 4}, 12)
    assert depth.allowed == 4
    depth.complained()
    assert depth.allowed == 2
    depth.complained()
    depth.complained()
    assert depth.allowed == 1
    assert depth.begin()
    assert not depth.begin()
    rounds(depth, {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}, 12)
    assert depth.allowed == 6


def test_memory_goes_to_whoever_asks_and_every_lane_has_its_first_block() -> None:
    budget = Budget(disks_at_once=3)
    whole = FIRST_DISK_BLOCKS + 2 * FURTHER_DISK_BLOCKS
    blocks = [block for _ in range(whole) if (block := budget.another_block()) is not None]
    assert len(blocks) == whole
    assert budget.another_block() is None
    first = budget.first_block()
    budget.give_back(blocks.pop())
    assert budget.another_block() is None  # the overdraft is paid first
    budget.give_back(first)
    assert budget.another_block() is not None


@pytest.mark.parametrize(("limit", "granted"), [(1, [1, 1, 1, 1]), (5, [2, 1, 1, 1]), (8, [3, 3, 1, 1])])
def test_connections_are_shared_every_disk_has_one_and_together_they_keep_to_the_limit(
    limit: int, granted: list[int]
) -> None:
    budget = Budget(disks_at_once=4, connections=limit)
    assert [budget.connections(3) for _ in range(4)] == granted
    for _ in range(sum(granted) - 4):
        budget.give_back_connection()
    assert budget.connections(3) == granted[0]


def test_patience_waits_longer_each_time_never_the_same_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Halt, "wait", lambda _halt, pause: pauses.append(pause))  # time itself is not waited for
    lost = TemporaryError("lost", code="source-lost")
    for _ in range(2):
        patience = Patience(Halt(), lambda _message: None)
        for _ in range(MAX_ATTEMPTS - 1):
            patience.endure(lost)
        with pytest.raises(TemporaryError) as raised:
            patience.endure(lost)
        assert (raised.value.code, raised.value.retryable) == ("source-lost", True)
    one, other = pauses[: MAX_ATTEMPTS - 1], pauses[MAX_ATTEMPTS - 1 :]
    assert one == sorted(one)
    assert one != other


@pytest.mark.parametrize("is_frozen", [False, True], ids=["accepts-and-is-silent", "stops-answering"])
def test_a_server_that_hangs_is_noticed_and_let_go(
    tmp_path: Path, is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nbd.STALL_S < 60
    monkeypatch.setattr(nbd, "STALL_S", 1.0)
    monkeypatch.setattr(nbd, "_GOODBYE_S", 0.5)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with moving.nbdkit(tmp_path, "--filter=delay", "memory", str(MIB), "rdelay=600") as slow:
            with pytest.raises(TemporaryError) as raised:
                read_a_sector(slow if is_frozen else f"nbd+unix:///?socket={tmp_path}/silent")
            assert (raised.value.code, raised.value.retryable) == ("source-stalled", True)


def read_a_sector(uri: str) -> None:
    reader = nbd.NbdSource(uri).open_reader()
    request = ReadRequest(memoryview(bytearray(512)), 0, [Extent(0, 512)])
    try:
        reader.begin(request)
        reader.complete(request)
    finally:
        reader.close()


READINGS = [
    Progress(disk='a"\\\n', phase="copy", bytes_done=5, bytes_total=10, rate_bytes_per_s=2.5, eta_s=2.0),
    Progress(disk="b", phase="scan"),
]


def test_the_metrics_page_tells_every_disk_with_its_name_escaped() -> None:
    lines = metrics_text(READINGS).splitlines()
    assert 'mtv_mover_bytes_done{disk="a\\"\\\\\\n"} 5' in lines
    assert 'mtv_mover_phase{disk="b",phase="scan"} 1' in lines
    assert [line for line in lines if line.startswith("mtv_mover_eta")] == [
        'mtv_mover_eta_seconds{disk="a\\"\\\\\\n"} 2.0'
    ]


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    "where", ["::1:0", "[::1]:0"]
)  # as the address of a pod is put before a port, and as people do
def test_metrics_are_served_at_an_address_of_ipv6(where: str) -> None:
    with MetricsServer(where, lambda: READINGS) as server:
        assert server.address[0] == "::1"
        with urllib.request.urlopen(f"http://[::1]:{server.address[1]}/metrics", timeout=300) as answer:
            assert answer.read().decode() == metrics_text(READINGS)


def test_metrics_are_served_on_loopback_and_on_a_socket_while_the_block_runs(tmp_path: Path) -> None:
    with MetricsServer("0", lambda: READINGS) as server:
        host, port = server.address
        assert host == "127.0.0.1"
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=300) as answer:
            assert answer.read().decode() == metrics_text(READINGS)
    with MetricsServer(str(tmp_path / "m"), lambda: READINGS), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(tmp_path / "m"))
        client.sendall(b"GET /nothing HTTP/1.0\r\n\r\n")
        assert b" 404 " in client.recv(200)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("where", "code"), [("x", "metrics"), ("70000", "metrics"), ("/no/folder/m", "metrics-missing")]
)
def test_a_place_where_nobody_can_listen_is_refused(where: str, code: str) -> None:
    with pytest.raises(PermanentError) as refused:
        MetricsServer(where, lambda: [])
    assert refused.value.code == code


def test_a_transfer_serves_its_progress_while_it_runs(tmp_path: Path) -> None:
    size = 8 * MIB
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))
        limits = ("--limit", "1K", "--metrics", str(tmp_path / "m"))
        with moving.running_mover(tmp_path, spec, *limits) as mover:
            moving.wait_for((tmp_path / "m").exists, "the socket")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(str(tmp_path / "m"))
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                page = b""
                while piece := client.recv(65536):
                    page += piece
            assert b'mtv_mover_bytes_total{disk="0"}' in page
            mover.terminate()
            mover.communicate(timeout=300)
    assert mover.returncode == 11


def test_disks_that_start_together_load_what_they_need_once(tmp_path: Path) -> None:
    """In a process of its own: here libnbd's module has long been loaded."""
    size = MIB
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        disks = [moving.disk_of(uri, size, tmp_path / f"t{n}", id=str(n)) for n in range(4)]
        for epoch in range(1, 4):
            with moving.running_mover(tmp_path, moving.spec_of(tmp_path / "w", *disks, epoch=epoch)) as mover:
                said, _ = mover.communicate(timeout=300)
            assert mover.returncode == 0, said


def test_a_copy_by_hand_keeps_to_its_limit_and_refuses_what_is_none(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", MIB, [(0, MIB)])
    argv = ["copy", "--source", f"file:{source}", "--target", str(tmp_path / "t"), "--limit"]
    assert main([*argv, "quick"]) == EXIT_PERMANENT
    assert not (tmp_path / "t").exists()
    assert main([*argv, "1G"]) == EXIT_OK
    assert moving.same_bytes(source, tmp_path / "t", MIB)
