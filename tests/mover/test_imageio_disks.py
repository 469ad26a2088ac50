"""Disks out of oVirt: the real ovirt-imageio daemon before real NBD servers, and an engine that makes transfers."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ovirtsdk4 import types

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, LabDisk, ThinEngine
from lab.ovirt.imageio import ImageioDaemon
from mover.control.controls import Controls
from mover.geometry import Extent
from mover.measure import digest_of_path
from mover.sources.base import ReadRequest
from mover.sources.imageio import ImageioSource, _ImageioReader, areas_in, joined_over_gaps
from mover.sources.imageio_http import ImageioConnection
from mover.sources.uri import UriOptions, source_of
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.transfer import ImageioDisk, OvirtDisk, Proof
from tests.mover import moving
from tests.mover.moving import MIB

pytestmark = pytest.mark.lab
SIZE = 40 * MIB + 4096
AREAS = [(0, 9 * MIB), (13 * MIB + 512, 70000), (13 * MIB + 150000, 4096), (SIZE - 5000, 5000)]
PASSWORD = "canary-Passw0rd"


class Ovirt(msgspec.Struct):
    """A daemon and an engine, a disk, and a folder with the credential files of a pod."""

    engine: ThinEngine
    daemon: ImageioDaemon
    original: Path
    secrets: Path

    def transfer(self, socket: Path, *, timeout_s: int = 300, dirty: bool = False) -> ImageioDisk:
        """A transfer that somebody made: its URL."""
        ticket = str(uuid.uuid4())
        self.daemon.add_ticket(ticket, SIZE, socket, timeout_s=timeout_s, dirty=dirty)
        return ImageioDisk(url=self.daemon.url_of(ticket))

    def disk(self, socket: Path, name: str = "d1") -> OvirtDisk:
        """A disk of the engine."""
        self.engine.disks[name] = LabDisk(SIZE, socket)
        return OvirtDisk(host="127.0.0.1", port=self.engine.port, disk=name)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovirt]:
    folder = tmp_path_factory.mktemp("ovirt")
    authority = Authority.create(folder / "pki")
    (folder / "secrets").mkdir()
    for name, text in (("user", USER), ("password", PASSWORD), ("ca.pem", authority.certificate.read_text())):
        (folder / "secrets" / name).write_text(text)
    daemon = ImageioDaemon(folder, authority)
    engine = ThinEngine(authority, daemon, PASSWORD)
    original = moving.make_disk(folder / "original.img", SIZE, AREAS)
    daemon.start()
    try:
        engine.start()
        yield Ovirt(engine, daemon, original, folder / "secrets")
        engine.stop()
    finally:
        daemon.stop()


@pytest.fixture
def ovirt(servers: Ovirt) -> Iterator[Ovirt]:
    yield servers
    servers.engine.end_transfers(types.ImageTransferPhase.CANCELLED)
    servers.engine.transfers.clear()
    servers.engine.calls.clear()
    servers.engine.locked.clear()


@contextmanager
def served(folder: Path, original: Path, *arguments: str) -> Iterator[Path]:
    """The socket of an NBD server with the disk."""
    filters = [argument for argument in arguments if argument.startswith("--filter")]
    rest = [argument for argument in arguments if not argument.startswith("--filter")]
    with moving.nbdkit(folder, *filters, "file", str(original), *rest) as uri:
        yield Path(uri.partition("socket=")[2])


def copy(ovirt: Ovirt, folder: Path, source: ImageioDisk | OvirtDisk, *, epoch: int = 1) -> moving.Ran:
    """Copy the disk from this source into `folder`."""
    spec = moving.spec_of(folder / "w", moving.disk_of(source, SIZE, folder / "t"), epoch=epoch)
    ran = moving.run(msgspec.structs.replace(spec, credentials_dir=str(ovirt.secrets)))
    said = json.dumps(ran.lines)
    assert PASSWORD not in said
    assert not re.search(r"/images/[0-9a-f]", said)
    return ran


def assert_arrived(ovirt: Ovirt, folder: Path, ran: moving.Ran) -> None:
    """The disk is there, and proven against the server's own checksum."""
    assert ran.result.ok, ran.lines
    done = ran.result.disks[0]
    assert moving.same_bytes(ovirt.original, folder / "t", SIZE)
    assert done.digest == digest_of_path(ovirt.original)
    assert done.proof is Proof.SOURCE_CHECKED
    assert done.source_digest.startswith("blake2b-4MiB:")


