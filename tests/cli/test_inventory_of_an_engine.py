"""`mtv inventory` of an oVirt engine."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from lab.ovirt.sample import data_centre
from mtv.cli import main
from tests.providers import ovirt_lab


def test_vms_are_listed_and_what_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    with ovirt_lab.engine(tmp_path, data_centre()) as engine:
        fields = msgspec.to_builtins(ovirt_lab.connection(engine, tmp_path / "pki" / "ca.crt"))
        file = tmp_path / "connections.json"
        file.write_text(json.dumps({fields.pop("conn_id"): fields}))
        file.chmod(0o600)
        monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(file))
        engine.faults.forbidden.add("hosts")
        assert main(["inventory", "rhv-1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("oVirt Engine 4.5.6-1.el9\n")
    assert "Red Hat Enterprise Linux 9.4" in out
    assert "the user may not read hosts of 12 VMs, such as asleep-1" in out
    assert "canary" not in out
