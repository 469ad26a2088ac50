"""A run of one VM against a source and a target in memory; the store is a real one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.plan import BootProof, NetworkTarget, Plan, PlannedVm, Source, StorageTarget, Target, Wave
from mtv.model.settings import Settings
from mtv.steps.context import RunContext, VmContext, start_run
from mtv.store import Store
from tests.kubevirt.values import source_vm
from tests.steps.world import MemoryCluster, MemoryProvider, World

MARKER = "MTV-BOOT-OK"


class SomeConnections:
    """The connections of the tests: two lead to one source."""

    def get(self, conn_id: str) -> Connection:
        types = {"vcenter": "vsphere", "vcenter-again": "vsphere", "cluster": "kubernetes"}
        if conn_id not in types:
            raise PermanentError(f"no connection {conn_id}")
        return Connection(conn_id=conn_id, conn_type=types[conn_id], password="canary")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's file, to be copied: its migrations cost more than most tests."""
    path = tmp_path_factory.mktemp("empty") / "store.sqlite"
    with Store.open(f"sqlite:///{path}") as store:
        store.upgrade()
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(empty_store, tmp_path / "store.sqlite")
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        yield store


@pytest.fixture
def world() -> World:
    return World(source_vm())


def plan_of(**options: Any) -> Plan:
    options.setdefault("boot_proof", BootProof(marker=MARKER, timeout_s=5))
    return Plan(
        name="first",
        source=Source(connection="vcenter"),
        target=Target(connection="cluster", namespace="demo"),
        network_map={"VM Network": NetworkTarget(type="pod")},
        storage_map={"*": StorageTarget(storage_class="fs", volume_mode="Filesystem")},
        waves=(Wave(name="pilot", vms=(PlannedVm(id="web-1", name="web-1", **options),)),),
    )


def begin(
    store: Store, world: World, folder: Path, *, dag_run: str = "r1", plan: Plan | None = None, **options: Any
) -> RunContext:
    """Start a run of the plan; its rules folder is empty, so that only plan conditions speak."""
    (folder / "rules" / "vmware").mkdir(parents=True, exist_ok=True)
    started = start_run(
        store=store,
        connections=SomeConnections(),
        settings=Settings(rules_folder=folder / "rules", state_folder=folder / "state"),
        plan_hash=store.put_plan(plan or plan_of(**options)),
        wave="pilot",
        dag_id="mtv.first.pilot",
        dag_run_id=dag_run,
        log=world.log.append,
    )
    values = {name: getattr(started, name) for name in ("store", "connections", "settings", "plan", "run", "log")}
    return RunContext(
        **values,
        open_provider=lambda connection: MemoryProvider(world, connection),
        open_cluster=lambda connection: MemoryCluster(world, connection),
    )


@pytest.fixture
def make_run(store: Store, world: World, tmp_path: Path) -> Callable[..., RunContext]:
    (tmp_path / "rules" / "vmware").mkdir(parents=True)  # tests put rules there before they begin

    def make(dag_run: str = "r1", **options: Any) -> RunContext:
        return begin(store, world, tmp_path, dag_run=dag_run, **options)

    return make


def through_validation(run: RunContext, vm_id: str = "web-1") -> VmContext:
    """Run the wave's first tasks and return the context of its VM."""
    from mtv.steps import run as run_steps

    run_steps.freeze(run)
    run_steps.snapshot_inventory(run)
    run_steps.validate(run)
    return run.for_vm(vm_id)
