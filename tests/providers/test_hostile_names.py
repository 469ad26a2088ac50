"""Names that somebody chose to break us, and VMs that lack what VMs have: read, judged and told like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pyVmomi import vim

from mtv.cli import main
from mtv.inventory import Snapshot, snapshot
from mtv.model.connection import Connection
from mtv.model.source import SourceVm
from mtv.providers.registry import open_provider
from mtv.validation import evaluate, load_rules
from tests.providers import vsphere_lab

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
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
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    datacenters = [vsphere_lab.datacenter(name, Folders=["prod", "prod/a", "prod/a/b"]) for name in ("dc1", "dc2")]
    vms = [
        vsphere_lab.vm("load-%02d", Count=len(NAMES)),
        vsphere_lab.vm("bare", Disks=[]),
        vsphere_lab.vm("deep", Folder="prod/a/b"),
        vsphere_lab.vm("template", Template=True),
        vsphere_lab.vm("twice"),
        vsphere_lab.vm("twice", Datacenter="dc2", Datastore="ds-dc2"),
    ]
    with vsphere_lab.vcenter(tmp_path_factory.mktemp("hostile"), datacenters=datacenters, vms=vms) as running:
        connection = vsphere_lab.connection(running, conn_id="hostile")
        _rename(connection)
        yield connection


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
def seen(hostile: Connection) -> Snapshot:
    with open_provider(hostile) as provider:
        return snapshot(provider)


@pytest.mark.lab
def test_every_name_comes_as_it_is_and_is_found_by_it(hostile: Connection, seen: Snapshot) -> None:
    assert {vm.name for vm in seen.vms} == {*NAMES, "bare", "deep", "template", "twice", "in-a-vapp"}
    with open_provider(hostile) as provider:
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
    hostile: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "connections.json"
    fields = {name: getattr(hostile, name) for name in ("conn_type", "host", "port", "login", "password", "extra")}
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
