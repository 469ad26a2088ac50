"""Names that somebody chose to break us, and VMs that lack what VMs have: read, judged and told like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyVmomi import vim

from lab.process import stop_daemon
from lab.vcenter.part import start_server
from mtv.cli import main
from mtv.inventory import Snapshot, snapshot
from mtv.model.connection import Connection
from mtv.model.source import SourceVm
from mtv.providers.registry import open_provider
from mtv.validation import evaluate, load_rules

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
ADMINISTRATOR, PASSWORD = "administrator@vsphere.local", "canary-pass-3!"
NAMES = [
    "two\nlines: vm fake is gone",
    "quo\"te's `id` $(id)",
    "<script>alert(1)</script> & <b>",
    "emoji 🦊 e\u0301 \u202egnp.exe",
    "{braces} {0} %s %(x)s",
    "=cmd|' /C calc'!A0",
    "x" * 1000,
    "Case",
    "cASE",
    "a/b\\c%d",
    " leading and trailing ",
]
"""Every VM of the load gets one of these."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "scratch").mkdir()
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    plain = {"Folder": "prod", "GuestID": "rhel9_64Guest", "GuestName": "RHEL 9", "CPUs": 1, "MemoryMB": 128}
    inventory = {
        "Users": [{"Name": ADMINISTRATOR, "PasswordFile": str(password)}],
        "Scratch": str(folder / "scratch"),
        "Datacenters": [
            {
                "Name": name,
                "Folders": ["prod", "prod/a", "prod/a/b"],
                "Datastores": [f"ds-{name}"],
                "Networks": ["VM Network"],
                "Portgroups": [],
                "Clusters": [{"Name": f"cl-{name}", "Hosts": [f"esx-{name}.lab"]}],
            }
            for name in ("dc1", "dc2")
        ],
        "VMs": [
            {**plain, "Name": "load-%02d", "Count": len(NAMES), "Datastore": "ds-dc1", "Disks": [{"SizeMB": 1}]},
            {**plain, "Name": "bare", "Datastore": "ds-dc1"},
            {**plain, "Name": "deep", "Folder": "prod/a/b", "Datastore": "ds-dc1", "Disks": [{"SizeMB": 1}]},
            {**plain, "Name": "template", "Template": True, "Datastore": "ds-dc1", "Disks": [{"SizeMB": 1}]},
            {**plain, "Name": "twice", "Datastore": "ds-dc1", "Disks": [{"SizeMB": 1}]},
            {**plain, "Name": "twice", "Datacenter": "dc2", "Datastore": "ds-dc2", "Disks": [{"SizeMB": 1}]},
        ],
    }
    (folder / "inventory.json").write_text(json.dumps(inventory))
    try:
        port = start_server(folder)
        connection = Connection(
            conn_id="hostile", conn_type="vsphere", host="127.0.0.1", port=port, login=ADMINISTRATOR,
            password=PASSWORD, extra={"ca_file": str(folder / "ca.pem")},
        )  # fmt: skip
        _rename(connection)
        yield {"connection": connection, "folder": folder}
    finally:
        stop_daemon(folder / "vcenter.pid")


def _rename(connection: Connection) -> None:
    """Names that the lab's file cannot give, and a vApp within a vApp."""
    with open_provider(connection) as provider:
        content = provider.session.open().content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
        by_name = {vm.name: vm for vm in view.view}
        for number, name in enumerate(NAMES):
            by_name[f"load-{number:02d}"].Rename_Task(name)
        pool, folder = by_name["deep"].resourcePool, by_name["deep"].parent
        shares = vim.ResourceAllocationInfo(
            reservation=0, limit=-1, expandableReservation=True, shares=vim.SharesInfo(shares=1, level="normal")
        )
        room = vim.ResourceConfigSpec(cpuAllocation=shares, memoryAllocation=shares)
        outer = pool.CreateVApp("shop/eu", room, vim.vApp.VAppConfigSpec(), folder)
        inner = outer.CreateVApp("backend", room, vim.vApp.VAppConfigSpec(), None)
        files = vim.vm.FileInfo(vmPathName="[ds-dc1]")
        inner.CreateChildVM_Task(vim.vm.ConfigSpec(name="in-a-vapp", memoryMB=128, numCPUs=1, files=files), None)


@pytest.fixture(scope="module")
def seen(hostile: dict[str, Any]) -> Snapshot:
    with open_provider(hostile["connection"]) as provider:
        return snapshot(provider)


@pytest.mark.lab
def test_every_name_comes_as_it_is_and_is_found_by_it(hostile: dict[str, Any], seen: Snapshot) -> None:
    assert {vm.name for vm in seen.vms} == {*NAMES, "bare", "deep", "template", "twice", "in-a-vapp"}
    with open_provider(hostile["connection"]) as provider:
        found = provider.vms([*NAMES, "CASE"])
    assert sorted(vm.name for vm in found) == sorted(NAMES)
    assert seen.tables.vms["name"].notna().all()


@pytest.mark.lab
def test_vms_without_disks_or_cards_and_templates_are_read_and_judged(seen: Snapshot) -> None:
    bare, deep, template = (seen.vm(name) for name in ("bare", "deep", "template"))
    assert (bare.disks, bare.nics, bare.document["disks"], bare.document["nics"]) == ((), (), [], [])
    assert deep.document["path"] == "dc1/prod/a/b/deep"
    assert template.is_template
    twice = sorted(vm.document["path"] for vm in seen.vms if vm.name == "twice")
    assert twice == ["dc1/prod/twice", "dc2/prod/twice"]
    concerns = evaluate(load_rules(RULES, "vsphere"), [vm.document for vm in seen.vms])
    by_name = {vm.name: {one.id for one in said} for vm, said in zip(seen.vms, concerns, strict=True)}
    for name in ("two\nlines: vm fake is gone", "x" * 1000, "=cmd|' /C calc'!A0"):
        assert "vmware.vm.name.invalid" in by_name[name]
    assert "vmware.vm.name.invalid" not in by_name["Case"]
    assert msgspec.json.decode(msgspec.json.encode(seen.vms), type=tuple[SourceVm, ...]) == seen.vms


@pytest.mark.lab
def test_a_vm_of_a_vapp_comes_like_any_other(seen: Snapshot) -> None:
    # The lab gives such a VM a folder for its parent, a vCenter gives it none: tests/providers/test_vsphere_parts.
    vm = seen.vm("in-a-vapp")
    assert vm.document["datacenter"]["name"] == "dc1"
    assert vm.document["path"].startswith("dc1/")


@pytest.mark.lab
def test_no_name_makes_a_line_of_its_own(
    hostile: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection: Connection = hostile["connection"]
    file = tmp_path / "connections.json"
    fields = {name: getattr(connection, name) for name in ("conn_type", "host", "port", "login", "password", "extra")}
    file.touch(0o600)
    file.write_text(json.dumps({"hostile": fields}))
    monkeypatch.setenv("MTV_CONNECTIONS_FILE", str(file))
    monkeypatch.setenv("MTV_STATE_FOLDER", str(tmp_path / "state"))
    assert main(["inventory", "hostile"]) == 0
    out = capsys.readouterr().out
    assert not any(line.startswith("lines: vm fake") for line in out.splitlines())
    assert "\u202e" not in out
    for name in NAMES:
        assert main(["inventory", "show", "hostile", name]) == 0
        assert not any(line.startswith("lines: vm fake") for line in capsys.readouterr().out.splitlines())
    assert main(["inventory", "show", "hostile", "twice"]) == 0
    assert capsys.readouterr().out.count("\nvm twice") == 2
