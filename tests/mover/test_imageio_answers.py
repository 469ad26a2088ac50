"""What an ovirt-imageio server may answer, and how its transfers are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.control.endpoint import Endpoint, Location
from mover.control.imageio_ticket import GivenTicket
from mover.geometry import Extent
from mover.sources.imageio import areas_in, joined_over_gaps
from mover.sources.imageio_http import ImageioConnection
from mover.sources.uri import UriOptions, source_of
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.transfer import ImageioDisk
from tests.mover import moving, web
from tests.mover.moving import MIB

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


def test_a_connection_that_the_server_closes_after_an_answer_is_opened_anew(tmp_path: Path) -> None:
    disk = moving.make_disk(tmp_path / "disk", MIB, [(0, MIB)])
    with web.serve(disk, tmp_path / "secrets", tls=False) as server:
        endpoint = Endpoint(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), tls=False)
        connection = ImageioConnection(GivenTicket(Location(endpoint, "/images/ticket")))
        server.close_after = 1
        for _ in range(2):
            response = connection.ask("GET", headers={"Range": "bytes=0-511"}, timeout_s=60)
            assert response.read() == disk.read_bytes()[:512]
        connection.close()
