"""Tasks and a store of another version of mtv: nothing is changed under active runs, and failed queries say why."""

from __future__ import annotations

import pytest

from mtv.orchestration.runner import StepRunner, TaskRef
from mtv.store import StoreInUse, StoreNewer, StoreOlder, default_dsn
from tests.orchestration.test_start_of_runs import NoConnections, outline_of, quiet
from tests.store.schemas import HEAD, NEWER, OLDER, schema_in, turn_into

__all__ = ["outline_of"]
PILOT = "mtv.dc1.pilot"


@pytest.fixture
def runner(settings, outline_of, write_plan, good_plan):
    """A runner whose store has an active run of the plan dc1."""
    runner = StepRunner(settings, connections=NoConnections())
    write_plan("dc1.yaml", good_plan)
    runner.freeze(outline_of(PILOT), TaskRef(PILOT, "r1"), quiet)
    return runner


def test_a_wave_brings_an_older_store_up_to_date_when_the_last_run_has_ended(runner, outline_of, settings):
    dsn = default_dsn(settings.state_folder)
    turn_into(dsn, OLDER)
    with pytest.raises(StoreInUse, match="plan dc1, wave pilot"):
        runner.freeze(outline_of(PILOT), TaskRef(PILOT, "r2"), quiet)
    assert schema_in(dsn) == OLDER
    with runner.store() as store:
        store.finish_run(store.active_run("dc1").id, "failed")
    assert runner.freeze(outline_of(PILOT), TaskRef(PILOT, "r2"), quiet)
    assert schema_in(dsn) == HEAD


def test_a_wave_and_an_inventory_of_an_older_program_refuse_a_newer_store(runner, outline_of, settings):
    turn_into(default_dsn(settings.state_folder), NEWER)
    with pytest.raises(StoreNewer, match=NEWER):
        runner.freeze(outline_of(PILOT), TaskRef(PILOT, "r1"), quiet)
    with pytest.raises(StoreNewer, match=NEWER):
        runner.inventory_step("take", "vc", quiet)


def test_a_task_whose_query_fails_in_an_older_store_names_the_version(runner, settings):
    turn_into(default_dsn(settings.state_folder), OLDER)
    with pytest.raises(StoreOlder, match=OLDER), runner.store() as store:
        store.approvals("dc1", "pilot")
