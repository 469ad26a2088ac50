"""`mtv inventory` of an oVirt engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.ovirt.engine import ThinEngine
from lab.ovirt.faults import Deed
from lab.ovirt.sample import data_centre
from mtv.cli import inventories, main
from mtv.inventory.progress import spoken
from mtv.providers.ovirt import session
from tests.providers import ovirt_lab

Output = pytest.CaptureFixture[str]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThinEngine]:
    """An engine with 112 VMs; what is asked of it a second time is asked at once."""
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    monkeypatch.setattr(session, "PAUSE_S", 0)
    with ovirt_lab.engine(tmp_path, data_centre(load=100)) as running:
        yield running


@pytest.fixture
def connected(engine: ThinEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the connection `rhv-1` with changed fields."""
    file = tmp_path / "connections.json"

    def write(**changed: Any) -> None:
        fields = msgspec.to_builtins(ovirt_lab.connection(engine, tmp_path / "pki" / "ca.crt", **changed))
        file.touch(0o600)
        file.write_text(json.dumps({fields.pop("conn_id"): fields}))
        monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(file))

    write()
    return write


@pytest.mark.usefixtures("connected")
def test_vms_are_listed_and_what_may_not_be_read_is_said(engine: ThinEngine, capsys: Output) -> None:
    engine.faults.forbidden.add("hosts")
    assert main(["inventory", "rhv-1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("oVirt Engine 4.5.6-1.el9\n")
    assert "Red Hat Enterprise Linux 9.4" in out
    assert "the user may not read hosts of 112 VMs, such as asleep-1" in out
    assert "canary" not in out


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"login": ""}, "connection 'rhv-1' names no user — set its login (name@profile) and its password"),
        ({"password": ""}, "connection 'rhv-1' names no password — set its login (name@profile) and its password"),
        ({"login": "admin"}, "refused the user name or password of 'admin' — write the login as name@profile, such as"),
        (
            {"password": "canary-wrong"},
            "of 'admin@internal' — mend login (name@profile) and password of the",
        ),
        ({"host": "https://127.0.0.1/ovirt-engine/api"}, "write the host's name alone, without https:// and path"),
        ({"extra": {"ca_file": "/nowhere.pem"}}, "the CA file /nowhere.pem cannot be read: No such file or directory"),
        ({"extra": {"ca_file": ["ca.pem"]}}, "extra.ca_file is ['ca.pem'] — write a text, in quotes"),
        ({"extra": {"insecure": "true"}}, "extra.insecure is 'true' — write true or false, without quotes"),
    ],
    ids=["no-user", "no-password", "no-profile", "wrong-password", "url", "no-ca", "list-of-cas", "insecure-as-text"],
)
def test_a_connection_that_is_wrong_is_one_line_that_says_how_to_mend_it(
    changed: dict[str, Any], words: str, connected: Callable[..., None], capsys: Output
) -> None:
    connected(**changed)
    assert main(["inventory", "rhv-1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "canary" not in line


@pytest.mark.usefixtures("connected")
def test_an_engine_that_goes_away_amid_the_reading_is_worth_another_try(engine: ThinEngine, capsys: Output) -> None:
    engine.faults.plan("^vms", lambda: None)  # the first page comes
    engine.faults.plan("^vms", Deed.CUT, count=99)
    assert main(["inventory", "rhv-1"]) == 75
    seen = capsys.readouterr()
    (line,) = seen.err.splitlines()
    assert "cannot read VMs with all that is below them: the connection broke before the whole answer was there" in line
    assert line.endswith(" — see whether the engine is up, then try again")
    assert "load-000" not in seen.out


@pytest.mark.usefixtures("connected", "engine")
def test_a_long_reading_says_how_far_it_is(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventories, "spoken", lambda say, source: spoken(say, source, every_s=0))
    assert main(["inventory", "rhv-1"]) == 0
    assert "rhv-1: 100 of 112 VMs read" in capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("connected", "engine")
def test_namesakes_are_told_and_told_apart(capsys: Output) -> None:
    assert main(["inventory", "rhv-1"]) == 0
    assert "2 VMs are called twice: a plan cannot tell which of them is meant" in capsys.readouterr().out.splitlines()
    assert main(["inventory", "show", "rhv-1", "twice"]) == 0
    out = capsys.readouterr().out
    assert "path dc1/cluster1/twice" in out
    assert "path dc2/cluster2/twice" in out
