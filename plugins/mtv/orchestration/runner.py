"""Runs the steps of `mtv.steps` for Airflow's tasks: opens the store, builds the context, calls the step.

Everything heavy is imported when a step runs, not when a DAG file is parsed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from airflow.sdk.configuration import conf

from mtv.model.connection import Connections
from mtv.model.errors import PermanentError
from mtv.model.settings import Settings
from mtv.model.text import printable
from mtv.orchestration.admission import Turn, ask_to_enter
from mtv.orchestration.connections import AirflowConnections
from mtv.orchestration.outline import Outline, OutlineFolder, outlines_of, vm_itinerary
from mtv.orchestration.plans_folder import as_it_began, as_it_is_now
from mtv.plan.parts import part_plan

if TYPE_CHECKING:
    from mtv.kubevirt.pods import PodRequest
    from mtv.steps.context import RunContext, VmContext
    from mtv.store import Store

Log = Callable[[str], None]


class TaskRef(msgspec.Struct, frozen=True):
    """Which DAG run a task belongs to: the key of the run in the store."""

    dag_id: str
    run_id: str


class PodTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pod of a step runs, and the labels by which it is found again."""

    connection_id: str
    namespace: str
    run_id: str
    vm_name: str
    labels: dict[str, str]


class StoreConnections(Connections, Protocol):
    """Connections that also know where the store is."""

    def store_dsn(self) -> str:
        """Return the store's address, or "" for the SQLite file of the state folder."""
        ...


