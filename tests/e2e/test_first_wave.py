"""The demo's wave, end to end: plan file to booted VMs, and what must be true of a run besides."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.demo.summary import run_of_each, summarise
from lab.state import PYTHON_PATH
from lab.vcenter.audit import Change, read_audit
from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, PODS, SECRETS, VIRTUAL_MACHINES
from mtv.model.evidence import EvidenceKind
from mtv.model.source import PowerState
from mtv.model.transfer import Proof
from tests.e2e.conftest import Factory
from tests.e2e.watchers import PlaceWatcher, PodWatcher, Watcher
from tests.leaks import Rows, Secrets, content_of, fernet_of, files_below

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(2400)]

DAG = "mtv.01-first-wave.first"
NAMESPACE = "demo"


class Wave:
    """The finished wave, as `make demo` runs it, and what was seen meanwhile."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.secrets = Secrets(_credentials(factory))
        factory.power_on_source("web-1")
        self.audit_before = len(_audit(factory))
        self.off_disk = Path(factory.state.endpoints("vcenter")["guests"]["db-1"]["disks"][0])
        self.off_disk_written_ns = self.off_disk.stat().st_mtime_ns
        with (
            Watcher(self.secrets) as self.watcher,
            PodWatcher(factory, NAMESPACE, self.secrets) as self.pods,
            PlaceWatcher(factory, self.secrets) as self.places,
        ):
            self.demo = demo(factory)
        run = factory.store.runs("01-first-wave")[0]
        self.run_id, self.dag_run_id = run.id, run.dag_run_id

    def evidence(self, vm: str, kind: EvidenceKind) -> dict[str, Any]:
        return self.factory.evidence(DAG, self.dag_run_id, vm, kind)


@pytest.fixture(scope="session")
def wave(factory: Factory) -> Wave:
    return Wave(factory)


