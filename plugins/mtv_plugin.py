"""Registers mtv with Airflow. All else is in the package `mtv`, which Airflow does not walk (`.airflowignore`)."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

import mtv.orchestration.warm  # noqa: F401  inherited by every task that a component forks


class MtvPlugin(AirflowPlugin):
    """The migration factory."""

    name = "mtv"
