"""The lab's engine answers oVirt's own SDK as an engine does, with the real imageio daemon behind it."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import ovirtsdk4
import pytest
from ovirtsdk4 import types

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, LabDisk, ThinEngine
from lab.ovirt.imageio import ImageioDaemon
from tests.mover import moving
from tests.mover.moving import MIB

pytestmark = pytest.mark.lab
SIZE = 2 * MIB
PASSWORD = "secret"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ThinEngine]:
    authority = Authority.create(tmp_path / "pki")
    daemon = ImageioDaemon(tmp_path, authority)
    disk = moving.make_disk(tmp_path / "disk", SIZE, [(0, SIZE)])
    daemon.start()
    engine = ThinEngine(authority, daemon, PASSWORD)
    engine.start()
    try:
        with moving.nbdkit(tmp_path, "file", str(disk)) as uri:
            engine.disks["d1"] = LabDisk(SIZE, Path(uri.partition("socket=")[2]))
            yield engine
    finally:
        engine.stop()
        daemon.stop()


def connect(engine: ThinEngine, folder: Path, password: str) -> ovirtsdk4.Connection:
    url = f"https://127.0.0.1:{engine.port}/ovirt-engine/api"
    return ovirtsdk4.Connection(url=url, username=USER, password=password, ca_file=str(folder / "pki" / "ca.crt"))


def test_a_transfer_of_the_sdk_is_made_extended_read_and_finalized(engine: ThinEngine, tmp_path: Path) -> None:
    connection = connect(engine, tmp_path, PASSWORD)
    transfers = connection.system_service().image_transfers_service()
    wanted = types.ImageTransfer(
        disk=types.Disk(id="d1"), direction=types.ImageTransferDirection.DOWNLOAD, format=types.DiskFormat.RAW
    )
    made = transfers.add(wanted)
    service = transfers.image_transfer_service(made.id)
    with pytest.raises(ovirtsdk4.Error, match="locked"):
        transfers.add(wanted)
    moving.wait_for(lambda: service.get().phase == types.ImageTransferPhase.TRANSFERRING, "the transfer")
    service.extend()
    context = ssl.create_default_context(cafile=str(tmp_path / "pki" / "ca.crt"))
    url = service.get().transfer_url
    with urllib.request.urlopen(url, context=context, timeout=30) as answer:  # noqa: S310 - the lab's own https URL
        assert answer.read() == (tmp_path / "disk").read_bytes()
    service.finalize()
    assert service.get().phase == types.ImageTransferPhase.FINISHED_SUCCESS
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, context=context, timeout=30)  # noqa: S310 - as above
    refused.value.close()
    assert refused.value.code == 403
    connection.close()


def test_a_wrong_password_is_refused(engine: ThinEngine, tmp_path: Path) -> None:
    with pytest.raises(ovirtsdk4.AuthError):
        connect(engine, tmp_path, "wrong").authenticate()
