"""The part `airflow`: a local Airflow whose connections are the lab's endpoints and whose plans are the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lab.airflow.connections import lab_connections
from lab.airflow.databases import make_databases, remove_databases
from lab.airflow.instance import airflow_in
from lab.airflow.server import AirflowServer, stop_components
from lab.cache import say
from lab.parts import Part
from lab.state import REPO, State


class AirflowPart(Part):
    """Start, check and stop Airflow."""

    name = "airflow"
    needs = ("cluster", "kubevirt", "vcenter", "ova")
    real = "Airflow: API server, scheduler, DAG processor, triggerer; LocalExecutor on SQLite or PostgreSQL"
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
        if state.endpoints("cluster")["classes"]["block"] is None:
            say("no block volumes without root: the example plans use the filesystem class for every datastore")
            _without_block_volumes(plans)
        databases = make_databases(folder, store_folder=mtv)
        server = airflow_in(
            folder,
            connections=lab_connections(state, store=databases.store_connection),
            plans=plans,
            dsn=databases.airflow,
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
            "database": databases.airflow,
            "store": databases.store,
        }

    def healthy(self, state: State) -> bool:
        """Do all components answer?"""
        server = server_of(state)
        return server is not None and server.healthy()

    def stop(self, state: State) -> None:
        """Stop all components and their database; the file with the connections' passwords goes with them."""
        folder = state.dir / self.name
        stop_components(folder / "home")
        remove_databases(folder)
        (folder / "connections.json").unlink(missing_ok=True)


def _without_block_volumes(plans: Path) -> None:
    for plan in plans.glob("*.yaml"):
        plan.write_text(
            plan.read_text().replace("storage_class: lab-block, volume_mode: Block", "storage_class: lab-fs")
        )


def server_of(state: State) -> AirflowServer | None:
    """Return the running lab's Airflow, to stop and start single components of it; None when it is not up."""
    if not state.endpoints("airflow"):
        return None
    folder = state.folder("airflow")
    return AirflowServer(folder / "home", json.loads((folder / "environment.json").read_text()))
