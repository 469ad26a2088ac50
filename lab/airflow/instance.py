"""Makes a local Airflow below a folder: its home, its connections and mtv's own state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.airflow.environment import airflow_environment
from lab.airflow.server import AirflowServer
from lab.process import free_port
from lab.state import REPO, write_secret

CONNECTIONS = "connections.json"
"""The 0600 file below an Airflow's folder that holds its connections. It is read anew for each question."""


def airflow_in(
    folder: Path,
    *,
    connections: Mapping[str, Mapping[str, Any]],
    plans: Path = REPO / "include" / "plans",
    dsn: str = "",
    settings: Mapping[str, str] | None = None,
) -> AirflowServer:
    """Return an Airflow that is not started yet.

    `dsn` is the metadata database (default: SQLite below `folder`); mtv's store is the connection `mtv_store` if given,
    else SQLite below `folder`/mtv. `settings` are environment variables that win over everything else.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Named although it is the default: a connection that no backend knows is asked of Airflow's API, and for the first
    # such question a triggerer builds that whole API in its own process, many seconds on a busy machine.
    store = {"conn_type": "sqlite", "host": str(folder / "mtv" / "store.sqlite")}
    connections = {"mtv_store": store, **connections}
    secrets = write_secret(folder / CONNECTIONS, json.dumps(connections))
    mtv = {
        "MTV_PLANS_FOLDER": str(plans),
        "MTV_RULES_FOLDER": str(REPO / "include" / "validation_rules"),
        "MTV_STATE_FOLDER": str(folder / "mtv"),
        "MTV_POD_POLL_S": "2",
        "MTV_RETRY_DELAY_S": "5",
    }
    environment = airflow_environment(
        folder / "home",
        port=free_port(),
        dsn=dsn or f"sqlite:///{folder / 'airflow.db'}",
        connections=secrets,
        settings={**mtv, **(settings or {})},
    )
    return AirflowServer(folder / "home", environment)
