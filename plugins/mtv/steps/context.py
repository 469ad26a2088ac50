"""What a step works with: the store, the connections, the frozen plan and run, and for VM steps the VM's options."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from mtv.kubevirt.cluster import Cluster
from mtv.model.connection import Connection, Connections
from mtv.model.errors import PermanentError
from mtv.model.plan import EffectiveVm, Plan, Wave
from mtv.model.settings import Settings
from mtv.plan.options import effective
from mtv.providers.base import Provider
from mtv.providers.registry import open_provider
from mtv.store import Run, Store

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One run of one wave. `plan` is the plan as frozen for the run, never the file as it is now.

    `open_provider` and `open_cluster` are the edges to the outside world.
    """

    store: Store
    connections: Connections
    settings: Settings
    plan: Plan
    run: Run
    log: Log = field(repr=False)
    open_provider: Callable[[Connection], Provider] = field(default=open_provider, repr=False)
    open_cluster: Callable[[Connection], Cluster] = field(default=Cluster, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @property
    def wave(self) -> Wave:
        """The wave that runs."""
        return self.plan.wave(self.run.wave)

    @property
    def namespace(self) -> str:
        """The target namespace."""
        return self.plan.target.namespace

    def provider(self, connection_id: str) -> Provider:
        """Open a session with a source; use it as a context manager."""
        return self.open_provider(self.connections.get(connection_id))

    def cluster(self) -> Cluster:
        """Return a client of the target cluster."""
        return self.open_cluster(self.connections.get(self.plan.target.connection))

    def for_vm(self, vm_id: str) -> VmContext:
        """Return the context of one VM of the wave. Raises `PermanentError` for an id the wave does not hold."""
        for vm in self.wave.vms:
            if vm.id == vm_id:
                own = {f.name: getattr(self, f.name) for f in fields(RunContext)}
                return VmContext(**own, vm=effective(self.plan, self.wave, vm))
        raise PermanentError(
            f"wave {self.wave.name!r} of plan {self.plan.name!r} holds no VM {vm_id!r}",
            cure="the frozen row and the plan of the run differ; start a new run",
            code="vm-not-in-wave",
        )


@dataclass(frozen=True, kw_only=True)
class VmContext(RunContext):
    """One VM within a run, with every option decided."""

    vm: EffectiveVm

    @property
    def key(self) -> tuple[str, str]:
        """Plan name and VM id: the VM's row in the store."""
        return (self.plan.name, self.vm.id)


def start_run(
    *,
    store: Store,
    connections: Connections,
    settings: Settings,
    plan_hash: str,
    wave: str,
    dag_id: str,
    dag_run_id: str,
    log: Log,
) -> RunContext:
    """Start (or find again) the run of a DAG run and return its context. Call it from `freeze` only.

    Raises `RunRefused` naming the holder while another run of the plan is active.
    """
    plan = store.plan(plan_hash)
    run = store.start_run(plan_hash=plan_hash, plan_name=plan.name, wave=wave, dag_id=dag_id, dag_run_id=dag_run_id)
    return RunContext(store=store, connections=connections, settings=settings, plan=plan, run=run, log=log)


def open_run(
    *,
    store: Store,
    connections: Connections,
    settings: Settings,
    dag_id: str,
    dag_run_id: str,
    log: Log,
) -> RunContext:
    """Return the context of a run that `freeze` started; plan and wave are those pinned by the run.

    Raises `PermanentError` naming `freeze` when the store knows no such run.
    """
    run = store.run_of(dag_id, dag_run_id)
    if run is None:
        raise PermanentError(
            f"no run of {dag_id} {dag_run_id} in the store", cure="clear the task freeze", code="run-unknown"
        )
    return RunContext(
        store=store, connections=connections, settings=settings, plan=store.plan(run.plan_hash), run=run, log=log
    )
