"""The `mtv` command: check plans, look at sources, try rules, write reports. It needs no Airflow."""

from __future__ import annotations

from mtv.cli.main import main

__all__ = ["main"]
