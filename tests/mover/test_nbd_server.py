"""A source that is shown as an NBD export, when the source breaks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from mover.geometry import Extent
from mover.nbd_server import NbdServer
from mover.sources.base import Reader, ReadRequest
from mover.sources.http_range import open_http_range
from mover.sources.nbd import NbdSource
from mtv.model.errors import TemporaryError
from mtv.model.transfer import HttpRange
from tests.mover import moving, web
from tests.mover.moving import MIB


def read(reader: Reader, offset: int) -> bytes:
    found = bytearray(MIB)
    request = ReadRequest(memoryview(found), offset, [Extent(offset, MIB)])
    reader.begin(request)
    reader.complete(request)
    return bytes(found)


def test_a_web_server_that_hangs_up_between_two_reads_is_asked_once_more(tmp_path: Path) -> None:
    disk = moving.make_disk(tmp_path / "disk", 4 * MIB, [(0, 4 * MIB)])
    with (
        web.serve(disk, tmp_path / "secrets", tls=False) as server,
        closing(open_http_range(HttpRange(url=f"{server.url}/disk.raw", format="raw"), tmp_path, None)) as source,
        NbdServer(source, tmp_path / "nbd.sock") as export,
        closing(NbdSource(export.uri)) as client,
        closing(client.open_reader()) as reader,
    ):
        assert read(reader, 0) == disk.read_bytes()[:MIB]
        server.drop = 1
        assert read(reader, MIB) == disk.read_bytes()[MIB : 2 * MIB]
        assert export.failure is None
        server.drop = 2
        with pytest.raises(TemporaryError):
            read(reader, 2 * MIB)
        assert export.failure is not None
        assert export.failure.code == "source-lost"
