"""The environment that a local Airflow runs with. Secrets are not in it: they stand in 0600 files below its home."""

from __future__ import annotations

import os
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from lab.state import PYTHON_PATH, REPO, write_secret

BACKEND = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
TUNED = {
    # A dependent task waits for the next loop, 1 s by default; with 0.2 s the loops alone take a tenth of a core.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    # A worker notices its task's end only at the next heartbeat; with the default of 5 s half the slots idle.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # How soon a killed worker is noticed (default 300 s).
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
    # A changed plan file is seen within seconds; parsing an unchanged folder costs milliseconds.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    # Rarely needed work that would otherwise run every few seconds on an idle machine.
    "AIRFLOW__SCHEDULER__POOL_METRICS_INTERVAL": "60",
    "AIRFLOW__SCHEDULER__RUNNING_METRICS_INTERVAL": "60",
}
"""Settings that were measured to matter on two cores."""

FIXED = {
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    "SCARF_ANALYTICS": "false",
    # At start, not when first needed: what the plugin imports must be there before the first task is forked.
    "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
    "PYTHONUNBUFFERED": "1",
}

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "MTV_CACHE", "MTV_MOVER_IMAGE")
"""Nothing else of the caller's environment reaches Airflow: an AIRFLOW__… of the user would change the lab."""


def airflow_environment(
    home: Path, *, port: int, dsn: str, connections: Path, settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of all components of one Airflow.

    `port` is the API server's, `connections` a 0600 JSON file in the format of `airflow connections export`;
    `settings` wins over everything else.
    """
    where = f'{{"connections_file_path": "{connections}"}}'
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    passed_on["PATH"] = f"{Path(sys.executable).parent}:{passed_on.get('PATH', '/usr/bin:/bin')}"
    return {
        **passed_on,
        **FIXED,
        **TUNED,
        "PYTHONPATH": PYTHON_PATH,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": dsn,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SECRETS__BACKEND": BACKEND,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": where,
        # Workers read the file themselves; otherwise each lookup is a question to the API server.
        "AIRFLOW__WORKERS__SECRETS_BACKEND": BACKEND,
        "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": where,
        **(settings or {}),
    }


def write_secret_settings(home: Path) -> Path:
    """Write the keys that all components share into `airflow.cfg` (0600), once per home; return its path."""
    path = home / "airflow.cfg"
    if path.exists():
        return path
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fernet_key = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return write_secret(
        path,
        "# Written by the lab. Everything that is no secret comes from the environment.\n"
        f"[core]\nfernet_key = {fernet_key}\n\n"
        f"[api]\nsecret_key = {secrets.token_urlsafe(32)}\n\n"
        f"[api_auth]\njwt_secret = {secrets.token_urlsafe(64)}\n",
    )
