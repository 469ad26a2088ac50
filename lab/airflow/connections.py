"""The lab's endpoints as the connections that the example plans name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.state import State

VCENTER, OVA, CLUSTER, STORE = "lab-vcenter", "lab-ova", "lab-cluster", "mtv_store"


def lab_connections(state: State, *, store: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return connection id → fields, in the format of `airflow connections export`, for every part that is up.

    `store` are the fields of the store's own connection.
    """
    vcenter, ova, cluster = (state.endpoints(part) for part in ("vcenter", "ova", "cluster"))
    found: dict[str, dict[str, Any]] = {STORE: store}
    if vcenter:
        found[VCENTER] = {
            "conn_type": "vsphere",
            "host": vcenter["host"],
            "port": vcenter["port"],
            "login": vcenter["user"],
            "password": Path(vcenter["password_file"]).read_text().strip(),
            "extra": {"ca_file": vcenter["ca_file"]},
        }
    if ova:
        # Pods see the same folder as the worker: the lab's node is this machine.
        found[OVA] = {
            "conn_type": "ova",
            "extra": {"path": ova["path"], "volume": {"hostPath": {"path": ova["path"], "type": "Directory"}}},
        }
    if cluster:
        found[CLUSTER] = {"conn_type": "kubernetes", "extra": {"kube_config_path": cluster["kubeconfig"]}}
    return found