def demo(factory: Factory) -> subprocess.CompletedProcess[str]:
    """Run `make demo KEEP=1` on the lab that is up."""
    return subprocess.run(
        [sys.executable, "-m", "lab.demo", "--keep"],
        env={**os.environ, "MTV_LAB_STATE": str(factory.state.dir), "PYTHONPATH": PYTHON_PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=2400,
    )


def _credentials(factory: Factory) -> list[bytes]:
    """Every secret that the factory was given: the passwords of its connections, and a line of the cluster's key."""
    connections = json.loads(Path(factory.endpoints["connections_file"]).read_text())
    passwords = {name: entry["password"].encode() for name, entry in connections.items() if entry.get("password")}
    assert {"lab-vcenter", "mtv_store"} <= set(passwords)
    kubeconfig = json.loads(Path(factory.state.endpoints("cluster")["kubeconfig"]).read_text())
    key = Path(kubeconfig["users"][0]["user"]["client-key"]).read_bytes().splitlines()
    return [*passwords.values(), key[2]]  # the lines before tell only of what kind the key is


def _audit(factory: Factory) -> list[Change]:
    return read_audit(Path(factory.state.endpoints("vcenter")["audit"]))


def test_three_vms_from_two_sources_are_migrated_and_proven(wave):
    assert wave.demo.returncode == 0, wave.demo.stdout
    payloads = {name: wave.factory.payload(name) for name in ("web-1", "db-1", "app-1")}
    vms = summarise(wave.factory.store, run_of_each(wave.factory.store, wave.run_id), payloads)
    assert {vm.name: vm.is_proven for vm in vms} == {"web-1": True, "db-1": True, "app-1": True}


def test_the_demo_shows_progress_the_table_the_report_and_where_airflow_is(wave):
    said = wave.demo.stdout
    # Which phase of a copy is seen hangs on how quick it is.
    assert re.search(r"web-1 .* transfer · (copy|verify|done) · \d+ MiB", said)
    digest = wave.evidence("web-1", EvidenceKind.TRANSFER)["disks"][0]["digest"]
    assert f"{digest[:16]}…" in said
    assert "3 of 3 VMs migrated and proven." in said
    (report,) = re.findall(r"^Report: (.+)$", said, re.MULTILINE)
    assert Path(report).is_file()
    assert f"Airflow UI: {wave.factory.endpoints['url']}" in said


def test_a_second_demo_on_a_lab_that_was_kept_is_as_good_and_moves_nothing(wave):
    again = demo(wave.factory)
    assert again.returncode == 0, again.stdout
    assert "An earlier run has migrated every VM of the wave" in again.stdout
    assert "3 of 3 VMs migrated and proven." in again.stdout
    assert wave.run_id in again.stdout, "the report of the run that moved them is not named"
    latest = wave.factory.store.runs("01-first-wave")[0]
    assert (latest.id != wave.run_id, latest.frozen_vms) == (True, ())


def test_every_disk_was_read_back_and_the_ova_agrees_with_its_manifest(wave):
    proofs = {
        vm: {disk["proof"] for disk in wave.evidence(vm, EvidenceKind.TRANSFER)["disks"]}
        for vm in ("web-1", "db-1", "app-1")
    }
    assert proofs == {"web-1": {Proof.AS_READ}, "db-1": {Proof.AS_READ}, "app-1": {Proof.SOURCE_CHECKED}}


def test_the_guest_that_ran_runs_on_virtio_and_its_source_is_off(wave):
    boot = wave.evidence("web-1", EvidenceKind.BOOT)
    assert boot["proven"]
    assert "disk-driver=virtio_blk" in boot["marker"]
    assert wave.evidence("web-1", EvidenceKind.TARGET_VM)["run_strategy"] == "Always"
    assert wave.evidence("web-1", EvidenceKind.POWER)["method"] == "guest shutdown"
    assert wave.factory.source_power("web-1") is PowerState.OFF


def test_the_guest_that_was_off_stays_off_but_is_proven_to_boot(wave):
    assert wave.evidence("db-1", EvidenceKind.BOOT)["throw_away"]
    with wave.factory.cluster() as cluster:
        (machine,) = cluster.find(VIRTUAL_MACHINES, NAMESPACE, {"mtv/vm": "db-1"})
        assert machine["spec"]["runStrategy"] == "Halted"
    assert wave.factory.source_power("db-1") is PowerState.OFF
    assert wave.off_disk.stat().st_mtime_ns == wave.off_disk_written_ns, "the source's disk was written"


def test_nothing_but_power_was_changed_on_the_source(wave):
    changes = [(change.method, change.name) for change in _audit(wave.factory)[wave.audit_before :]]
    assert changes == [("ShutdownGuest", "web-1")]


def test_only_the_vms_and_their_disks_are_left_on_the_cluster(wave):
    with wave.factory.cluster() as cluster:
        mine = {labels.PLAN: "01-first-wave"}
        # The launchers of the VMs themselves bear the VMs' labels too.
        movers = [pod for pod in cluster.find(PODS, NAMESPACE, mine) if "kubevirt.io" not in pod["metadata"]["labels"]]
        assert movers == []
        assert cluster.find(SECRETS, NAMESPACE, mine) == []
        claims = cluster.find(CLAIMS, NAMESPACE, mine)
        assert {claim["metadata"]["labels"]["mtv/role"] for claim in claims} == {"disk"}
        owners = {claim["metadata"]["ownerReferences"][0]["name"] for claim in claims}
        assert owners == {"web-1", "db-1", "app-1"}


def test_what_copied_and_converted_had_a_read_only_root_and_no_rights(wave):
    assert {"transfer", "convert"} <= set(wave.pods.movers)
    for spec in (spec for specs in wave.pods.movers.values() for spec in specs):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 107
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert [container["securityContext"] for container in spec["containers"]] == [
            {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
        ]


def test_the_report_exists_in_three_forms_and_shows_the_digests(wave):
    folder = Path(wave.factory.endpoints["state_folder"]) / "reports" / wave.run_id
    digest = wave.evidence("web-1", EvidenceKind.TRANSFER)["disks"][0]["digest"]
    for name in ("report.html", "report.json"):
        assert digest in (folder / name).read_text()
    assert "web-1" in (folder / "report.csv").read_text()


def test_no_pod_said_a_password_and_no_secret_is_left_that_holds_one(wave):
    assert {"transfer", "convert"} <= set(wave.pods.movers), "the look at pods proves nothing"
    assert wave.pods.leaks == set()
    with wave.factory.cluster() as cluster:
        for secret in cluster.find(SECRETS, NAMESPACE):
            content = b"".join(base64.b64decode(value) for value in secret.get("data", {}).values())
            assert not wave.secrets.in_bytes(content), secret["metadata"]["name"]


def test_no_password_is_seen_in_a_process(wave):
    assert wave.watcher.rounds > 10
    if os.geteuid() != 0:
        pytest.skip("an ordinary user does not see the processes of pods, which have users of their own")
    assert wave.watcher.leaks == set()


def test_no_password_is_in_a_pods_log_a_work_volume_or_a_trigger_meanwhile(wave):
    assert {"log", "volume", "trigger"} <= set(wave.places.seen), "the look at what goes with the wave proves nothing"
    assert wave.places.leaks == set()


def test_no_password_is_left_in_a_file(wave):
    state = wave.factory.state
    allowed = {
        Path(state.endpoints("vcenter")["password_file"]),
        Path(wave.factory.endpoints["connections_file"]),
    }
    elsewhere = {("vcenter", "disks"), ("cluster", "etcd"), ("cluster", "pki")}
    # The source's own disks; where Kubernetes keeps the Secrets that there were; and its keys.
    found = [
        str(path.relative_to(state.dir))
        for path in files_below(state.dir)
        if path not in allowed
        and path.relative_to(state.dir).parts[:2] not in elsewhere
        and wave.secrets.in_bytes(content_of(path))
    ]
    assert found == []


@pytest.mark.parametrize("which", ["database", "store"])
def test_no_password_is_in_a_database(wave, which: str):
    rows = Rows(wave.factory.endpoints[which], fernet_of(Path(wave.factory.endpoints["home"]) / "airflow.cfg"))
    with rows.opened() as database:
        tables = rows.tables(database)
        assert {"database": {"trigger", "xcom", "rendered_task_instance_fields"}, "store": {"evidence"}}[which] <= set(
            tables
        )
        for name, table in tables.items():
            assert not any(map(wave.secrets.in_bytes, rows.texts(database, table))), f"a password is in table {name}"


def test_nothing_connects_outside_loopback_while_airflow_starts_or_the_wave_runs(wave):
    if wave.factory.while_starting is None:
        pytest.skip("the lab ran before these tests: whom it called at its start was not seen")
    assert wave.factory.while_starting.rounds > 10
    assert wave.factory.while_starting.remote == set()
    assert wave.watcher.rounds > 10
    assert wave.watcher.remote == set()
