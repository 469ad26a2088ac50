"""What the target would refuse is refused before the source is touched."""

from __future__ import annotations

import pytest

from mtv.kubevirt.resources import CLAIMS, VIRTUAL_MACHINES
from mtv.model.errors import PermanentError
from mtv.model.source import PowerState
from mtv.steps import prepare, settle
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun
from tests.steps.world import World


def test_a_machine_that_the_target_refuses_fails_in_its_words_before_the_source_is_touched(
    make_run: MakeRun, world: World
) -> None:
    world.refusal = PermanentError("admission webhook denied the request: cores must not exceed 4", code="http-422")
    vm = through_validation(make_run())
    with pytest.raises(PermanentError, match=r"would refuse the VM: .* cores must not exceed 4") as refused:
        prepare.prepare(vm)
    assert refused.value.code == "machine-refused"
    assert world.vm.power is PowerState.ON
    assert world.all(CLAIMS) == []
    settle.settle(vm)


def test_a_right_or_a_quota_that_is_missing_keeps_its_own_cure(make_run: MakeRun, world: World) -> None:
    world.refusal = PermanentError("exceeded quota", cure="raise it", code="forbidden")
    with pytest.raises(PermanentError, match="exceeded quota — raise it"):
        prepare.prepare(through_validation(make_run()))
    assert world.vm.power is PowerState.ON


def test_a_webhook_that_cannot_be_tried_stops_nobody_and_is_told(make_run: MakeRun, world: World) -> None:
    world.refusal = PermanentError('admission webhook "x" does not support dry run', code="http-400")
    prepare.prepare(through_validation(make_run()))
    assert world.vm.power is PowerState.OFF
    assert any("was not asked whether it takes the VM" in line for line in world.log)


def test_a_name_that_is_somebody_elses_is_refused_before_the_source_is_touched(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    foreign = {"metadata": {"name": "web-1", "namespace": "demo"}, "spec": {"runStrategy": "Halted", "template": {}}}
    world.put(VIRTUAL_MACHINES, foreign)
    with pytest.raises(PermanentError, match="did not make"):
        prepare.prepare(vm)
    assert world.vm.power is PowerState.ON


def test_a_trial_makes_nothing(make_run: MakeRun, world: World) -> None:
    prepare.prepare(through_validation(make_run()))
    assert "try to create virtualmachines/web-1" in world.log
    assert world.all(VIRTUAL_MACHINES) == []
