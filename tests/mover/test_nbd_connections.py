"""How many connections a copy makes to an NBD server, and what becomes of one that is kept until it is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mover.geometry import Extent
from mover.sources.base import ReadRequest
from mover.sources.nbd import NbdSource
from mtv.model.errors import DriftError, PermanentError, TemporaryError
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 9 * MIB


def test_the_connection_that_asked_for_extents_is_read_over(tmp_path: Path) -> None:
    disk = moving.make_disk(tmp_path / "d", SIZE, [(0, SIZE)])
    log = tmp_path / "log"
    with moving.nbdkit(tmp_path, "--filter=log", "file", str(disk), f"logfile={log}") as uri:
        ran = moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t")))
    assert ran.result.ok
    assert log.read_text().count(" Connect ") == 2  # as many as are read over


def test_a_kept_connection_that_the_server_has_ended_is_replaced(tmp_path: Path) -> None:
    disk = moving.make_disk(tmp_path / "d", SIZE, [(0, SIZE)])
    with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
        source = NbdSource(uri)
        whole = source.extents()
    with moving.nbdkit(tmp_path, "file", str(disk)):
        assert source.extents() == whole == [Extent(0, SIZE)]
    with moving.nbdkit(tmp_path, "file", str(disk)):
        reader = source.open_reader()
        found = bytearray(MIB)
        request = ReadRequest(memoryview(found), MIB, [Extent(MIB, MIB)])
        reader.begin(request)
        reader.complete(request)
        reader.close()
        source.close()
    assert found == disk.read_bytes()[MIB : 2 * MIB]


def test_a_source_that_nobody_read_leaves_no_connection(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with moving.nbdkit(tmp_path, "--filter=log", "memory", "1M", f"logfile={log}") as uri:
        NbdSource(uri).close()
        moving.wait_for(lambda: " Disconnect " in log.read_text(), "the good-bye")


@pytest.mark.parametrize(
    "connect",
    [NbdSource.open_reader, NbdSource.extents, lambda source: source.changed_since("qemu:dirty-bitmap:b0")],
    ids=["to-read", "to-learn-extents", "to-learn-changes"],
)
def test_a_server_that_is_stopped_and_started_again_is_waited_for(
    tmp_path: Path, connect: Callable[[NbdSource], object]
) -> None:
    with moving.nbdkit(tmp_path, "memory", "1M") as uri:
        source = NbdSource(uri)
        source.close()
    (tmp_path / "nbd.sock").unlink()  # a clean end takes the socket away
    with pytest.raises(TemporaryError) as away:
        connect(source)
    assert away.value.code == "source-lost"


def test_a_server_that_was_never_there_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as refused:
        NbdSource(f"nbd+unix:///?socket={tmp_path / 'none.sock'}")
    assert refused.value.code == "source-refused"


def test_another_disk_behind_a_server_that_was_started_again_is_refused(tmp_path: Path) -> None:
    with moving.nbdkit(tmp_path, "memory", "2M") as uri:
        source = NbdSource(uri)
        source.close()
    with moving.nbdkit(tmp_path, "memory", "1M"), closing(source):
        with pytest.raises(DriftError) as changed:
            source.open_reader()
        assert changed.value.code == "source-changed"
