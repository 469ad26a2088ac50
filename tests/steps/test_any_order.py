"""Steps in any order, with a fault at any call, cleared, repeated and cut off: what must never happen, never does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mtv.kubevirt import labels
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import CLAIMS, INSTANCES, PODS, VIRTUAL_MACHINES
from mtv.model.errors import MtvError
from mtv.model.evidence import VmPhase
from mtv.model.source import PowerState
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import RunContext, VmContext
from mtv.store import Store
from tests.kubevirt.values import source_vm
from tests.steps.conftest import begin, through_validation
from tests.steps.world import World

ACTIONS = (
    "prepare", "transfer", "transfer fails", "transfer cut off", "convert", "convert fails", "convert cut off",
    "create_vm", "verify", "settle", "run marked failed",
)  # fmt: skip
# Mostly the order of a wave, so that the later steps are reached; shuffled and repeated by the rest.
FORWARD = ("prepare", "transfer", "convert", "create_vm", "verify", "settle")
PLAYS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.none() | st.integers(1, 25)), min_size=0, max_size=8)


class Player:
    """Plays actions as the orchestration would: a live pod is found again, errors end the action only."""

    def __init__(self, store: Store, world: World, folder: Path, **options: str) -> None:
        self.store, self.world, self.folder, self.options = store, world, folder, options
        self.count = 0
        self.vm = self.new_run()
        self.requests: dict[str, PodRequest] = {}

    def new_run(self) -> VmContext:
        self.count += 1
        started: RunContext = begin(self.store, self.world, self.folder, dag_run=f"r{self.count}", **self.options)
        try:
            return through_validation(started)
        except MtvError:
            run.close(started)  # as the verdict of a run that got no further
            raise

    def play(self, action: str, fault: int | None) -> None:
        self.world.log.append(f"--- {action}, fault {fault}")
        self.world.faults = set() if fault is None else {self.world.calls + fault}
        try:
            self.act(action)
        except MtvError as error:
            self.world.log.append(f"    {error}")
        finally:
            self.world.faults = set()

    def act(self, action: str) -> None:
        if action == "prepare":
            prepare.prepare(self.vm)
        elif action == "create_vm":
            create_vm.create_vm(self.vm)
        elif action == "verify":
            verify.verify(self.vm)
        elif action == "settle":
            settle.settle(self.vm)
        elif action == "run marked failed":
            run.close(self.vm)
            self.vm = self.new_run()
        else:
            self.pod(action)

    def pod(self, action: str) -> None:
        step = transfer if action.startswith("transfer") else convert
        request = step.pod_request(self.vm)
        if request is None:
            return
        key = {"mtv/role": step.STEP}
        live = [
            pod["metadata"]["name"]
            for pod in self.world.all(PODS)
            if key.items() <= pod["metadata"]["labels"].items() and pod["status"]["phase"] == "Running"
        ]
        if live:
            request = self.requests[live[0]]
        else:
            self.requests[request.name] = request
            self.world.put(PODS, {**request.pod, "status": {"phase": "Running"}})
        message = self.world.run_pod(request, fails=action.endswith("fails"))
        if action.endswith("cut off"):
            return
        self.world.objects[(PODS.plural, "demo", request.name)]["status"]["phase"] = "Succeeded"
        step.finish(self.vm, message)


@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure prints its whole log; shrinking it takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    before=PLAYS,
    reached=st.integers(0, len(FORWARD)),
    fault=st.none() | st.integers(1, 25),
    after=PLAYS,
    on_failure=st.sampled_from(["rollback", "hold"]),
    was_on=st.booleans(),
)
def test_no_order_of_steps_and_faults_runs_both_or_leaves_anything_behind(
    empty_store: Path,
    before: list[tuple[str, int | None]],
    reached: int,
    fault: int | None,
    after: list[tuple[str, int | None]],
    on_failure: str,
    was_on: bool,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules" / "vmware").mkdir(parents=True)
        shutil.copy(empty_store, folder / "store.sqlite")
        world = World(source_vm(power=PowerState.ON if was_on else PowerState.OFF))
        with Store.open(f"sqlite:///{folder / 'store.sqlite'}") as store:
            player = Player(store, world, folder, on_failure=on_failure)
            forward = [(action, fault if position == reached - 1 else None) for position, action in enumerate(FORWARD)]
            for action, at in [*before, *forward[:reached], *after]:
                player.play(action, at)
            settle.settle(player.vm)
            check_settled(player, on_failure=on_failure, was_on=was_on)
            run.close(player.vm)
            if store.vm("first", "web-1").phase is not VmPhase.MIGRATED:
                player.vm = player.new_run()
                for action in FORWARD:
                    player.act(action)
                check_settled(player, on_failure=on_failure, was_on=was_on)
            row = store.vm("first", "web-1")
            assert (row.phase, row.holder) == (VmPhase.MIGRATED, "")


def check_settled(player: Player, *, on_failure: str, was_on: bool) -> None:
    """What settle promises, whatever came before it."""
    world, row = player.world, player.store.vm("first", "web-1")
    words = "\n".join(world.log[-60:])
    assert row.holder == "", words
    movers = [pod for pod in world.all(PODS) if labels.ROLE in pod["metadata"]["labels"]]
    assert movers == [], words
    if row.phase is VmPhase.MIGRATED:
        assert world.vm.power is PowerState.OFF, words
        assert len(world.all(VIRTUAL_MACHINES)) == 1, words
        assert len(world.all(INSTANCES)) == (1 if was_on else 0), words
        assert all("-work" not in claim["metadata"]["name"] for claim in world.all(CLAIMS)), words
        return
    assert world.all(VIRTUAL_MACHINES) == world.all(INSTANCES) == [], words
    if on_failure == "rollback" or not was_on:
        assert world.vm.power is (PowerState.ON if was_on else PowerState.OFF), words
    if on_failure == "rollback":
        disks = [claim for claim in world.all(CLAIMS) if "disk" in claim["metadata"]["name"]]
        assert all(claim["metadata"]["annotations"].get(labels.STALE) == "true" for claim in disks), words
        assert player.store.open_source_changes("first", "web-1") == [], words
