"""What `make demo` says about what runs on after it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lab.demo.__main__ import _end
from lab.state import State


def said(state: State) -> str:
    text = StringIO()
    _end(state, Console(file=text, width=160), keep=True)
    return text.getvalue()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def test_what_is_kept_is_told_with_the_address_of_airflow(state: State) -> None:
    state.save_endpoints("airflow", {"url": "http://127.0.0.1:8080"})
    assert "Airflow UI: http://127.0.0.1:8080" in said(state)


def test_an_interrupted_start_offers_no_airflow_and_names_what_runs_on(state: State) -> None:
    assert said(state) == "Airflow is not up; nothing is left running.\n"
    state.save_endpoints("ova", {"folder": "/ova"})
    assert said(state) == "Airflow is not up; still up: ova; `make down` stops all.\n"
