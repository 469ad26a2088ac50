"""What is decided about a wave's DAG before Airflow sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtv.model.plan import Plan, PlannedVm, Source, Target, VmOptions, Wave, Window
from mtv.orchestration.outline import (
    OutlineFolder,
    outlines_of,
    unreadable,
)
from mtv.plan.parts import MAX_VMS_PER_RUN

WRITERS = 8


def plan_of(*waves: Wave, name: str = "dc1", **more) -> Plan:
    target = Target(connection="dst", namespace="ns")
    return Plan(name=name, source=Source(connection="src"), target=target, waves=waves, **more)


def vms(count: int, **options) -> tuple[PlannedVm, ...]:
    return tuple(PlannedVm(id=f"vm-{n}", name=f"VM {n}", **options) for n in range(count))


def test_a_wave_that_fits_one_run_is_one_dag():
    (outline,) = outlines_of(plan_of(Wave(name="pilot", vms=vms(MAX_VMS_PER_RUN))), "h", "dc1.yaml")
    assert (outline.dag_id, outline.part, outline.vm_count) == ("mtv.dc1.pilot", 0, 100)
    assert outline.itineraries == ("cold",)
    assert outline.tags == ["plan:dc1", "source:src", "mode:cold"]


def test_a_longer_wave_is_cut_into_parts_of_at_most_a_hundred():
    outlines = outlines_of(plan_of(Wave(name="rest", vms=vms(250))), "h", "dc1.yaml")
    assert [outline.dag_id for outline in outlines] == ["mtv.dc1.rest-01", "mtv.dc1.rest-02", "mtv.dc1.rest-03"]
    assert [outline.vm_count for outline in outlines] == [100, 100, 50]
    assert [outline.next_part for outline in outlines] == ["mtv.dc1.rest-02", "mtv.dc1.rest-03", ""]


@pytest.mark.parametrize(
    ("wave", "word"),
    [
        pytest.param(Wave(name="w", vms=vms(1), schedule="0 22 * * SAT"), "schedule", id="schedule"),
        pytest.param(Wave(name="w", vms=vms(1, type="warm")), "warm", id="warm"),
        pytest.param(Wave(name="w", vms=vms(1), defaults=VmOptions(type="warm")), "warm", id="warm-by-default"),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(wave: Wave, word: str):
    (outline,) = outlines_of(plan_of(wave), "h", "f")
    assert any(word in problem for problem in outline.problems), outline.problems
    assert "invalid" in outline.tags


def test_window_and_earlier_waves_are_no_reason_to_refuse_the_dag():
    window = Window(start="2026-12-05 22:00", end="2026-12-06 04:00")
    waves = (Wave(name="a", vms=vms(1)), Wave(name="b", vms=vms(1), window=window, start_after=("a",)))
    assert [outline.problems for outline in outlines_of(plan_of(*waves), "h", "f")] == [(), ()]


def test_an_edit_keeps_the_itineraries_that_a_running_run_may_need(tmp_path):
    folder = OutlineFolder(tmp_path)
    (outline,) = outlines_of(plan_of(Wave(name="w", vms=vms(1))), "h1", "f")
    raw = type(outline)(**{**{f: getattr(outline, f) for f in outline.__struct_fields__}, "itineraries": ("cold-raw",)})
    folder.write([raw])
    (kept,) = folder.write([outline])
    assert kept.itineraries == ("cold", "cold-raw")
    assert folder.read("mtv.dc1.w") == kept


def test_a_damaged_outline_counts_as_never_written(tmp_path):
    (tmp_path / "mtv.dc1.w.json").write_text('{"dag_id": "mtv.d')
    assert OutlineFolder(tmp_path).read("mtv.dc1.w") is None


@given(st.text(max_size=60))
@example("0..0")
def test_any_plan_name_gives_a_dag_id_that_airflow_takes(name: str):
    from airflow.utils.helpers import validate_key

    validate_key(unreadable(name, "f", ("broken",)).dag_id)


def test_writers_that_share_the_folder_and_the_process_id_never_take_each_others_drafts(tmp_path):
    """As the DAG processor and a worker do, each the process 7 of its own container."""
    folder = OutlineFolder(tmp_path)
    together = Barrier(WRITERS)

    def write(writer: int) -> None:
        together.wait(timeout=300)
        for turn in range(50):
            folder.write_standing("h", is_ready=bool((writer + turn) % 2))

    with ThreadPoolExecutor(WRITERS) as writers:
        for done in [writers.submit(write, writer) for writer in range(WRITERS)]:
            done.result()
    (written,) = (tmp_path / "standings").iterdir()
    assert written.name == "h.json"
