"""The pods that copy and convert: what they are given, how they are named, and what of their results is believed."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest

from mtv.model.errors import PermanentError, TemporaryError
from mtv.steps import prepare, transfer
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, play_transfer
from tests.steps.world import World


def test_a_result_that_leaves_a_disk_out_is_not_believed(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    result = json.loads(world.run_pod(request))
    result["disks"].pop()
    with pytest.raises(PermanentError, match="disk-2001"):
        transfer.finish(vm, json.dumps(result))


@pytest.mark.parametrize("message", ["", "killed", "{", '{"disks": []}'])
def test_a_pod_that_left_no_result_is_retried(make_run: MakeRun, world: World, message: str) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    assert transfer.pod_request(vm) is not None
    with pytest.raises(TemporaryError, match="left no result"):
        transfer.finish(vm, message)
    play_transfer(vm, world)


def test_every_attempt_of_a_pod_has_a_newer_epoch_and_a_name_of_its_own(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    first, second = transfer.pod_request(vm), transfer.pod_request(vm)
    assert first is not None
    assert second is not None
    epochs = [json.loads(request.secret_files["spec.json"])["epoch"] for request in (first, second)]
    assert epochs[0] < epochs[1]
    assert first.name != second.name
    assert first.labels == second.labels


def test_the_pod_of_a_copy_serves_its_progress_where_the_installation_says(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    settings = msgspec.structs.replace(vm.settings, mover_metrics_port=9100)
    request = transfer.pod_request(dataclasses.replace(vm, settings=settings))
    assert request is not None
    assert request.pod["metadata"]["annotations"]["prometheus.io/port"] == "9100"
    assert "--metrics" in request.pod["spec"]["containers"][0]["args"]


def test_secrets_are_in_the_secret_and_nowhere_else(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    assert request.secret_files["password"] == "canary"
    elsewhere = json.dumps(request.pod) + repr(request) + "\n".join(world.log) + repr(vm)
    assert "canary" not in elsewhere
    rows = vm.store.evidence(vm.run.id)
    assert "canary" not in json.dumps([row.document for row in rows])
