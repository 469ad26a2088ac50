"""Airflow connections to whatever parts of the lab are up, as a 0600 file that Airflow's secrets backend reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.state import State, write_secret

VCENTER = "lab-vcenter"
CLUSTER = "lab-cluster"
OVA = "lab-ova"


def lab_connections(state: State) -> dict[str, dict[str, Any]]:
    """Return connection id → fields, in the format of `airflow connections export`, for the parts that are up."""
    found: dict[str, dict[str, Any]] = {}
    if vcenter := state.endpoints("vcenter"):
        found[VCENTER] = {
            "conn_type": "vsphere",
            "host": vcenter["host"],
            "port": vcenter["port"],
            "login": vcenter["user"],
            "password": Path(vcenter["password_file"]).read_text().strip(),
            "extra": {"ca_file": vcenter["ca_file"]},
        }
    if cluster := state.endpoints("cluster"):
        found[CLUSTER] = {"conn_type": "kubernetes", "extra": {"kube_config_path": cluster["kubeconfig"]}}
    if ova := state.endpoints("ova"):
        # The lab's node is this machine, so pods see the folder as the worker does.
        volume = {"hostPath": {"path": ova["path"], "type": "Directory"}}
        found[OVA] = {"conn_type": "ova", "extra": {"path": ova["path"], "volume": volume}}
    return found


def write_connections(path: Path, connections: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a connections file that only its owner may read, in one step, and return its path."""
    draft = path.with_name(f".{path.name}")
    write_secret(draft, json.dumps(connections, indent=2))
    return draft.replace(path)
