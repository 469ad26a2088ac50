"""What the vCenter's user may not read: the inventory goes on, says it, and takes nothing for granted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.vcenter.faults import Faults
from mtv.inventory import Snapshot, snapshot
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.settings import Settings
from mtv.model.source import SourceVm
from mtv.providers.registry import open_provider
from mtv.steps import inventory
from mtv.steps.inventory import InventoryContext
from mtv.store import Store
from mtv.validation import load_rules
from mtv.validation.firing import firings

pytestmark = pytest.mark.lab

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
HARDWARE = "config.hardware.device"
PLAN = """\
source: {connection: vcenter-dc1}
target: {connection: cluster, namespace: demo}
network_map: {"*": {type: pod}}
storage_map: {"*": {storage_class: fs}}
waves: {pilot: {vms: [{name: %s}]}}
"""


def read(connection: Connection) -> Snapshot:
    with open_provider(connection) as provider:
        return snapshot(provider)


def undefined(vm: SourceVm) -> set[str]:
    rules = load_rules(RULES, "vmware")
    return {one.rule.id for one in firings(rules, [vm.document]) if not one.known[0]}


def test_a_vm_that_may_be_read_in_part_only_is_there_and_says_what_is_missing(
    connect: Callable[..., Connection], faults: Faults
) -> None:
    whole = read(connect())
    faults.hide("snapshot-1", HARDWARE, "config.changeTrackingEnabled", "snapshot")
    faults.hide("off-1", "guest.net")
    seen = read(connect())
    assert [vm.id for vm in seen.vms] == [vm.id for vm in whole.vms]
    assert seen.unreadable == {
        HARDWARE: ["snapshot-1"],
        "config.changeTrackingEnabled": ["snapshot-1"],
        "snapshot": ["snapshot-1"],
        "guest.net": ["off-1"],
    }
    before, now = whole.vm("snapshot-1"), seen.vm("snapshot-1")
    assert now.document["missingPrivileges"] == ["System.Read"]
    gone = {"disks", "nics", "devices", "controllers", "tpmEnabled", "changeTrackingEnabled", "snapshot"}
    assert set(before.document) - set(now.document) == gone
    assert (now.disks, now.cpu_count) == ((), before.cpu_count)
    silent = undefined(now) - undefined(before)
    assert {
        "vmware.changed_block_tracking.disabled",
        "vmware.disk.capacity.invalid",
        "vmware.passthrough_device.detected",
        "vmware.snapshot.detected",
        "vmware.tpm.detected",
    } <= silent
    others = [vm for vm in whole.vms if vm.name not in ("snapshot-1", "off-1")]
    assert [seen.vm(vm.name) for vm in others if vm.name != "twice"] == [vm for vm in others if vm.name != "twice"]


def test_hosts_and_clusters_that_may_not_be_read_are_told_and_rules_about_them_stay_silent(
    connect: Callable[..., Connection], faults: Faults
) -> None:
    faults.hide("cl-dc1", "configurationEx", privilege="System.View")
    faults.hide("esx-2.lab", "runtime")
    seen = read(connect())
    assert seen.unreadable == {"configurationEx": ["cl-dc1"], "runtime.inMaintenanceMode": ["esx-2.lab"]}
    host = seen.vm("web-1").document["host"]
    assert "drsEnabled" not in host["cluster"]
    assert "inMaintenance" not in host
    assert {"vmware.drs.enabled", "vmware.host_affinity.detected"} <= undefined(seen.vm("web-1"))
    assert "vmware.drs.enabled" not in undefined(seen.vm("far-1"))


def test_a_plan_that_names_a_vm_which_may_not_be_read_is_not_ready_and_names_the_privilege(
    connect: Callable[..., Connection], faults: Faults, tmp_path: Path
) -> None:
    class Connections:
        def get(self, conn_id: str) -> Connection:
            if conn_id != "vcenter-dc1":
                raise PermanentError(f"no connection {conn_id}")
            return connect()

    def no_cluster(connection: Connection) -> object:
        raise TemporaryError(f"{connection.conn_id} does not answer")

    (tmp_path / "plans").mkdir()
    for name in ("off-1", "rdm-1"):
        (tmp_path / "plans" / f"{name}.yaml").write_text(PLAN % name)
    log: list[str] = []
    settings = Settings(plans_folder=tmp_path / "plans", rules_folder=RULES, state_folder=tmp_path / "state")
    faults.hide("off-1", HARDWARE, privilege="VirtualMachine.Config.Settings")
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.upgrade()
        ctx = InventoryContext(
            store=store,
            connections=Connections(),
            settings=settings,
            source="vcenter-dc1",
            log=log.append,
            open_cluster=no_cluster,  # type: ignore[arg-type]  # it never returns
        )
        inventory.take(ctx)
        standings = {standing.plan_name: standing for standing in inventory.judge(ctx).values()}
    assert f"vcenter-dc1: the user may not read {HARDWARE} of off-1" in log
    (about,) = [one for one in standings["off-1"].conditions if one.type == "VMNotReadable"]
    assert about.blocks
    assert "VirtualMachine.Config.Settings" in about.message
    assert "VMHasNoDisks" not in {one.type for one in standings["off-1"].conditions}
    assert "VMNotReadable" not in {one.type for one in standings["rdm-1"].conditions}
