"""The part `airflow`: a local Airflow whose connections are the lab's endpoints and whose plans are the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lab.airflow.connections import STORE, lab_connections
from lab.airflow.databases import empty_database, make_databases, remove_databases
from lab.airflow.instance import CONNECTIONS, airflow_in
from lab.airflow.server import AirflowServer, stop_components
from lab.cache import say
from lab.cluster import images, machine
from lab.parts import Part
from lab.state import REPO, State, write_secret

_ADDRESSES = "databases.json"


class AirflowPart(Part):
    """Start, check and stop Airflow."""

    name = "airflow"
    needs = ("cluster", "kubevirt", "vcenter", "ova")
    real = "Airflow: API server, scheduler, DAG processor, triggerer; LocalExecutor on SQLite or PostgreSQL"
    stand_in = "everybody on this machine is an admin; tuned to notice and poll sooner than a real installation"

    def build(self) -> None:
        """Make the empty database that a start copies: Airflow itself is in the virtual environment."""
        empty_database()

    def begin(self, state: State) -> None:
        """Start all components with an empty database and store, and fresh copies of the example plans.

        They read their connections only when a task asks, so those can come later. Old reports stay.
        """
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
        if not machine.is_root():
            say("no block volumes without root: the example plans use the filesystem class for every datastore")
            _without_block_volumes(plans)
        databases = make_databases(folder, store_folder=mtv)
        server = airflow_in(
            folder,
            connections={STORE: databases.store_connection},
            plans=plans,
            dsn=databases.airflow,
            settings={"MTV_MOVER_IMAGE": images.MOVER},
        )
        # Only what the server was started with; its secrets stand in 0600 files below its home.
        (folder / "environment.json").write_text(json.dumps(dict(server.environment)))
        addresses = {"database": databases.airflow, "store": databases.store}
        (folder / _ADDRESSES).write_text(json.dumps(addresses))
        server.start_components()

    def start(self, state: State) -> dict[str, Any]:
        """Tell Airflow the endpoints of the lab and wait until all components answer."""
        folder = state.folder(self.name)
        addresses: dict[str, str] = json.loads((folder / _ADDRESSES).read_text())
        store = json.loads((folder / CONNECTIONS).read_text())[STORE]
        write_secret(folder / CONNECTIONS, json.dumps(lab_connections(state, store=store)))
        server = _server_in(folder)
        server.wait_until_healthy()
        return {
            "url": server.url,
            "home": str(server.home),
            "plans": str(folder / "plans"),
            "connections_file": str(folder / CONNECTIONS),
            "state_folder": str(folder / "mtv"),
            **addresses,
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
        (folder / CONNECTIONS).unlink(missing_ok=True)


def _without_block_volumes(plans: Path) -> None:
    for plan in plans.glob("*.yaml"):
        plan.write_text(
            plan.read_text().replace("storage_class: lab-block, volume_mode: Block", "storage_class: lab-fs")
        )


def server_of(state: State) -> AirflowServer | None:
    """Return the running lab's Airflow, to stop and start single components of it; None when it is not up."""
    if not state.endpoints("airflow"):
        return None
    return _server_in(state.folder("airflow"))


def _server_in(folder: Path) -> AirflowServer:
    return AirflowServer(folder / "home", json.loads((folder / "environment.json").read_text()))
