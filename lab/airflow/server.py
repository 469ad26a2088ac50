"""Starting and stopping the four components of a local Airflow, each its own daemon."""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.airflow.databases import empty_database, migrate_database
from lab.airflow.environment import write_secret_settings
from lab.process import is_alive, start_daemon, stop_daemon, tail, wait_until

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server", "--workers", "1"),
    # Log servers would listen on every address; everything runs on one host, so logs are read from the files.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


@dataclass(frozen=True)
class AirflowServer:
    """One Airflow below `home`, with the environment of `airflow_environment`."""

    home: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Where UI and API answer."""
        return self.environment["AIRFLOW__API__BASE_URL"]

    def pidfile(self, component: str) -> Path:
        """Pid file of a component."""
        return self.home / f"{component}.pid"

    def log(self, component: str) -> Path:
        """What a component prints."""
        return self.home / f"{component}.log"

    def migrate(self) -> None:
        """Bring the metadata database up to date. Raises `PermanentError` with Airflow's last words."""
        write_secret_settings(self.home)
        kind, _, path = self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].partition(":///")
        if kind == "sqlite" and not Path(path).exists():
            shutil.copyfile(empty_database(), path)
        else:
            migrate_database(self.environment)

    def start(self, *, timeout_s: float = 120) -> None:
        """Start all components and wait until the API server, the scheduler and the triggerer say they are healthy."""
        self.start_components()
        self.wait_until_healthy(timeout_s=timeout_s)

    def start_components(self) -> None:
        """Start all components on a database that is up to date, and wait for nothing."""
        self.migrate()
        for component in COMPONENTS:
            self.start_component(component)

    def wait_until_healthy(self, *, timeout_s: float = 120) -> None:
        """Wait until the API server, the scheduler and the triggerer say they are healthy."""
        wait_until(self.healthy, timeout_s=timeout_s, what="Airflow's components", interval_s=0.3, give_up=self._ended)

    def start_component(self, component: str) -> int:
        """Start one component and return its pid."""
        return start_daemon(
            [sys.executable, "-m", "airflow", *COMPONENTS[component]],
            log=self.log(component),
            pidfile=self.pidfile(component),
            env=self.environment,
            cwd=self.home,
        )

    def stop(self, *, timeout_s: float = 20) -> None:
        """Stop all components; see `stop_components`."""
        stop_components(self.home, timeout_s=timeout_s)

    def healthy(self) -> bool:
        """Do all components answer and beat? Never raises."""
        from lab.airflow.api import read_json

        if self._ended():
            return False
        try:
            health = read_json(f"{self.url}/api/v2/monitor/health", timeout_s=5)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _ended(self) -> str:
        for component in COMPONENTS:
            if not is_alive(self.pidfile(component)):
                return f"{component} has ended: {tail(self.log(component))}"
        return ""


def stop_components(home: Path, *, timeout_s: float = 20) -> None:
    """Stop what runs below an Airflow's home: the API server, which tasks report to, after all others."""
    others = [home / f"{component}.pid" for component in COMPONENTS if component != "api-server"]
    with ThreadPoolExecutor(len(others)) as pool:  # each takes seconds to end, most of them in Python's own exit
        list(pool.map(lambda pidfile: stop_daemon(pidfile, timeout_s=timeout_s), others))
    stop_daemon(home / "api-server.pid", timeout_s=timeout_s)
