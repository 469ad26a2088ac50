"""Settings of an installation, read from the environment once. None of them is a secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Folders and names that an installation decides. Defaults are relative to the working directory.

    Environment: MTV_PLANS_FOLDER, MTV_RULES_FOLDER, MTV_MORE_RULES_FOLDERS (your own rules, several folders separated
    as in PATH), MTV_STATE_FOLDER (compiled plans, reports, the default store),
    MTV_CONNECTIONS_FILE (the command line's connections), MTV_MOVER_IMAGE, MTV_POD_SERVICE_ACCOUNT,
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
    pod_service_account: str = ""
    pod_poll_s: float = 10
    retry_delay_s: float = 30
    inventory_schedule: str = "@hourly"
    inventory_keep_days: float = 90

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
            pod_service_account=environ.get("MTV_POD_SERVICE_ACCOUNT", ""),
            pod_poll_s=float(environ.get("MTV_POD_POLL_S", default.pod_poll_s)),
            retry_delay_s=float(environ.get("MTV_RETRY_DELAY_S", default.retry_delay_s)),
            inventory_schedule=environ.get("MTV_INVENTORY_SCHEDULE", default.inventory_schedule),
            inventory_keep_days=float(environ.get("MTV_INVENTORY_KEEP_DAYS", default.inventory_keep_days)),
        )
