"""The part `airflow`: a local Airflow whose connections are the lab's endpoints and whose plans are the examples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lab.airflow.environment import airflow_environment
from lab.airflow.server import COMPONENTS, AirflowServer
from lab.demo.connections import write_connections
from lab.parts import Part
from lab.process import free_port, stop_daemon
from lab.state import REPO, State


class AirflowPart(Part):
    """Start, check and stop Airflow."""

    name = "airflow"
    needs = ("cluster", "kubevirt", "vcenter", "ova")
    real = "Airflow: API server, scheduler, DAG processor, triggerer; LocalExecutor on SQLite"
    stand_in = "everybody on this machine is an admin; tuned to notice and poll sooner than a real installation"

    def build(self) -> None:
        """Nothing: Airflow is in the virtual environment."""

    def start(self, state: State) -> dict[str, Any]:
        """Start with an empty database and store, and fresh copies of the example plans; old reports stay."""
        folder = state.folder(self.name)
        for stale in (folder / "home", folder / "plans"):
            shutil.rmtree(stale, ignore_errors=True)
        mtv = folder / "mtv"
        mtv.mkdir(mode=0o700, exist_ok=True)
        for stale in mtv.iterdir():
            if stale.name == "reports":
                continue
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        plans = Path(shutil.copytree(REPO / "include" / "plans", folder / "plans"))
        connections = write_connections(state, folder / "connections.json", store_folder=mtv)
        settings = {
            "MTV_PLANS_FOLDER": str(plans),
            "MTV_RULES_FOLDER": str(REPO / "include" / "validation_rules"),
            "MTV_STATE_FOLDER": str(mtv),
            "MTV_MOVER_IMAGE": state.endpoints("cluster")["images"]["mover"],
            "MTV_POD_POLL_S": "2",
            "MTV_RETRY_DELAY_S": "5",
        }
        home, port = folder / "home", free_port()
        dsn = f"sqlite:///{home / 'airflow.db'}"
        environment = airflow_environment(home, port=port, dsn=dsn, connections=connections, settings=settings)
        server = AirflowServer(home, environment)
        server.start()
        return {
            "url": server.url,
            "home": str(home),
            "plans": str(plans),
            "connections_file": str(connections),
            "state_folder": str(mtv),
            "store": f"sqlite:///{mtv / 'store.sqlite'}",
            "settings": settings,
            "port": port,
        }

    def healthy(self, state: State) -> bool:
        """Do all components answer?"""
        server = server_of(state)
        return server is not None and server.healthy()

    def stop(self, state: State) -> None:
        """Stop all components; the file with the connections' passwords goes with them."""
        folder = state.dir / self.name
        for component in reversed(list(COMPONENTS)):
            stop_daemon(folder / "home" / f"{component}.pid", timeout_s=20)
        (folder / "connections.json").unlink(missing_ok=True)


def server_of(state: State) -> AirflowServer | None:
    """Return the running lab's Airflow, to stop and start single components of it; None when it is not up."""
    found = state.endpoints("airflow")
    if not found:
        return None
    home = Path(found["home"])
    environment = airflow_environment(
        home,
        port=found["port"],
        dsn=f"sqlite:///{home / 'airflow.db'}",
        connections=Path(found["connections_file"]),
        settings=found["settings"],
    )
    return AirflowServer(home, environment)
