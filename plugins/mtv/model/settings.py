"""Settings of an installation, read from the environment once. None of them is a secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

_PORTS = range(1024, 65536)
"""Pods run as a plain user, who may not listen at a lower one."""


class PodPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """As whom and on which nodes of the target cluster our pods run."""

    service_account: str = ""
    node_selector: dict[str, str] = {}


def _labels_in(text: str) -> dict[str, str]:
    """The labels of `key=value,key=value`. Raises `ValueError`."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [key for key, equals, _ in pairs if not key or not equals]:
        raise ValueError(f"MTV_POD_NODE_SELECTOR is key=value,key=value; {wrong[0]!r} is no such pair")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _port_in(text: str) -> int:
    """A port that pods can listen at, 0 for none. Raises `ValueError`."""
    if text in ("", "0"):
        return 0
    if not (text.isascii() and text.isdecimal() and int(text) in _PORTS):
        raise ValueError(f"MTV_MOVER_METRICS_PORT is a port from {_PORTS[0]} to {_PORTS[-1]}, or 0; not {text!r}")
    return int(text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Folders and names that an installation decides. Defaults are relative to the working directory.

    Environment: MTV_PLANS_FOLDER, MTV_RULES_FOLDER, MTV_MORE_RULES_FOLDERS (your own rules, several folders separated
    as in PATH), MTV_STATE_FOLDER (compiled plans, reports, the default store),
    MTV_CONNECTIONS_FILE (the command line's connections), MTV_MOVER_IMAGE, MTV_MOVER_METRICS_PORT (where the pods of
    copies serve their progress for Prometheus; 0, the default: nowhere), MTV_POD_SERVICE_ACCOUNT,
    MTV_POD_NODE_SELECTOR (labels of the nodes that pods may run on: `key=value,key=value`, empty: any),
    MTV_POD_POLL_S (how often a pod's log is read), MTV_RETRY_DELAY_S (pause before a task is tried again),
    MTV_INVENTORY_SCHEDULE (when inventories are taken: cron, @hourly …; `off` for by hand only) and
    MTV_INVENTORY_KEEP_DAYS (how far back an inventory can be read).
    """

    plans_folder: Path = Path("include/plans")
    rules_folder: Path = Path("include/validation_rules")
    more_rules_folders: tuple[Path, ...] = ()
    state_folder: Path = Path("var/mtv")
    connections_file: Path | None = None
    mover_image: str = "localhost/mtv-mover:1"
    mover_metrics_port: int = 0
    pod_service_account: str = ""
    pod_node_selector: dict[str, str] = msgspec.field(default_factory=lambda: {"kubevirt.io/schedulable": "true"})
    """A claim that is bound by its first pod stays with that pod's node, and the VM's launcher must get there."""
    pod_poll_s: float = 10
    retry_delay_s: float = 30
    inventory_schedule: str = "@hourly"
    inventory_keep_days: float = 90

    @property
    def pod_placement(self) -> PodPlacement:
        """As whom and where pods run."""
        return PodPlacement(service_account=self.pod_service_account, node_selector=self.pod_node_selector)

    @property
    def outlines_folder(self) -> Path:
        """Where the shapes of the waves' DAGs lie, one JSON file per DAG id."""
        return self.state_folder / "outlines"

    @property
    def compiled_folder(self) -> Path:
        """Where compiled plans lie, one JSON file per content hash."""
        return self.state_folder / "compiled"

    @property
    def reports_folder(self) -> Path:
        """Where reports are written, one folder per run."""
        return self.state_folder / "reports"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read settings from environment variables."""
        default = cls()
        connections = environ.get("MTV_CONNECTIONS_FILE", "")
        return cls(
            plans_folder=Path(environ.get("MTV_PLANS_FOLDER", default.plans_folder)),
            rules_folder=Path(environ.get("MTV_RULES_FOLDER", default.rules_folder)),
            more_rules_folders=tuple(
                Path(folder) for folder in environ.get("MTV_MORE_RULES_FOLDERS", "").split(os.pathsep) if folder
            ),
            state_folder=Path(environ.get("MTV_STATE_FOLDER", default.state_folder)),
            connections_file=Path(connections) if connections else None,
            mover_image=environ.get("MTV_MOVER_IMAGE", default.mover_image),
            mover_metrics_port=_port_in(environ.get("MTV_MOVER_METRICS_PORT", "")),
            pod_service_account=environ.get("MTV_POD_SERVICE_ACCOUNT", ""),
            pod_node_selector=(
                _labels_in(environ["MTV_POD_NODE_SELECTOR"])
                if "MTV_POD_NODE_SELECTOR" in environ
                else default.pod_node_selector
            ),
            pod_poll_s=float(environ.get("MTV_POD_POLL_S", default.pod_poll_s)),
            retry_delay_s=float(environ.get("MTV_RETRY_DELAY_S", default.retry_delay_s)),
            inventory_schedule=environ.get("MTV_INVENTORY_SCHEDULE", default.inventory_schedule),
            inventory_keep_days=float(environ.get("MTV_INVENTORY_KEEP_DAYS", default.inventory_keep_days)),
        )
