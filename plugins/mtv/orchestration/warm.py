"""Imports what every task of a wave needs, so that the processes that fork tasks do it once.

Airflow's components load plugins when they start and fork a process per task. Without this each task would spend
about 0.7 CPU seconds on imports alone, several CPU seconds a VM.
"""

from __future__ import annotations

import airflow.providers.cncf.kubernetes.operators.pod  # noqa: F401
import kubernetes.client  # noqa: F401

import mtv.orchestration.loader
import mtv.orchestration.pods.operator
import mtv.orchestration.turn_trigger
import mtv.steps.context
import mtv.store  # noqa: F401
