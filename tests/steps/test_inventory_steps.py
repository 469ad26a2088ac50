"""The steps of an inventory: what changed is told and validated again, and plans learn how they stand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import EvidenceKind
from mtv.model.settings import Settings
from mtv.model.source import PowerState
from mtv.providers.ova.provider import OvaProvider
from mtv.steps import inventory
from mtv.steps.inventory import InventoryContext
from mtv.store import Store
from tests.kubevirt.values import disk
from tests.steps.conftest import SomeConnections, begin, through_validation
from tests.steps.world import MemoryCluster, MemoryProvider, World

PLAN = """\
source: {connection: vcenter}
target: {connection: cluster, namespace: demo}
network_map: {"*": {type: pod}}
storage_map: {"*": {storage_class: fs}}
waves: {pilot: {vms: [{name: web-1}]}}
"""
RULE = """\
id: vmware.test.big
category: Critical
label: The VM is big
assessment: Make it smaller.
condition: size > 10
examples: {fires: [{size: 11}], silent: [{size: 10}], undefined: [{}]}
"""


@pytest.fixture
def ctx(store: Store, world: World, tmp_path: Path) -> InventoryContext:
    for folder in ("plans", "rules/vmware"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plans" / "dc1.yaml").write_text(PLAN)
    (tmp_path / "plans" / "other.yaml").write_text(PLAN.replace("vcenter", "elsewhere"))
    (tmp_path / "rules" / "vmware" / "big.yaml").write_text(RULE)
    return InventoryContext(
        store=store,
        connections=SomeConnections(),
        settings=Settings(
            plans_folder=tmp_path / "plans", rules_folder=tmp_path / "rules", state_folder=tmp_path / "state"
        ),
        source="vcenter",
        log=world.log.append,
        open_provider=lambda connection: MemoryProvider(world, connection),
        open_cluster=lambda connection: MemoryCluster(world, connection),
    )


def look(ctx: InventoryContext, world: World, **changes: Any) -> list[str]:
    """Change the VM, take the inventory, judge; return what was logged."""
    world.vm = msgspec.structs.replace(world.vm, **changes)
    world.log.clear()
    inventory.take(ctx)
    inventory.judge(ctx)
    return world.log


def test_a_changed_vm_is_told_and_validated_again_and_its_plan_becomes_not_ready_and_ready_again(
    ctx: InventoryContext, world: World
) -> None:
    log = look(ctx, world)
    assert "vcenter: 1 VMs read, for the first time" in log
    assert "vcenter: 1 of 1 VMs validated, the others have not changed" in log
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert standing.is_ready

    log = look(ctx, world, document={"size": 11}, disks=(*world.vm.disks, disk(2)))
    assert "vm web-1: disk disk-2002 added (1 GiB); size none → 11" in log
    assert "web-1: Critical: The VM is big" in log
    assert "plan dc1: Not ready" in log
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert not standing.is_ready
    assert [(one.type, one.vms) for one in standing.conditions if one.blocks] == [("VMCriticalConcerns", ("web-1",))]

    log = look(ctx, world)
    assert "vcenter: 0 of 1 VMs validated, the others have not changed" in log
    assert "plan dc1: Not ready" in log, "what was said of an unchanged VM still holds"

    assert "plan dc1: Ready" in look(ctx, world, document={"size": 1})
    assert ctx.store.standing("other") is None, "it does not name this source"


def test_a_changed_rule_is_asked_again_of_a_vm_that_has_not_changed(ctx: InventoryContext, world: World) -> None:
    look(ctx, world, document={"size": 8})
    (ctx.settings.rules_folder / "vmware" / "big.yaml").write_text(RULE.replace("size > 10", "size > 7"))
    assert "plan dc1: Not ready" in look(ctx, world)


def test_rules_that_are_all_gone_or_broken_are_an_error_and_no_clean_bill(ctx: InventoryContext, world: World) -> None:
    (ctx.settings.rules_folder / "vmware" / "big.yaml").write_text("id: [")
    with pytest.raises(PermanentError, match=r"no rules for vmware: .*big\.yaml: line 1"):
        look(ctx, world)
    settings = changed(ctx.settings, rules_folder=ctx.settings.rules_folder / "elsewhere")
    with pytest.raises(PermanentError, match="there is no folder with rules for vmware — set MTV_RULES_FOLDER"):
        look(changed(ctx, settings=settings), world)


def test_what_the_source_holds_and_cannot_be_taken_is_told_with_the_reason(
    ctx: InventoryContext, world: World, tmp_path: Path
) -> None:
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "broken.ova").write_bytes(b"no tar")
    boxes = Connection(conn_id="vcenter", conn_type="ova", extra={"path": str(tmp_path / "boxes")})
    inventory.take(changed(ctx, open_provider=lambda _: OvaProvider(boxes)))
    assert any(line.startswith("vcenter: broken.ova is not taken: ") for line in world.log)


def test_a_vm_that_is_gone_makes_its_plan_not_ready_and_a_vm_on_its_way_is_told(
    ctx: InventoryContext, world: World
) -> None:
    look(ctx, world)
    log = look(ctx, world, id="vm-43", name="web-2", power=PowerState.OFF)
    assert any(line.startswith("vm web-1 is gone") for line in log)
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert "VMNotFound" in {one.type for one in standing.conditions}
    assert set(ctx.store.judgements("vcenter")) == {"vm-43"}


def test_a_misspelt_vm_is_told_with_the_one_that_may_be_meant_and_where_it_lies(
    ctx: InventoryContext, world: World
) -> None:
    look(ctx, world, name="Web-1", document={"path": "/dc/vm/shop/Web-1"})
    standing = ctx.store.standing("dc1")
    assert standing is not None
    (cure,) = [one.cure for one in standing.conditions if one.type == "VMNotFound"]
    assert cure.startswith("There is 'Web-1' at /dc/vm/shop/Web-1, which may be meant to be it. ")


def test_a_run_knows_from_the_last_inventory_which_vm_may_be_meant(
    ctx: InventoryContext, world: World, store: Store, tmp_path: Path
) -> None:
    look(ctx, world, name="Web-1")
    vm = through_validation(begin(store, world, tmp_path))
    concerns = store.evidence(vm.run.id, vm.vm.id, EvidenceKind.CONCERNS)[-1].document["concerns"]
    (told,) = [one["assessment"] for one in concerns if one["id"] == "plan.vm.not_found"]
    assert told.startswith("There is 'Web-1', which may be meant to be it. ")


def test_a_plan_whose_other_source_was_never_read_is_not_ready(ctx: InventoryContext, world: World) -> None:
    path = ctx.settings.plans_folder / "dc1.yaml"
    path.write_text(PLAN.replace("{name: web-1}", "{name: web-1}, {name: app-1, source: files}"))
    look(ctx, world)
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert [(one.type, one.vms) for one in standing.conditions if one.blocks] == [
        ("SourceProviderNotReady", ("app-1",))
    ]


def test_a_target_that_does_not_answer_is_a_condition_and_no_failure(ctx: InventoryContext, world: World) -> None:
    def refuse(connection: Connection) -> MemoryCluster:
        raise TemporaryError(f"{connection.conn_id} does not answer")

    look(changed(ctx, open_cluster=refuse), world)
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert any("does not answer" in one.message for one in standing.conditions)


def test_what_the_user_may_not_read_is_told_and_no_failure(ctx: InventoryContext, world: World) -> None:
    log = look(ctx, world, document={"unreadable": ["config.hardware.device", "guest.net"]})
    assert "vcenter: the user may not read config.hardware.device of web-1" in log
    assert "vcenter: the user may not read guest.net of web-1" in log


def test_judging_before_the_first_look_names_the_task_to_clear(ctx: InventoryContext) -> None:
    with pytest.raises(PermanentError, match="clear the task snapshot"):
        inventory.judge(ctx)


def test_an_unverified_connection_is_a_warning_of_every_plan_that_uses_it(ctx: InventoryContext, world: World) -> None:
    class Insecure(SomeConnections):
        def get(self, conn_id: str) -> Connection:
            return changed(super().get(conn_id), extra={"insecure": True})

    look(changed(ctx, connections=Insecure()), world)
    standing = ctx.store.standing("dc1")
    assert standing is not None
    assert standing.is_ready
    assert "ConnectionInsecure" in {one.type for one in standing.conditions}


def changed(value: Any, **changes: Any) -> Any:
    """Return a copy of a dataclass or a struct."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)
