"""A wave of many VMs is cut into parts, and no wave may be called like a part of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.plan import load
from mtv.plan.parts import MAX_VMS_PER_RUN, part_name, part_plan, parts_of

HEAD = "source: {connection: v}\ntarget: {connection: c, namespace: n}\nwaves:\n"


def vms(prefix: str, count: int) -> tuple[PlannedVm, ...]:
    return tuple(PlannedVm(id=f"{prefix}-{n}", name=f"{prefix} {n}") for n in range(count))


@given(st.integers(min_value=0, max_value=450))
def test_parts_hold_every_vm_once_and_in_order(count: int) -> None:
    wave, other = Wave(name="w", vms=vms("a", count)), Wave(name="other", vms=vms("b", 2))
    parts = parts_of(wave)
    assert tuple(vm for _, part in parts for vm in part) == wave.vms
    assert all(len(part) <= MAX_VMS_PER_RUN for _, part in parts)
    plan = Plan(name="dc1", target=Target(connection="dst", namespace="ns"), waves=(wave, other))
    for number, part in parts:
        reduced = part_plan(plan, "w", number)
        assert reduced.wave("w").vms == part
        assert reduced.wave("other") == other


def written(folder: Path, **waves: int) -> Path:
    """A plan of waves with so many VMs each; `_` in a name stands for `-`."""
    path = folder / "p.yaml"
    lines = [
        f"  {name.replace('_', '-')}: {{vms: [{', '.join(f'{name}{n}'.replace('_', '-') for n in range(count))}]}}"
        for name, count in waves.items()
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_wave_called_like_a_part_of_another_is_a_fault_at_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, rest=MAX_VMS_PER_RUN + 1, rest_02=1)
    (problem,) = load(path).problems
    assert str(problem) == (
        f"{path}:5:3: wave rest-02 is called like a part of wave rest, which has more than 100 VMs"
        " — rename wave rest-02"
    )


@pytest.mark.parametrize(
    ("first", "second", "number", "clash"),
    [
        (MAX_VMS_PER_RUN, 1, 1, False),
        (MAX_VMS_PER_RUN + 1, 1, 1, True),
        (MAX_VMS_PER_RUN + 1, 1, 2, True),
        (MAX_VMS_PER_RUN + 1, 1, 3, False),
        (MAX_VMS_PER_RUN + 1, MAX_VMS_PER_RUN + 1, 1, False),
    ],
)
def test_waves_clash_only_where_two_dags_would_have_one_name(
    tmp_path: Path, first: int, second: int, number: int, clash: bool
) -> None:
    other = part_name("w", number)
    result = load(written(tmp_path, **{"w": first, other.replace("-", "_"): second}))
    assert bool(result.problems) == clash
    if result.plan:
        names = [part_name(wave.name, part) for wave in result.plan.waves for part, _ in parts_of(wave)]
        assert len(set(names)) == len(names)
