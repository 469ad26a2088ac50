"""What `make demo` shows while the wave runs, on a terminal and in a log."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from lab.demo.watch import watch
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.model.transfer import Progress
from mtv.store import Store


@pytest.fixture
def run_id(store: Store) -> str:
    """A run in the middle of a copy, with a VM whose step has failed."""
    wave = Wave(name="w", vms=(PlannedVm(id="web-1", name="web-1"), PlannedVm(id="db-1", name="db-1")))
    plan = Plan(name="dc1", target=Target(connection="c", namespace="n"), waves=(wave,))
    run = store.start_run(plan_hash=store.put_plan(plan), plan_name="dc1", wave="w", dag_id="d", dag_run_id="r")
    store.begin_step(run.id, "web-1", "transfer")
    store.put_progress(
        run.id,
        "web-1",
        "transfer",
        Progress(
            disk="disk-0", phase="copy", bytes_done=30 << 20, bytes_total=120 << 20, rate_bytes_per_s=10 << 20, eta_s=9
        ),
    )
    store.put_progress(run.id, "db-1", "convert", Progress(disk="0", phase="convert", percent=40))
    return run.id


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "log"])
def test_steps_and_disks_are_shown_with_how_far_they_are(store: Store, run_id: str, is_terminal: bool) -> None:
    text = StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=160, color_system=None)
    watch(store, run_id, finished=lambda: True, console=console, timeout_s=60)
    said = text.getvalue()
    for words in ("web-1", "transfer running", "copy", "30 MiB", "10 MiB/s", "9 s left", "25 %", "db-1", "40 %"):
        assert words in " ".join(said.split()), words


def test_a_wave_that_does_not_end_is_given_up_in_words(store: Store, run_id: str) -> None:
    with pytest.raises(TimeoutError, match="still running after 0 s"):
        watch(store, run_id, finished=lambda: False, console=Console(file=StringIO()), timeout_s=0)
