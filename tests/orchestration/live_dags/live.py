"""An Airflow DAG of the product's own builder whose steps are small enough to watch: see `test_live.py`.

A plan is taken away while the gate folder holds the file `no-<plan>`.

The pods are real: they wait for a file in the gate folder, say progress as the mover does, and prove that they could
read their Secret.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path

from airflow.sdk import get_parsing_context
from msgspec.structs import replace

from mtv.kubevirt import labels
from mtv.kubevirt.pods import PodRequest
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.evidence import VmPhase
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.model.settings import Settings
from mtv.orchestration.left_waves import still_running
from mtv.orchestration.operators import StepOperators
from mtv.orchestration.outline import Outline, OutlineFolder, outlines_of
from mtv.orchestration.pods.operator import MoverPodOperator
from mtv.orchestration.runner import PodTarget, StepRunner
from mtv.orchestration.wave_dag import build_dag

GATE = Path(os.environ.get("LIVE_GATE", "/nonexistent"))
NAMESPACE = os.environ.get("LIVE_NAMESPACE", "default")
IMAGE = os.environ.get("LIVE_IMAGE", "localhost/mtv-mover:1")
SCRIPT = """
trap 'exit 11' TERM
n=0
while [ ! -e /gate/open ]; do
  n=$((n + 1))
  echo '{"event":"progress","disk":"disk-0","phase":"copy","bytes_done":'$n',"bytes_total":100}'
  sleep 1 & wait $!
