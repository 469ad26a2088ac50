"""VMs with more disks than a pod's termination message has room for: the result comes from the pod's log."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import msgspec
import pytest

from mover.events import MAX_LINE_BYTES, Events
from mover.termination import MAX_BYTES, termination_message
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import PODS
from mtv.model.conversion import ConvertResult
from mtv.model.errors import TemporaryError
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.transfer import TransferResult
from mtv.steps import convert, prepare, transfer
from mtv.steps.context import VmContext
from mtv.store import Store
from tests.kubevirt.values import disk, source_vm
from tests.steps.conftest import begin, through_validation
from tests.steps.world import World

IDS = [str(uuid.UUID(int=number << 64)) for number in range(60)]


@pytest.fixture
def world() -> World:
    return World(source_vm(disks=tuple(disk(index, id=key) for index, key in enumerate(IDS))))


@pytest.fixture
def vm(store: Store, world: World, tmp_path: Path) -> VmContext:
    found = through_validation(begin(store, world, tmp_path))
    prepare.prepare(found)
    return found


def ended(world: World, request: PodRequest, kind: type[TransferResult | ConvertResult]) -> str:
    """Run a pod as the mover does, with its log and its termination message."""
    result = msgspec.json.decode(world.run_pod(request), type=kind)
    world.put(PODS, request.pod)
    out = io.StringIO()
    Events(out).result(result)
    assert max(len(line.encode()) for line in out.getvalue().splitlines()) < MAX_LINE_BYTES
    world.console = out.getvalue()
    message = termination_message(result)
    assert len(message) <= MAX_BYTES
    return message.decode()


def test_every_disk_of_a_copy_and_of_a_conversion_is_known_from_the_log(vm: VmContext, world: World) -> None:
    request = transfer.pod_request(vm)
    assert request is not None
    transfer.finish(vm, ended(world, request, TransferResult))
    (copied,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.TRANSFER)
    assert [found["id"] for found in copied.document["disks"]] == IDS
    request = convert.pod_request(vm)
    assert request is not None
    convert.finish(vm, ended(world, request, ConvertResult))
    (converted,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.CONVERSION)
    assert list(converted.document["digests"]) == IDS
    assert vm.store.vm("first", "web-1").phase is VmPhase.CONVERTED


def test_a_result_whose_log_is_gone_is_asked_for_again_and_nothing_is_believed(vm: VmContext, world: World) -> None:
    request = transfer.pod_request(vm)
    assert request is not None
    message = ended(world, request, TransferResult)
    world.console = ""
    with pytest.raises(TemporaryError, match="not in the pod's log") as caught:
        transfer.finish(vm, message)
    assert caught.value.code == "result-lost"
    assert vm.store.vm("first", "web-1").phase is VmPhase.TRANSFERRING
