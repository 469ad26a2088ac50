"""A folder of plans is compiled once; a bad plan is shown and hides nobody."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mtv.model.errors import PermanentError
from mtv.plan import CompiledPlan, compile_folder, compiled, load, load_compiled

GOOD = "source: {connection: v}\ntarget: {connection: c, namespace: n}\nwaves:\n  a: {vms: [x, {name: y, source: o}]}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plans = tmp_path / "plans"
    plans.mkdir()
    (plans / "good.yaml").write_text(GOOD)
    (plans / "bad.csv").write_text("vm,source,target,namespace,type\nx,v,c,n,hot\n")
    (plans / "notes.txt").write_text("no plan")
    return plans


def by_name(folder: Path) -> dict[str, CompiledPlan]:
    return {plan.name: plan for plan in compile_folder(folder, folder.parent / "compiled")}


def test_good_and_bad_plans_stand_side_by_side(folder: Path) -> None:
    plans = by_name(folder)
    assert list(plans) == ["bad", "good"]
    assert plans["bad"].plan is None
    assert plans["bad"].problems == load(folder / "bad.csv").problems
    assert plans["good"].plan == load(folder / "good.yaml").plan
    assert load_compiled(folder.parent / "compiled", plans["good"].hash) == plans["good"].plan


def test_the_head_of_a_plan_tells_its_waves_without_its_vms(folder: Path) -> None:
    (wave,) = by_name(folder)["good"].waves
    assert (wave.name, wave.vm_count, wave.sources, wave.types) == ("a", 2, ("v", "o"), ("cold",))


def test_unchanged_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = by_name(folder)
    read: list[str] = []
    original = compiled.load_files
    monkeypatch.setattr(compiled, "load_files", lambda files: read.append(files.stem) or original(files))
    assert {plan.hash for plan in by_name(folder).values()} == {plan.hash for plan in before.values()}
    assert read == []
    (folder / "good.csv").write_text("vm\nz\n")
    plans = by_name(folder)
    assert read == ["good"]
    assert plans["good"].hash != before["good"].hash
    assert plans["good"].waves[0].vm_count == 3


def test_a_plan_compiled_before_stays_readable_after_an_edit(folder: Path) -> None:
    before = by_name(folder)["good"]
    (folder / "good.yaml").write_text(GOOD.replace("vms: [x", "vms: [w, x"))
    assert by_name(folder)["good"].hash != before.hash
    assert before.plan is not None
    assert [vm.name for vm in before.plan.waves[0].vms] == ["x", "y"]


def test_a_damaged_compiled_file_is_made_again(folder: Path) -> None:
    before = by_name(folder)
    for file in (folder.parent / "compiled").iterdir():
        file.write_text("{")
    after = by_name(folder)
    assert {name: plan.problems for name, plan in after.items()} == {n: p.problems for n, p in before.items()}
    assert after["good"].plan is not None


def test_two_plans_of_one_name_are_both_shown(folder: Path) -> None:
    (folder / "other.yaml").write_text(f"name: good\n{GOOD}")
    plans = list(by_name(folder).values())
    assert len({plan.name for plan in plans}) == 3
    (clash,) = [plan for plan in plans if plan.path.name == "other.yaml"]
    assert "the name good belongs to good.yaml" in str(clash.problems[-1])


def test_names_of_bad_plans_can_be_used_in_dag_ids(folder: Path) -> None:
    (folder / "Q3 Umzug (Köln).yaml").write_text("a: [")
    assert "q3-umzug-kln" in by_name(folder)


def test_an_unreadable_plan_is_a_problem_of_that_plan_alone(folder: Path) -> None:
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    (folder / "pipe.yaml").mkdir()
    (folder / "locked.csv").write_text("vm\nx\n")
    (folder / "locked.csv").chmod(0)
    plans = by_name(folder)
    assert plans["good"].plan is not None
    assert "loop" not in plans
    if os.geteuid() != 0:
        assert plans["locked"].problems


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="cannot be compiled"):
        compile_folder(tmp_path / "nothing", tmp_path / "compiled")


def test_an_unknown_hash_is_an_error(tmp_path: Path) -> None:
    for name in ("0" * 64, "../../etc/passwd"):
        with pytest.raises(PermanentError, match="no plan is compiled"):
            load_compiled(tmp_path, name)


def test_no_half_written_file_stays_behind(folder: Path) -> None:
    by_name(folder)
    names = [path.name for path in (folder.parent / "compiled").iterdir()]
    assert all(name.endswith(".json") and not name.startswith(".") for name in names)
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o022 for path in (folder.parent / "compiled").iterdir()}
    assert modes == {0}
