"""The part `airflow`: a local Airflow whose connections are the lab's endpoints and whose plans are the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lab.airflow.connections import lab_connections
from lab.airflow.instance import airflow_in
from lab.airflow.server import COMPONENTS, AirflowServer
from lab.parts import Part
from lab.process import stop_daemon
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
        for stale in folder.glob("airflow.db*"):
            stale.unlink()
        mtv = folder / "mtv"
        mtv.mkdir(mode=0o700, exist_ok=True)
        for stale in mtv.iterdir():
            if stale.name == "reports":
                continue
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        plans = Path(shutil.copytree(REPO / "include" / "plans", folder / "plans"))
        server = airflow_in(
            folder,
            connections=lab_connections(state, store_folder=mtv),
            plans=plans,
            settings={"MTV_MOVER_IMAGE": state.endpoints("cluster")["images"]["mover"]},
        )
        # Only what the server was started with; its secrets stand in 0600 files below its home.
        (folder / "environment.json").write_text(json.dumps(dict(server.environment)))
        server.start()
        return {
            "url": server.url,
            "home": str(server.home),
            "plans": str(plans),
            "connections_file": str(folder / "connections.json"),
            "state_folder": str(mtv),
            "store": f"sqlite:///{mtv / 'store.sqlite'}",
        }

    def healthy(self, state: State) -> bool:
        """Do all components answer?"""
        server = server_of(state)
        return server is not None and server.healthy()

    def stop(self, state: State) -> None:
        """Stop all components; the file with the connections' passwords goes with them."""
        folder = state.dir / self.name
        for component in list(COMPONENTS)[::-1]:
            stop_daemon(folder / "home" / f"{component}.pid", timeout_s=20)
        (folder / "connections.json").unlink(missing_ok=True)


def server_of(state: State) -> AirflowServer | None:
    """Return the running lab's Airflow, to stop and start single components of it; None when it is not up."""
    if not state.endpoints("airflow"):
        return None
    folder = state.folder("airflow")
    return AirflowServer(folder / "home", json.loads((folder / "environment.json").read_text()))
