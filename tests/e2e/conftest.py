"""A whole factory for end-to-end tests: all of the lab, Airflow on it, and a plans folder that tests write to."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import control
from lab.airflow.api import FINISHED, AirflowApi
from lab.state import State
from mtv.kubevirt.cluster import Cluster
from mtv.model.evidence import EvidenceKind
from mtv.model.source import PowerState, SourceVm
from mtv.providers.connections import FileConnections
from mtv.providers.registry import open_provider
from mtv.store import Store
from tests.e2e.watchers import PeerWatcher

RUN_TIMEOUT_S = 1800


@dataclass
class Factory:
    """The running factory. A run is named by its DAG and its DAG run id."""

    state: State
    api: AirflowApi
    store: Store
    connections: FileConnections
    while_starting: PeerWatcher | None
    """Who was called while the lab came up; None if it was up before."""

    @property
    def endpoints(self) -> dict[str, Any]:
        return self.state.endpoints("airflow")

    def write_plan(self, name: str, text: str) -> str:
        """Write a YAML plan and return the id of the DAG of its wave `w`, unpaused."""
        (Path(self.endpoints["plans"]) / f"{name}.yaml").write_text(textwrap.dedent(text))
        dag_id = f"mtv.{name}.w"
        self.api.wait_for_dag(dag_id, timeout_s=180)
        self.api.unpause(dag_id)
        return dag_id

    def start(self, dag_id: str) -> str:
        return self.api.trigger(dag_id)

    def finish(self, dag_id: str, dag_run_id: str) -> str:
        """Wait for the run's end and return its state."""
        return self.api.wait_for_run(dag_id, dag_run_id, timeout_s=RUN_TIMEOUT_S)

    def run(self, dag_id: str) -> tuple[str, str]:
        """Start a run, wait for its end; return its id and state."""
        dag_run_id = self.start(dag_id)
        return dag_run_id, self.finish(dag_id, dag_run_id)

    def wait_for_step(
        self, dag_id: str, dag_run_id: str, step: str, states: set[str], *, timeout_s: float = 600
    ) -> None:
        """Wait until the first VM's task of `step` is in one of `states`."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [t["state"] for t in self.api.tasks(dag_id, dag_run_id) if t["task_id"].endswith(f".{step}")]
            if states & set(found):
                return
            run = self.api.run_state(dag_id, dag_run_id)
            assert run not in FINISHED, f"the run ended {run} before {step} was in {states}: {found}"
            assert time.monotonic() < deadline, f"{step} is {found}, not in {states}"
            time.sleep(0.5)

    def evidence(self, dag_id: str, dag_run_id: str, vm_id: str, kind: EvidenceKind) -> dict[str, Any]:
        """Return the newest evidence of a kind about a VM of the run."""
        run = self.store.run_of(dag_id, dag_run_id)
        assert run is not None
        rows = self.store.evidence(run.id, vm_id, kind)
        assert rows, f"no evidence {kind} for {vm_id}"
        return rows[-1].document

    def errors(self, dag_id: str, dag_run_id: str) -> str:
        """All error texts of a run's steps, for messages of failed assertions."""
        run = self.store.run_of(dag_id, dag_run_id)
        steps = self.store.steps(run.id) if run else []
        return "\n".join(f"{s.vm_id} {s.step} {s.state}: {s.error}" for s in steps if s.state != "success")

    def source_vm(self, name: str, connection: str = "lab-vcenter") -> SourceVm:
        with open_provider(self.connections.get(connection)) as provider:
            (vm,) = provider.vms([name])
            return vm

    def source_power(self, name: str) -> PowerState:
        with open_provider(self.connections.get("lab-vcenter")) as provider:
            (vm,) = provider.vms([name])
            return provider.power_state(vm)

    def power_on_source(self, name: str) -> None:
        """Turn a source VM on and wait until its guest has booted."""
        from lab.vcenter.part import wait_for_guest

        with open_provider(self.connections.get("lab-vcenter")) as provider:
            (vm,) = provider.vms([name])
            if provider.power_state(vm) is not PowerState.ON:
                provider.power_on(vm)
        wait_for_guest(self.state, name)

    def cluster(self) -> Cluster:
        return Cluster(self.connections.get("lab-cluster"))

    def payload(self, name: str) -> dict[str, str]:
        """Path in the guest → SHA-256, as the guest was made."""
        guests = {**self.state.endpoints("vcenter")["guests"], **self.state.endpoints("ova")["guests"]}
        found: dict[str, str] = guests[name]["payload"]
        return found


@pytest.fixture(scope="session")
def factory(lab) -> Iterator[Factory]:
    # The demo runs on SQLite; here both Airflow and the store are on PostgreSQL.
    was_up = bool(lab.state.endpoints("airflow"))
    control.build(["airflow"])  # which may fetch packages
    with pytest.MonkeyPatch.context() as patch, PeerWatcher() as watcher:
        patch.setenv("MTV_LAB_DATABASE", "postgresql")
        endpoints = lab.endpoints("airflow")
    api = AirflowApi(endpoints["url"])
    api.log_in()
    with Store.open(endpoints["store"]) as store:
        store.upgrade()
        connections = FileConnections(Path(endpoints["connections_file"]))
        yield Factory(lab.state, api, store, connections, None if was_up else watcher)
