"""Runs of one VM from a source onto the lab's cluster, as the orchestration makes them, without it."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import NAMESPACES
from mtv.model.connection import Connection
from mtv.model.evidence import EvidenceKind
from mtv.model.plan import Plan, PlannedVm, Source, Target, Wave
from mtv.model.settings import Settings
from mtv.steps import convert, transfer
from mtv.steps.context import RunContext, VmContext, start_run
from mtv.store import Store
from tests.steps.lab_pods import last_word, start_pod

CLUSTER = "cluster"


class LabConnections:
    """A source and the lab's cluster, by their ids."""

    def __init__(self, lab: Any, source: Connection) -> None:
        kubeconfig = lab.endpoints("cluster")["kubeconfig"]
        cluster = Connection(conn_id=CLUSTER, conn_type="kubernetes", extra={"kube_config_path": kubeconfig})
        self._known = {each.conn_id: each for each in (source, cluster)}

    def get(self, conn_id: str) -> Connection:
        return self._known[conn_id]


class LabRuns:
    """Starts runs into a namespace of their own, which goes with the context."""

    def __init__(self, lab: Any, store: Store, source: Connection, *, rules: Path, state: Path) -> None:
        assert lab.endpoints("kubevirt")
        self.namespace = f"mtv-steps-{uuid.uuid4().hex[:8]}"
        self._store = store
        self._source = source.conn_id
        self._connections = LabConnections(lab, source)
        self._settings = Settings(rules_folder=rules, state_folder=state)
        self._started: list[RunContext] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            with self._started[0].cluster() as cluster:
                cluster.delete(NAMESPACES, self.namespace, "")

    def start(self, vm: PlannedVm, *, dag_run: str = "r1", **of_the_plan: Any) -> RunContext:
        """Start a run of the plan `steps` with this VM and these maps."""
        plan = Plan(
            name="steps",
            source=Source(connection=self._source),
            target=Target(connection=CLUSTER, namespace=self.namespace),
            waves=(Wave(name="w", vms=(vm,)),),
            **of_the_plan,
        )
        started = start_run(
            store=self._store,
            connections=self._connections,
            settings=self._settings,
            plan_hash=self._store.put_plan(plan),
            wave="w",
            dag_id="mtv.steps.w",
            dag_run_id=dag_run,
            log=print,
        )
        self._started.append(started)
        return started


def copy_disks(vm: VmContext) -> PodRequest:
    """Run the pod of `transfer`, keep what it says, and return what was asked for."""
    return _run_pod(transfer, vm)


def convert_disks(vm: VmContext) -> PodRequest:
    """Run the pod of `convert`, keep what it says, and return what was asked for."""
    return _run_pod(convert, vm)


def _run_pod(step: ModuleType, vm: VmContext) -> PodRequest:
    request: PodRequest | None = step.pod_request(vm)
    assert request is not None
    with vm.cluster() as cluster:
        start_pod(cluster, request)
        step.finish(vm, last_word(cluster, request))
    return request


def document(vm: VmContext, kind: EvidenceKind) -> dict[str, Any]:
    """Return what the run kept last of this kind."""
    return vm.store.evidence(vm.run.id, vm.vm.id, kind)[-1].document
