"""Servers that several files of these tests read from: started once for each worker of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mover.ovirt import Ovirt


@pytest.fixture(scope="session")
def ovirt_of_the_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovirt]:
    from tests.mover.ovirt import ovirt_servers  # oVirt's SDK takes a while to load, and most tests need none

    with ovirt_servers(tmp_path_factory.mktemp("ovirt")) as servers:
        yield servers


@pytest.fixture
def ovirt(ovirt_of_the_worker: Ovirt) -> Iterator[Ovirt]:
    from ovirtsdk4.types import ImageTransferPhase

    yield ovirt_of_the_worker
    engine = ovirt_of_the_worker.engine
    engine.end_transfers(ImageTransferPhase.CANCELLED)
    engine.transfers.clear()
    engine.calls.clear()
    engine.locked.clear()