class StepRunner:
    """What the operators call. The benchmark replaces it by one whose steps do nothing."""

    def __init__(self, settings: Settings, connections: StoreConnections | None = None) -> None:
        self.settings = settings
        self.connections = connections or AirflowConnections()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store of this installation. `StoreAway` leaves for a store that does not answer,
        `StoreOlder` or `StoreNewer` for a query that another version's tables make fail.
        """
        from mtv.store import Store, default_dsn

        dsn = self.connections.store_dsn() or default_dsn(self.settings.state_folder)
        with Store.open(dsn) as store, store.explaining(), store.answering():
            yield store

    def freeze(self, outline: Outline, task: TaskRef, log: Log) -> list[str]:
        """Start the run, or find it again, and return the VM ids it has pinned.

        The plan is the file as it is now, and for a part that another one has started what that one has frozen.
        A run that has ended stays ended when `freeze` is cleared, until one of its VMs begins again (`prepare`): were
        `freeze` cleared alone, nothing would end the run again.
        Raises `PlanError` for a plan that does not check, `PermanentError` when the wave may not start now.
        """
        from mtv.orchestration.start import refuse_start
        from mtv.plan import load_compiled
        from mtv.steps import run as run_steps
        from mtv.steps.context import start_run

        with self.store() as store:
            store.upgrade()
            known = store.run_of(task.dag_id, task.run_id)
            if known is not None and known.frozen_vms is not None:
                with self._context(task, log) as ctx:
                    return run_steps.freeze(ctx)
            if known is None:
                # A part that another one has started bears its run id.
                before = store.run_of(outline.previous_part, task.run_id) if outline.previous_part else None
                if before is None:
                    outline = as_it_is_now(outline, self.settings, log)
                    plan = load_compiled(self.settings.compiled_folder, outline.plan_hash)
                else:
                    plan = store.plan(before.plan_hash)
                    outline = as_it_began(outline, plan, log)
                refuse_start(store, plan, outline, parallelism=conf.getint("core", "parallelism", fallback=32))
                plan_hash = store.put_plan(plan)
            else:
                plan_hash = known.plan_hash
            ctx = start_run(
                store=store,
                connections=self.connections,
                settings=self.settings,
                plan_hash=plan_hash,
                wave=outline.wave,
                dag_id=task.dag_id,
                dag_run_id=task.run_id,
                log=log,
            )
            return run_steps.freeze(replace(ctx, plan=part_plan(ctx.plan, outline.wave, outline.part)))

    def dags_of(self, task: TaskRef) -> set[str]:
        """Return the ids of the DAGs of the plan that the run has frozen; none before it has pinned its VMs."""
        with self.store() as store:
            run = store.run_of(task.dag_id, task.run_id)
            if run is None or run.frozen_vms is None:
                return set()
            return {outline.dag_id for outline in outlines_of(store.plan(run.plan_hash), "", "")}

    def pick(self, itinerary: str, task: TaskRef, log: Log) -> list[str]:
        """Return the frozen VMs that walk one itinerary, in frozen order."""
        with self._context(task, log) as ctx:
            walks = {vm.id: vm_itinerary(ctx.plan, ctx.wave, vm) for vm in ctx.wave.vms}
            return [vm_id for vm_id in ctx.run.frozen_vms or () if walks.get(vm_id) == itinerary]

    def run_step(self, step: str, task: TaskRef, log: Log) -> None:
        """Run a step of the whole run."""
        from mtv.steps import run as run_steps

        with self._context(task, log) as ctx:
            getattr(run_steps, step)(ctx)

    def inventory_step(self, step: str, source: str, log: Log) -> None:
        """Run a step of a source's inventory; how plans stand after it also goes to where DAG tags are made."""
        from mtv.steps import inventory

        with self.store() as store:
            store.upgrade()
            ctx = inventory.InventoryContext(
                store=store, connections=self.connections, settings=self.settings, source=source, log=log
            )
            if step == "take":
                inventory.take(ctx)
                return
            folder = OutlineFolder(self.settings.outlines_folder)
            for plan_hash, standing in inventory.judge(ctx).items():
                folder.write_standing(plan_hash, is_ready=standing.is_ready)

    def vm_step(self, step: str, vm_id: str, task: TaskRef, log: Log, *, named: Log, turn: Turn | None = None) -> bool:
        """Run a step of one VM and return True; `named` is told the VM's name.

        With `turn`, return False while it is not the VM's: at most `turn.limit` VMs of a run are in flight.
        """
        module = importlib.import_module(f"mtv.steps.{step}")
        with self._vm_context(vm_id, task, log) as ctx:
            named(ctx.vm.name)
            if turn and not ask_to_enter(ctx.store, ctx.run, vm_id, turn):
                log(f"waiting: {turn.limit} VMs of this wave are in flight, and {ctx.vm.name} is not next")
                return False
            getattr(module, step)(ctx)
            return True

    def pod_target(self, step: str, vm_id: str, task: TaskRef, log: Log) -> PodTarget | None:
        """Return where the pod of a step runs and the labels by which it is found again; None: no pod at all."""
        from mtv.kubevirt import labels

        with self._vm_context(vm_id, task, log) as ctx:
            return PodTarget(
                connection_id=ctx.plan.target.connection,
                namespace=ctx.namespace,
                run_id=ctx.run.id,
                vm_name=ctx.vm.name,
                labels=labels.of_object(
                    plan=ctx.plan.name, wave=ctx.wave.name, vm=vm_id, run=ctx.run.id, role=labels.Role(step)
                ),
            )

    def pod_request(self, step: str, vm_id: str, task: TaskRef, log: Log) -> PodRequest | None:
        """Return the pod that a step wants to run; None when the step is done already."""
        module = importlib.import_module(f"mtv.steps.{step}")
        with self._vm_context(vm_id, task, log) as ctx:
            request: PodRequest | None = module.pod_request(ctx)
            return request

    def pod_finish(self, step: str, vm_id: str, message: str, task: TaskRef, log: Log) -> None:
        """Give a pod's termination message to its step. Raises what the step makes of it."""
        module = importlib.import_module(f"mtv.steps.{step}")
        with self._vm_context(vm_id, task, log) as ctx:
            module.finish(ctx, message)

    @contextmanager
    def _context(self, task: TaskRef, log: Log) -> Iterator[RunContext]:
        from mtv.steps.context import open_run

        with self.store() as store:
            yield open_run(
                store=store,
                connections=self.connections,
                settings=self.settings,
                dag_id=task.dag_id,
                dag_run_id=task.run_id,
                log=log,
            )

    @contextmanager
    def _vm_context(self, vm_id: str, task: TaskRef, log: Log) -> Iterator[VmContext]:
        with self._context(task, log) as ctx:
            if vm_id not in (ctx.run.frozen_vms or ()):
                raise PermanentError(
                    f"VM {vm_id!r} is not among the VMs that run {ctx.run.id} has frozen",
                    cure="the expanded list and the frozen one differ; start a new run",
                    code="NotFrozen",
                )
            yield ctx.for_vm(vm_id)


def log_lines(logger: Any) -> Log:
    """Return a function that writes one line to Airflow's task log: names of VMs cannot make it two."""

    def write(line: str) -> None:
        logger.info("%s", printable(line))

    return write
