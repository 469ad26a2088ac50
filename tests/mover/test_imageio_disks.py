"""Disks out of oVirt: what is read, what is proven, what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mover.control.controls import Controls
from mover.sources.base import ReadRequest
from mover.sources.imageio import _ImageioReader
from mtv.model.transfer import ImageioDisk
from tests.mover import moving
from tests.mover.moving import MIB
from tests.mover.ovirt import Ovirt, assert_arrived, copy, failure_code, served

pytestmark = pytest.mark.lab


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


@pytest.mark.parametrize(("use_proxy", "host"), [(False, "127.0.0.1"), (True, "localhost")], ids=["host", "proxy"])
def test_the_host_or_the_proxy_is_read_as_wanted(ovirt: Ovirt, tmp_path: Path, use_proxy: bool, host: str) -> None:
    controls = Controls(ovirt.secrets)
    ticket = controls.imageio_ticket(msgspec.structs.replace(ovirt.disk(tmp_path / "none"), use_proxy=use_proxy))
    assert ticket.location().endpoint.host == host
    controls.close(well=False)
    assert [str(transfer.phase) for transfer in ovirt.engine.transfers.values()] == ["cancelled"]
