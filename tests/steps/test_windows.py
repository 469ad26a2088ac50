"""No source is shut down after its wave's window has closed; what has begun within it goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mtv.kubevirt.resources import CLAIMS
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, Window
from mtv.model.source import PowerState
from mtv.steps import prepare, settle, windows
from mtv.store import Store
from tests.steps.conftest import plan_of, through_validation
from tests.steps.walk import MakeRun, migrate, migrate_but_settle
from tests.steps.world import World

END = datetime(2026, 12, 6, 3, 0, tzinfo=UTC)
IN_TIME, TOO_LATE = END - timedelta(minutes=1), END


def windowed() -> Plan:
    plan = plan_of()
    window = Window(start="2026-12-05 22:00", end="2026-12-06 04:00", timezone="Europe/Berlin")
    return plan.model_copy(update={"waves": (plan.waves[0].model_copy(update={"window": window}),)})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what steps read off the clock, one look after the other, the last one for ever."""

    def read(*moments: datetime) -> None:
        left = list(moments)
        now = SimpleNamespace(now=lambda zone: left.pop(0) if len(left) > 1 else left[0])
        monkeypatch.setattr(windows, "datetime", now)

    return read


def test_a_vm_whose_turn_comes_after_the_window_is_not_touched(
    make_run: MakeRun, world: World, store: Store, clock: Callable[..., None]
) -> None:
    vm = through_validation(make_run(plan=windowed()))
    clock(TOO_LATE)
    with pytest.raises(
        PermanentError, match="the window closed at 2026-12-06 04:00 Europe/Berlin; web-1 was not touched"
    ):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON
    assert world.all(CLAIMS) == []
    assert store.vm("first", "web-1").holder == ""


def test_a_window_that_closes_while_a_vm_is_prepared_leaves_its_source_on(
    make_run: MakeRun, world: World, store: Store, clock: Callable[..., None]
) -> None:
    vm = through_validation(make_run(plan=windowed()))
    clock(IN_TIME, TOO_LATE)
    with pytest.raises(PermanentError, match="web-1 is not shut down any more"):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON
    assert store.open_source_changes("first", "web-1") == []
    settle.settle(vm)
    assert (store.vm("first", "web-1").holder, store.vm("first", "web-1").phase) == ("", VmPhase.FAILED)


def test_a_shutdown_that_began_within_the_window_is_finished_after_it_and_so_is_the_copy(
    make_run: MakeRun, world: World, store: Store, clock: Callable[..., None]
) -> None:
    vm = through_validation(make_run(plan=windowed()))
    world.cut_off_shutdown = True
    clock(IN_TIME)
    with pytest.raises(TemporaryError, match="cut off"):
        prepare.prepare(vm)
    clock(TOO_LATE)
    migrate(vm, world)
    assert store.vm("first", "web-1").phase is VmPhase.MIGRATED


def test_within_its_window_a_vm_migrates(make_run: MakeRun, world: World, clock: Callable[..., None]) -> None:
    clock(IN_TIME)
    migrate_but_settle(through_validation(make_run(plan=windowed())), world)
