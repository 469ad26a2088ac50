"""Registers mtv with Airflow. Everything else is in the package `mtv`, which Airflow does not walk (`.airflowignore`)."""

from __future__ import annotations

import mtv.orchestration.warm  # noqa: F401  inherited by every task that a component forks
from airflow.plugins_manager import AirflowPlugin


class MtvPlugin(AirflowPlugin):
    """The migration factory."""

    name = "mtv"
