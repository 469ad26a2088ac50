"""Copies of three minutes in which everything that can run out does so every 20 seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mover.control.vsphere import VsphereSession
from tests.mover import moving
from tests.mover.vcenter import SIZE, assert_arrived, copy, vcenter_server

pytestmark = [pytest.mark.lab, pytest.mark.long]

EVERY_S = 20.0
COPY_S = 180


def test_disks_of_a_vcenter_arrive_by_url_and_by_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins: list[None] = []
    log_in = VsphereSession._log_in
    monkeypatch.setattr(VsphereSession, "_log_in", lambda session: logins.append(None) or log_in(session))
    (tmp_path / "server").mkdir()
    with vcenter_server(tmp_path / "server") as vcenter:
        vcenter.faults.lease_timeout(int(EVERY_S * 1000))
        vcenter.faults.limit_downloads(bytes_per_second=SIZE // 3 // COPY_S)  # three connections read the URL
        with moving.again_and_again(vcenter.faults.expire_sessions, EVERY_S):
            ran = copy(vcenter, tmp_path, vcenter.datastore(0), vcenter.nfc(1))
    assert_arrived(vcenter, tmp_path, ran, 2)
    assert len(logins) > 3