done
sum=$(sha256sum /run/mtv/password | cut -d' ' -f1)
echo '{"event":"log","message":"gate is open"}'
printf '{"ok":true,"sum":"%s"}' "$sum" > /dev/termination-log
"""


def plan_named(name: str, count: int, in_flight: int) -> Plan:
    vms = tuple(PlannedVm(id=f"vm-{n}", name=f"VM {n}", source="src") for n in range(count))
    target = Target(connection="lab-cluster", namespace=NAMESPACE)
    return Plan(name=name, target=target, waves=(Wave(name="w", vms=vms, max_vms_in_flight=in_flight),))


PLANS = {
    plan.name: plan
    for plan in (
        plan_named("pods", 1, 1),
        plan_named("left", 1, 1),
        plan_named("turns", 3, 2),
        plan_named("sad", 2, 2),
        plan_named("again", 1, 1),
        plan_named("parts", 2, 1),
    )
}


class LiveRunner(StepRunner):
    """Steps that keep the books and leave traces in the gate folder."""

    def freeze(self, outline, task, log):
        plan = PLANS[outline.plan]
        with self.store() as store:
            store.upgrade()
            run = store.start_run(
                plan_hash=store.put_plan(plan), plan_name=plan.name, wave="w", dag_id=task.dag_id,
                dag_run_id=task.run_id,
            )  # fmt: skip
            vms = plan.wave("w").vms
            return store.freeze_vms(run.id, [vm.id for vm in (vms[outline.part - 1 : outline.part] or vms)])

    def dags_of(self, task):
        with self.store() as store:
            run = store.run_of(task.dag_id, task.run_id)
            return {outline.dag_id for outline in outlines(store.plan(run.plan_hash))}

    def run_step(self, step, task, log):
        with self._context(task, log) as ctx:
            ctx.store.end_step(ctx.store.begin_step(ctx.run.id, "", step), state="success")
            if step == "validate":
                import mtv

                (GATE / "mtv-file-worker").write_text(mtv.__file__)
            if step in ("close", "verdict"):
                bad = [vm for vm in ctx.run.frozen_vms if ctx.store.vm(ctx.plan.name, vm).phase is not VmPhase.MIGRATED]
                ctx.store.finish_run(ctx.run.id, "failed" if bad else "success")
                if bad and step == "verdict":
                    raise PermanentError(f"did not migrate: {', '.join(bad)}")

    def vm_step(self, step, vm_id, task, log, *, named, turn=None):
        from mtv.orchestration.admission import ask_to_enter

        with self._vm_context(vm_id, task, log) as ctx:
            named(ctx.vm.name)
            if turn and not ask_to_enter(ctx.store, ctx.run, vm_id, turn):
                return False
            attempt = ctx.store.begin_step(ctx.run.id, vm_id, step)
            done = {row.step for row in ctx.store.steps(ctx.run.id) if row.vm_id == vm_id and row.state == "success"}
            try:
                if step == "prepare":
                    ctx.store.claim_vm(ctx.plan.name, vm_id, ctx.run.id)
                    _fail_the_sad(ctx.plan.name, vm_id)
                if step == "settle":
                    phase = VmPhase.MIGRATED if "verify" in done else VmPhase.FAILED
                    ctx.store.release_vm(ctx.plan.name, vm_id, ctx.run.id, phase)
            except BaseException as error:
                ctx.store.end_step(attempt, state="failed", error=str(error))
                raise
            ctx.store.end_step(attempt, state="success")
        return True

    def pod_target(self, step, vm_id, task, log):
        with self._vm_context(vm_id, task, log) as ctx:
            if ctx.plan.name not in ("pods", "left") or step != "transfer":
                return None
            wanted = labels.of_object(
                plan=ctx.plan.name, wave="w", vm=vm_id, run=ctx.run.id, role=labels.Role(step)
            )  # fmt: skip
            return PodTarget(
                connection_id="lab-cluster", namespace=NAMESPACE, run_id=ctx.run.id, vm_name=ctx.vm.name, labels=wanted
            )

    def pod_request(self, step, vm_id, task, log):
        target = self.pod_target(step, vm_id, task, log)
        with self._vm_context(vm_id, task, log) as ctx:
            epoch = ctx.store.bump_epoch(ctx.plan.name, vm_id, ctx.run.id)
            ctx.store.take_nfc_streams(ctx.plan.name, vm_id, ctx.run.id, host="esx1", wanted=10, capacity=10)
        return pod_request(f"{vm_id}-{step}-{epoch}", target.labels)

    def pod_finish(self, step, vm_id, message, task, log):
        result = json.loads(message)
        log(f"result: {message}")
        if not result["ok"]:
            raise TemporaryError(result["failure"]["message"], code=result["failure"]["code"])
        (GATE / "result").write_text(message)


class LiveOperators(StepOperators):
    """Those of the product; a task that has made its pod stands still while the gate folder holds the file `hold`."""

    def vm_step(self, step, vm_id, outline, **options):
        made = super().vm_step(step, vm_id, outline, **options)
        if isinstance(made, MoverPodOperator):
            made.defer = partial(_hold, made.defer)
        return made


def _hold(defer, **how) -> None:
    if (GATE / "hold").exists():
        (GATE / "held").write_text(str(os.getpid()))
        time.sleep(600)  # the test kills this process
    defer(**how)


def _fail_the_sad(plan: str, vm_id: str) -> None:
    if plan in ("sad", "again", "parts") and vm_id == "vm-0":
        raise PermanentError("prepare fails for this one", cure="none", code="sad")


def pod_request(name: str, wanted: dict[str, str]) -> PodRequest:
    container = {
        "name": "mover",
        "image": IMAGE,
        "command": ["sh", "-c", SCRIPT],
        "volumeMounts": [{"name": "gate", "mountPath": "/gate"}, {"name": "mtv", "mountPath": "/run/mtv"}],
    }
    volumes = [
        {"name": "gate", "hostPath": {"path": str(GATE)}},
        {"name": "mtv", "secret": {"secretName": name}},
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": wanted},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 3,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": volumes,
        },
    }
    return PodRequest(
        namespace=NAMESPACE,
        pod=pod,
        secret_name=name,
        secret_files={"password": "canary-in-the-secret"},
        connection_id="lab-cluster",
    )


def outlines(plan: Plan) -> list[Outline]:
    """The outlines of a plan; each of the two VMs of `parts` is a part of its own."""
    found = outlines_of(plan, "live", "live.yaml")
    if plan.name != "parts":
        return found
    second = replace(found[0], dag_id="mtv.parts.w-02", part=2, vm_count=1)
    return [replace(second, dag_id="mtv.parts.w-01", part=1, next_part=second.dag_id), second]


def load() -> None:
    settings = Settings.from_environ()
    operators = LiveOperators(settings, LiveRunner(settings))
    folder = OutlineFolder(settings.outlines_folder)
    asked = get_parsing_context().dag_id
    if asked and (outline := folder.read(asked)):
        globals()[asked] = build_dag(outline, operators)
        return
    there = [plan for plan in PLANS.values() if not (GATE / f"no-{plan.name}").exists()]
    drawn = folder.write(outline for plan in there for outline in outlines(plan))
    for outline in (*drawn, *still_running(drawn, folder, operators.runner.store)):
        globals()[outline.dag_id] = build_dag(outline, operators)


load()