def failure_code(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    return ran.result.failure.code


@contextmanager
def before_request(number: int, deed: Callable[[], None]) -> Iterator[None]:
    """Do it once, before the daemon is asked for the `number`th time while the block runs."""
    try_ask, asked, lock = ImageioConnection._try_ask, iter(range(1, number + 1)), threading.Lock()

    def do_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        with lock:  # the other connections' requests come after the deed, too
            if next(asked, 0) == number:
                deed()
        return try_ask(connection, *request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", do_and_ask)
        yield


@contextmanager
def amid_a_read(deed: Callable[[], None]) -> Iterator[None]:
    """Do it once while the block runs: when the answer to a read has begun."""
    try_ask, once, lock = ImageioConnection._try_ask, iter([True]), threading.Lock()

    def ask_and_do(connection: ImageioConnection, method: str, rest: str, headers: dict[str, str], *more: Any) -> Any:
        response = try_ask(connection, method, rest, headers, *more)
        with lock:
            if "Range" in headers and next(once, False):
                deed()
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", ask_and_do)
        yield


def test_only_data_of_a_given_transfer_is_read(ovirt: Ovirt, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with served(tmp_path, ovirt.original, "--filter=log", f"logfile={log}") as socket:
        ran = copy(ovirt, tmp_path, ovirt.transfer(socket))
    assert_arrived(ovirt, tmp_path, ran)
    done = ran.result.disks[0]
    assert done.bytes_read == done.bytes_data < 10 * MIB
    read = moving.reads_in(log)
    assert any(offset < MIB for offset, _ in read)
    assert not any(offset + length > 16 * MIB and offset < 36 * MIB for offset, length in read)


def test_a_disk_of_an_engine_arrives_and_its_transfer_is_finalized(ovirt: Ovirt, tmp_path: Path) -> None:
    with served(tmp_path, ovirt.original) as socket:
        assert_arrived(ovirt, tmp_path, copy(ovirt, tmp_path, ovirt.disk(socket)))
        assert [str(transfer.phase) for transfer in ovirt.engine.transfers.values()] == ["finished_success"]
        again = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, again)
    assert again.result.disks[0].bytes_read == 0


def test_tickets_and_logins_that_expire_before_each_request_are_renewed(
    ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_ask = ImageioConnection._try_ask
    asked: list[str] = []

    def expire_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        asked.append(request[0])
        if len(asked) % 2:  # what is asked again after the renewal goes through
            ovirt.engine.forget_logins()
            ovirt.engine.expire_tickets()
        return try_ask(connection, *request)

    monkeypatch.setattr(ImageioConnection, "_try_ask", expire_and_ask)
    # With one connection no other request's end brings a ticket back to life.
    monkeypatch.setattr("mover.sources.imageio._MOST_CONNECTIONS", 1)
    with served(tmp_path, ovirt.original) as socket:
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls["login"] > 3
    assert ovirt.engine.calls["extend"] > 3


@given(st.lists(st.sampled_from(["", "", "login", "ticket", "pause", "cancel"]), min_size=4, max_size=10))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_ends_before_a_request_the_disk_arrives(
    ovirt: Ovirt, tmp_path_factory: pytest.TempPathFactory, faults: list[str]
) -> None:
    """`faults` happen before the first requests, one each; at most two cancelled transfers in a row are borne."""
    folder = tmp_path_factory.mktemp("faults")
    try_ask, coming, engine = ImageioConnection._try_ask, iter(faults), ovirt.engine
    deeds = {
        "": lambda: None,
        "login": engine.forget_logins,
        "ticket": engine.expire_tickets,
        "pause": lambda: engine.end_transfers(types.ImageTransferPhase.PAUSED_SYSTEM),
        "cancel": lambda: engine.end_transfers(types.ImageTransferPhase.CANCELLED),
    }

    def fail_and_ask(connection: ImageioConnection, *request: Any) -> Any:
        deeds[next(coming, "")]()
        return try_ask(connection, *request)

    with served(folder, ovirt.original) as socket, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageioConnection, "_try_ask", fail_and_ask)
        ran = copy(ovirt, folder, ovirt.disk(socket))
    assert_arrived(ovirt, folder, ran)


@pytest.mark.long
def test_everything_expires_every_two_seconds_for_half_a_minute(ovirt: Ovirt, tmp_path: Path) -> None:
    with served(tmp_path, ovirt.original, "--filter=rate", "rate=8M") as socket:
        phases = cycle([None, types.ImageTransferPhase.PAUSED_SYSTEM, None, types.ImageTransferPhase.CANCELLED])
        enough_at = time.monotonic() + 20  # the server's checksum is one request: at last it must get through

        def expire() -> None:
            ovirt.engine.forget_logins()
            ovirt.engine.expire_tickets()
            seen = ovirt.engine.calls["create"] > 1 and ovirt.engine.calls["resume"] >= 1
            if (phase := next(phases)) and not (seen and time.monotonic() > enough_at):
                ovirt.engine.end_transfers(phase)

        with moving.again_and_again(expire, 2.0):
            ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls["create"] > 1
    assert ovirt.engine.calls["resume"] >= 1


@pytest.mark.parametrize(
    ("phase", "deed", "times"),
    [(types.ImageTransferPhase.PAUSED_SYSTEM, "resume", 1), (types.ImageTransferPhase.CANCELLED, "create", 2)],
)
def test_a_transfer_that_the_engine_ended_is_resumed_or_made_anew(
    ovirt: Ovirt, tmp_path: Path, phase: types.ImageTransferPhase, deed: str, times: int
) -> None:
    with (
        served(tmp_path, ovirt.original) as socket,
        before_request(3, lambda: ovirt.engine.end_transfers(phase)),
    ):
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ovirt.engine.calls[deed] >= times


def test_a_daemon_that_was_killed_and_started_again_is_read_on(ovirt: Ovirt, tmp_path: Path) -> None:
    def kill_and_start() -> None:
        ovirt.daemon.stop(timeout_s=0)
        ovirt.daemon.start()  # its tickets are gone

    # So slow that a block's bytes are not there when its answer begins.
    with served(tmp_path, ovirt.original, "--filter=rate", "rate=48M") as socket, amid_a_read(kill_and_start):
        ran = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, ran)
    assert ran.said("connection lost")
    assert ovirt.engine.calls["create"] > 1


def test_changed_areas_since_a_checkpoint_are_told(ovirt: Ovirt, tmp_path: Path) -> None:
    image, socket = tmp_path / "image.qcow2", tmp_path / "qemu.sock"
    commands = (
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", ovirt.original, image],
        ["qemu-img", "bitmap", "--add", image, "cp1"],
        ["qemu-io", "-c", "write -P 7 20M 128k", "-c", "write -z 1M 64k", "-c", "write -P 9 39M 64k", image],
    )
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    argv = ["qemu-nbd", "--socket", socket, "--export-name=", "--persistent", "--shared=8", "--read-only"]
    server = subprocess.Popen([*argv, "-f", "qcow2", "-B", "cp1", image])
    try:
        moving.wait_for(socket.exists, "qemu-nbd")
        tickets = Controls(ovirt.secrets)
        source = ImageioSource(tickets.imageio_ticket(ovirt.transfer(socket, dirty=True)))
        changes = source.changes()
        assert source.size_bytes == SIZE
        assert changes.data == [Extent(20 * MIB, 128 << 10), Extent(39 * MIB, 64 << 10)]
        assert changes.zeros == [Extent(MIB, 64 << 10)]
    finally:
        server.terminate()
        server.wait()


def test_a_transfer_without_a_checkpoint_says_so(ovirt: Ovirt, tmp_path: Path) -> None:
    with served(tmp_path, ovirt.original) as socket:
        source = ImageioSource(Controls(ovirt.secrets).imageio_ticket(ovirt.transfer(socket)))
        with pytest.raises(PermanentError) as refused:
            source.changes()
    assert refused.value.code == "source-no-changes"


def test_a_byte_flipped_before_it_reached_us_is_found_and_the_next_copy_heals_it(
    ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = _ImageioReader.complete

    def flip(reader: _ImageioReader, request: ReadRequest) -> None:
        complete(reader, request)
        if request.base == 4 * MIB:
            request.view[1234] ^= 1

    with served(tmp_path, ovirt.original) as socket:
        with monkeypatch.context() as patch:
            patch.setattr(_ImageioReader, "complete", flip)
            ran = copy(ovirt, tmp_path, ovirt.disk(socket))
        assert failure_code(ran) == "source-checksum"
        assert ran.result.failure is not None
        assert ran.result.failure.retryable
        assert [str(transfer.phase) for transfer in ovirt.engine.transfers.values()] == ["cancelled"]
        healed = copy(ovirt, tmp_path, ovirt.disk(socket))
    assert_arrived(ovirt, tmp_path, healed)
    assert healed.result.disks[0].bytes_read == healed.result.disks[0].bytes_data


def test_a_ticket_that_is_not_ours_to_renew_ends_the_copy_with_its_cure(ovirt: Ovirt, tmp_path: Path) -> None:
    with served(tmp_path, ovirt.original) as socket:
        source = ovirt.transfer(socket, timeout_s=0)
        ran = copy(ovirt, tmp_path, source)
    assert failure_code(ran) == "source-ticket"
    assert ran.result.failure is not None
    assert "new image transfer" in ran.result.failure.cure
    assert "images" not in repr(source)


def test_a_wrong_password_is_one_clear_error(ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovirt.engine, "password", "another")
    assert failure_code(copy(ovirt, tmp_path, ovirt.disk(tmp_path / "none"))) == "source-login"


def test_an_unknown_authority_is_refused(ovirt: Ovirt, tmp_path: Path) -> None:
    bare = tmp_path / "secrets"
    bare.mkdir()
    for name in ("user", "password"):
        (bare / name).write_text((ovirt.secrets / name).read_text())
    strangers = msgspec.structs.replace(ovirt, secrets=bare)
    assert failure_code(copy(strangers, tmp_path, ovirt.disk(tmp_path / "none"))) == "source-certificate"
    with served(tmp_path, ovirt.original) as socket:
        assert failure_code(copy(strangers, tmp_path, ovirt.transfer(socket))) == "source-certificate"


@pytest.mark.parametrize("url", ["http://h:54322/images/x", "https://h", "https:///images/x", "nonsense"])
def test_what_is_no_transfer_url_is_refused_without_repeating_it(ovirt: Ovirt, tmp_path: Path, url: str) -> None:
    assert failure_code(copy(ovirt, tmp_path, ImageioDisk(url=url))) == "source-url"


def test_a_disk_that_is_locked_for_a_while_is_waited_for(ovirt: Ovirt, tmp_path: Path) -> None:
    ovirt.engine.locked.add("d1")
    with served(tmp_path, ovirt.original) as socket:
        unlocked = threading.Timer(0.3, ovirt.engine.locked.clear)
        unlocked.start()
        assert_arrived(ovirt, tmp_path, copy(ovirt, tmp_path, ovirt.disk(socket)))
        unlocked.join()


def test_a_disk_that_stays_locked_may_be_free_later(
    ovirt: Ovirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ovirt.engine.locked.add("d1")
    monkeypatch.setattr("mover.control.imageio_ticket.READY_WITHIN_S", 0.1)
    with pytest.raises(TemporaryError) as refused:
        Controls(ovirt.secrets).imageio_ticket(ovirt.disk(tmp_path / "none")).location()
    assert refused.value.code == "source-busy"
    assert "locked" in refused.value.message


@pytest.mark.parametrize(("use_proxy", "host"), [(False, "127.0.0.1"), (True, "localhost")], ids=["host", "proxy"])
def test_the_host_or_the_proxy_is_read_as_wanted(ovirt: Ovirt, tmp_path: Path, use_proxy: bool, host: str) -> None:
    controls = Controls(ovirt.secrets)
    ticket = controls.imageio_ticket(msgspec.structs.replace(ovirt.disk(tmp_path / "none"), use_proxy=use_proxy))
    assert ticket.location().endpoint.host == host
    controls.close(well=False)
    assert [str(transfer.phase) for transfer in ovirt.engine.transfers.values()] == ["cancelled"]


LENGTHS = st.lists(st.integers(1, 1 << 40), max_size=6)


@given(LENGTHS, st.integers(0, 5), st.integers(-(1 << 40), 1 << 40).filter(bool))
def test_extents_that_do_not_join_are_never_believed(lengths: list[int], which: int, shift: int) -> None:
    areas = [
        {"start": sum(lengths[:number]), "length": length, "zero": bool(number % 2), "hole": False}
        for number, length in enumerate(lengths)
    ]
    assert len(areas_in(json.dumps(areas).encode(), "x")) == len(lengths)
    if areas:
        areas[which % len(areas)]["start"] += shift
        with pytest.raises(TemporaryError):
            areas_in(json.dumps(areas).encode(), "x")


@given(st.binary(max_size=60))
def test_noise_instead_of_extents_is_an_error_of_ours(noise: bytes) -> None:
    if noise.strip() != b"[]":
        with pytest.raises(TemporaryError):
            areas_in(noise, "x")


def test_a_transfer_is_named_by_its_url_or_by_the_file_that_holds_it(tmp_path: Path) -> None:
    url = "https://ovirt-1:54322/images/canary-ticket"
    (tmp_path / "url").write_text(url + "\n")
    named = source_of(f"imageio:+{tmp_path / 'url'}", UriOptions(thumbprint="AA"))
    assert named == source_of(f"imageio:{url}", UriOptions(thumbprint="AA"))
    assert named.source == ImageioDisk(url=url, thumbprint="AA")
    assert "canary" not in repr(named)
    with pytest.raises(PermanentError, match="No such file"):
        source_of("imageio:+/nonexistent", UriOptions())


def test_near_parts_are_asked_for_at_once() -> None:
    parts = [Extent(0, 4096), Extent(8192, 4096), Extent(3 * MIB, 512)]
    assert joined_over_gaps(parts) == [Extent(0, 12288), Extent(3 * MIB, 512)]
