"""Deltas out of a vCenter: what its changed block tracking tells, and copies of no more than that."""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from mover.control.changed_areas import ChangeTracking
from mover.control.controls import Controls
from mover.control.vsphere import VsphereSession
from mover.geometry import BLOCK_BYTES, Extent, cut_into_blocks, merged
from mover.measure import digest_of_path
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.transfer import DiskSource, DiskTransfer, Vddk
from tests.mover import moving, vddk
from tests.mover.moving import MIB
from tests.mover.vcenter import SIZE, VCenter, vcenter_server

pytestmark = pytest.mark.lab
TRACKED = 64 << 10
"""What the server notes changes in."""
WIDE = 2
"""Number of a disk with room for more areas than one answer holds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenter]:
    folder = tmp_path_factory.mktemp("vcenter")
    with vcenter_server(folder, moving.make_disk(folder / "wide.img", 300 * MIB, [])) as server:
        yield server


@pytest.fixture
def session(server: VCenter) -> Iterator[VsphereSession]:
    controls = Controls(server.secrets)
    yield controls.vsphere("127.0.0.1", server.port, "", insecure=False)
    controls.close(well=True)


def snapshot(server: VCenter, session: VsphereSession) -> vim.vm.Snapshot:
    task = session.managed(vim.VirtualMachine, server.vm).CreateSnapshot_Task("copied", "", False, False)
    WaitForTask(task)
    return task.info.result


def change_id(server: VCenter, session: VsphereSession, number: int = 0) -> str:
    """The change id of the disk as it is now, by a snapshot that is gone again."""
    taken = snapshot(server, session)
    devices = taken.config.hardware.device
    found = next(device.backing.changeId for device in devices if device.key == server.keys[number])
    WaitForTask(taken.RemoveSnapshot_Task(False))
    return str(found)


def write(disk: Path, rng: random.Random, count: int) -> list[Extent]:
    """Put noise or zeros at random places; the tracked areas that this touches."""
    touched = []
    with disk.open("r+b") as file:
        for _ in range(count):
            offset, length = rng.randrange(SIZE), rng.choice([1, 512, 70_000])
            length = min(length, SIZE - offset)
            file.seek(offset)
            file.write(rng.choice([rng.randbytes(length), bytes(length)]))
            start = offset // TRACKED * TRACKED
            touched.append(Extent(start, -(-(offset + length) // TRACKED) * TRACKED - start))
    return merged(touched, SIZE)


def source_of(server: VCenter, way: str, folder: Path) -> DiskSource:
    """The source for the first disk; for VDDK, a stand-in for the library beside the real vCenter."""
    if way == "datastore":
        return server.datastore()
    if way == "nfc":
        return server.nfc()
    for name in ("user", "password"):
        (folder / name).write_bytes((server.secrets / name).read_bytes())
    vddk.write_plugin(folder)
    (folder / "disk").symlink_to(server.disks[0])
    certificate = ssl.PEM_cert_to_DER_cert((server.secrets / "ca.pem").read_text())
    return Vddk(
        host="127.0.0.1",
        port=server.port,
        vm=server.vm,
        file="[ds-gold] app/app.vmdk",
        thumbprint=hashlib.sha1(certificate, usedforsecurity=False).digest().hex(":").upper(),
        disk_key=server.keys[0],
    )


def copied(server: VCenter, folder: Path, disk: DiskTransfer) -> moving.Ran:
    spec = moving.spec_of(folder / "w", disk)
    return moving.run(msgspec.structs.replace(spec, credentials_dir=str(server.secrets)))


@pytest.mark.parametrize("way", ["datastore", "nfc", "vddk"])
def test_a_chain_of_deltas_by_change_ids_equals_the_disk_byte_for_byte(
    server: VCenter, session: VsphereSession, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vddk.use_stand_in(tmp_path, monkeypatch)
    rng, source, since = random.Random(way), source_of(server, way, tmp_path), ""
    for number in range(3):
        touched = write(server.disks[0], rng, 2)
        now = change_id(server, session)
        disk = moving.disk_of(source, SIZE, tmp_path / "t", generation=str(number))
        if number:
            disk = msgspec.structs.replace(disk, base_generation=str(number - 1), dirty_context=since)
        ran = copied(server, tmp_path, disk)
        assert ran.result.ok, ran.lines
        [done] = ran.result.disks
        assert ran.said("a delta") == bool(number)
        if number and way != "nfc":  # a stream can only be read from its start
            assert done.bytes_read <= len(list(cut_into_blocks(touched))) * BLOCK_BYTES
        assert done.digest == digest_of_path(server.disks[0])
        assert moving.same_bytes(server.disks[0], tmp_path / "t", SIZE)
        since = now


def test_areas_of_many_answers_are_all_told_and_no_others(server: VCenter, session: VsphereSession) -> None:
    since, expected = change_id(server, session, WIDE), []
    size = server.disks[WIDE].stat().st_size
    with server.disks[WIDE].open("r+b") as file:
        for offset in range(TRACKED, size, 2 * TRACKED):
            file.seek(offset)
            file.write(b"x")
            expected.append(Extent(offset, TRACKED))
    assert len(expected) > 2000  # what one answer holds
    assert ChangeTracking(session, server.vm, server.keys[WIDE]).since(since, size) == expected


def test_the_state_of_a_snapshot_is_told_and_not_what_came_after_it(server: VCenter, session: VsphereSession) -> None:
    since = change_id(server, session)
    with server.disks[0].open("r+b", buffering=0) as file:
        file.seek(20 * MIB)
        file.write(random.randbytes(512))
        taken = snapshot(server, session)
        file.seek(30 * MIB)
        file.write(random.randbytes(512))
    told = ChangeTracking(session, server.vm, server.keys[0], taken._moId).since(since, SIZE)
    WaitForTask(taken.RemoveSnapshot_Task(False))
    assert told == [Extent(20 * MIB, TRACKED)]


def test_a_forgotten_change_id_is_refused_in_words_before_anything_changes(
    server: VCenter, session: VsphereSession, tmp_path: Path
) -> None:
    disk = moving.disk_of(server.datastore(), SIZE, tmp_path / "t", generation="1")
    assert copied(server, tmp_path, disk).result.ok
    journal = (tmp_path / "w" / "journal-0.bin").read_bytes()
    since = change_id(server, session)
    server.faults.forget_change_ids()  # as after a crash of the host
    later = msgspec.structs.replace(disk, generation="2", base_generation="1", dirty_context=since)
    failure = copied(server, tmp_path, later).result.failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("source-no-changes", False)
    assert since in failure.message
    assert (tmp_path / "w" / "journal-0.bin").read_bytes() == journal


def refusal(tracking: ChangeTracking, since: str) -> MtvError:
    with pytest.raises(MtvError) as error:
        tracking.since(since, SIZE)
    return error.value


@pytest.mark.parametrize("since", ["*", ""], ids=["all-in-use", "nothing"])
def test_what_is_no_change_id_is_refused(server: VCenter, session: VsphereSession, since: str) -> None:
    error = refusal(ChangeTracking(session, server.vm, server.keys[0]), since)
    assert isinstance(error, PermanentError)
    assert error.code == "source-no-changes"


def test_a_disk_or_snapshot_that_is_gone_is_named(server: VCenter, session: VsphereSession) -> None:
    since = change_id(server, session)
    assert refusal(ChangeTracking(session, server.vm, 4711), since).code == "source-missing"
    assert refusal(ChangeTracking(session, server.vm, server.keys[0], "snapshot-4711"), since).code == "source-missing"


def test_a_session_that_ended_is_renewed_for_the_next_try(server: VCenter, session: VsphereSession) -> None:
    since = change_id(server, session)
    tracking = ChangeTracking(session, server.vm, server.keys[0])
    session._instance.content.sessionManager.Logout()
    assert isinstance(refusal(tracking, since), TemporaryError)
    assert tracking.since(since, SIZE) == []
