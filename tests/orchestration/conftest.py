"""Airflow for these tests: a home of its own in a temporary folder, chosen before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="mtv-test-airflow-"))
os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(_HOME / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(_HOME / "plugins"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME / 'airflow.db'}",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    AIRFLOW__CORE__PARALLELISM="8",  # an SQLite store carries no more
)


def pytest_unconfigure() -> None:
    import shutil

    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def settings(tmp_path: Path):
    from mtv.model.settings import Settings

    plans = tmp_path / "plans"
    plans.mkdir()
    return Settings(
        plans_folder=plans,
        rules_folder=tmp_path / "rules",
        state_folder=tmp_path / "state",
        pod_poll_s=0.1,
        retry_delay_s=1,
    )


@pytest.fixture
def write_plan(settings) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = settings.plans_folder / name
        path.write_text(text)
        return path

    return write


GOOD_PLAN = """\
source: {connection: src}
target: {connection: dst, namespace: finance}
network_map:
  "*": {type: pod}
storage_map:
  "*": {storage_class: standard}
waves:
  pilot:
    max_vms_in_flight: 2
    vms: [{name: web-1}, {name: db-1}, {name: app-1}]
  rest:
    vms: [{name: big-1}]
"""


@pytest.fixture
def good_plan() -> str:
    return GOOD_PLAN
