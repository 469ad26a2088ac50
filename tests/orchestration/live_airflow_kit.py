"""A running Airflow with the DAGs of `live_dags`, for the tests that need one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lab.airflow.api import AirflowApi
from lab.airflow.instance import airflow_in
from lab.airflow.server import AirflowServer
from mtv.store import Store

T = TypeVar("T")
HERE = Path(__file__).parent


def until(look: Callable[[], T], *, what: str, timeout_s: float = 300) -> T:
    end = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.5)
    return found


@dataclass
class Live:
    """A running Airflow with the DAGs of `live_dags`."""

    server: AirflowServer
    api: AirflowApi
    folder: Path
    gate: Path
    namespace: str

    def start(self, plan: str) -> tuple[str, str]:
        """Start a run of the plan, whose VMs nobody has touched: one that an earlier run migrated stays migrated."""
        with self.store() as store:
            store.upgrade()
        with closing(sqlite3.connect(self._store_file)) as database, database:
            database.execute("DELETE FROM vms WHERE plan_name = ?", (plan,))
        dag_id = f"mtv.{plan}.w"
        self.api.wait_for_dag(dag_id, timeout_s=300)
        self.api.unpause(dag_id)
        return dag_id, self.api.trigger(dag_id)

    @property
    def _store_file(self) -> Path:
        return self.folder / "mtv" / "store.sqlite"

    def store(self) -> Store:
        return Store.open(f"sqlite:///{self._store_file}")

    def states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str]:
        return {(task["task_id"], task["map_index"]): task["state"] for task in self.api.tasks(dag_id, run_id)}

    def logs(self, dag_id: str) -> str:
        folder = self.server.home / "logs" / f"dag_id={dag_id}"
        return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*.log*"))


def running_airflow(folder: Path, connections: dict[str, Any], settings: dict[str, str]) -> Iterator[Live]:
    gate = folder / "gate"
    gate.mkdir(mode=0o777)
    gate.chmod(0o777)
    server = airflow_in(
        folder,
        connections=connections,
        settings={
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "live_dags"),
            "LIVE_GATE": str(gate),
            # These DAGs do not change: parsing them again every few seconds is a tenth of a core for nothing.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            # A DAG that its file gives no more is stale soon after the file was parsed again.
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "5",
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
            "MTV_POD_POLL_S": "1",
            "MTV_RETRY_DELAY_S": "1",
            # A triggerer that was killed is given up after this long.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            **settings,
        },
    )
    try:
        server.start(timeout_s=240)
        api = AirflowApi(server.url)
        api.log_in()
        yield Live(server, api, folder, gate, settings.get("LIVE_NAMESPACE", ""))
    finally:
        server.stop()
