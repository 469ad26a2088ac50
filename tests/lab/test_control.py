from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import control, registry
from lab.parts import Part
from lab.process import wait_until
from lab.state import State, write_secret
from mtv.model.errors import PermanentError, TemporaryError

Journal = list[str]


def make_part(
    part_name: str,
    part_needs: tuple[str, ...],
    journal: Journal,
    fails: type[BaseException] | None,
    while_starting: Callable[[], object] = lambda: None,
    while_beginning: Callable[[], object] = lambda: None,
) -> Part:
    class Fake(Part):
        name = part_name
        needs = part_needs
        real = "nothing"
        stand_in = "all"

        def build(self) -> None:
            journal.append(f"build {part_name}")

        def begin(self, state: State) -> None:
            while_beginning()

        def start(self, state: State) -> dict[str, Any]:
            journal.append(f"start {part_name}")
            (state.folder(part_name) / "alive").touch()
            while_starting()
            if fails:
                raise fails("no")
            return {"port": 1}

        def healthy(self, state: State) -> bool:
            return (state.folder(part_name) / "alive").exists()

        def stop(self, state: State) -> None:
            journal.append(f"stop {part_name}")
            (state.folder(part_name) / "alive").unlink(missing_ok=True)

    return Fake()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "lab")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the lab's parts: `top` and `side` stand on `base`."""

    def use(
        journal: Journal,
        *,
        top_fails: type[BaseException] | None = None,
        side_fails: type[BaseException] | None = None,
        top: Callable[[], object] = lambda: None,
        side: Callable[[], object] = lambda: None,
        base: Callable[[], object] = lambda: None,
        top_begins: Callable[[], object] = lambda: None,
    ) -> None:
        table = {
            "top": make_part("top", ("base",), journal, top_fails, top, top_begins),
            "base": make_part("base", (), journal, None, base),
            "side": make_part("side", ("base",), journal, side_fails, side),
        }
        for module in (control, registry):
            monkeypatch.setattr(module, "PARTS", table)

    return use


def test_parts_start_after_what_they_need(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state, ["top"])
    assert journal == ["build base", "build top", "start base", "start top"]
    assert state.endpoints("top") == {"port": 1}


def test_a_part_that_is_up_is_left_alone(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state, ["top"])
    journal.clear()
    control.up(state, ["top", "base"])
    assert journal == ["build base", "build top"]


@pytest.mark.parametrize("fault", [TemporaryError, KeyboardInterrupt])
def test_what_was_started_is_stopped_when_a_later_part_fails(
    state: State, parts: Any, fault: type[BaseException]
) -> None:
    journal: Journal = []
    parts(journal, top_fails=fault)
    with pytest.raises(fault):
        control.up(state, ["top"])
    assert journal[-2:] == ["stop top", "stop base"]
    assert [part.state for part in control.status(state)] == ["down", "down", "down"]


def test_parts_that_do_not_need_each_other_start_side_by_side(state: State, parts: Any) -> None:
    both_are_starting = threading.Barrier(2, timeout=300)
    parts([], top=both_are_starting.wait, side=both_are_starting.wait)
    control.up(state)
    assert [part.state for part in control.status(state)] == ["up", "up", "up"]


def test_a_part_begins_while_what_it_needs_is_starting(state: State, parts: Any) -> None:
    both = threading.Barrier(2, timeout=300)
    journal: Journal = []
    parts(journal, base=both.wait, top_begins=both.wait)
    control.up(state, ["top"])
    assert journal[-2:] == ["start base", "start top"]


def test_a_part_that_is_still_starting_is_stopped_when_another_fails(state: State, parts: Any) -> None:
    both = threading.Barrier(2, timeout=300)
    alive = state.folder("side") / "alive"

    def until_it_is_stopped() -> None:
        both.wait()
        wait_until(lambda: not alive.exists(), timeout_s=300, what="side to be stopped")

    journal: Journal = []
    parts(
        journal,
        top_fails=TemporaryError,
        side_fails=PermanentError,
        top=both.wait,
        side=until_it_is_stopped,
    )
    with pytest.raises(TemporaryError):
        control.up(state)
    assert set(journal[-3:]) == {"stop top", "stop side", "stop base"}
    assert [part.state for part in control.status(state)] == ["down", "down", "down"]


def test_a_part_that_was_up_before_survives_a_later_failure(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state, ["base"])
    parts(journal, top_fails=TemporaryError)
    with pytest.raises(TemporaryError):
        control.up(state, ["top"])
    assert {part.name: part.state for part in control.status(state)} == {"top": "down", "base": "up", "side": "down"}


def test_what_stands_on_a_part_goes_down_with_it(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state)
    journal.clear()
    control.down(state, ["base"])
    assert journal == ["stop side", "stop top", "stop base"]
    assert state.endpoints("side") == {}


def test_a_part_goes_down_alone_when_nothing_stands_on_it(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state)
    journal.clear()
    control.down(state, ["top"])
    assert journal == ["stop top"]


def test_a_broken_part_comes_up_again_with_what_stands_on_it(state: State, parts: Any) -> None:
    journal: Journal = []
    parts(journal)
    control.up(state, ["top"])
    (state.folder("base") / "alive").unlink()
    journal.clear()
    control.up(state, ["top"])
    assert journal == ["build base", "build top", "stop top", "stop base", "start base", "start top"]


def test_a_part_that_no_longer_answers_is_broken(state: State, parts: Any) -> None:
    parts([])
    control.up(state, ["base"])
    (state.folder("base") / "alive").unlink()
    assert next(part.state for part in control.status(state) if part.name == "base") == "broken"


def test_an_unknown_part_is_refused_with_the_known_ones(state: State) -> None:
    with pytest.raises(PermanentError, match=r"no part 'clutser'.*cluster, kubevirt, vcenter, ova"):
        control.up(state, ["clutser"])


def test_every_part_says_what_is_real_and_what_is_a_stand_in() -> None:
    for name, part in registry.PARTS.items():
        assert part.name == name
        assert part.real
        assert part.stand_in


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old and open")
    path.chmod(0o644)
    assert write_secret(path, "new").stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "new"


def test_forgotten_endpoints_are_gone_and_the_folder_stays(state: State) -> None:
    state.save_endpoints("ova", {"path": "x"})
    state.forget("ova")
    assert state.endpoints("ova") == {}
    assert state.folder("ova").is_dir()
