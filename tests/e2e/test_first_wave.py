"""The demo's wave, end to end: plan file to booted VMs, and what must be true of a run besides."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from lab.demo.summary import summarise
from lab.vcenter.audit import Change, read_audit
from mtv.kubevirt import labels
from mtv.kubevirt.resources import CLAIMS, PODS, SECRETS, VIRTUAL_MACHINES
from mtv.model.evidence import EvidenceKind
from mtv.model.source import PowerState
from mtv.model.transfer import Proof
from tests.e2e.conftest import Factory
from tests.e2e.watchers import PodWatcher, Watcher

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(2400)]

DAG = "mtv.01-first-wave.first"
NAMESPACE = "demo"


class Wave:
    """The finished wave and what was seen meanwhile."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.canaries = _credentials(factory)
        factory.power_on_source("web-1")
        self.audit_before = len(_audit(factory))
        self.off_disk = Path(factory.state.endpoints("vcenter")["guests"]["db-1"]["disks"][0])
        self.off_disk_written_ns = self.off_disk.stat().st_mtime_ns
        factory.api.wait_for_dag(DAG, timeout_s=180)
        factory.api.unpause(DAG)
        with Watcher(self.canaries) as self.watcher, PodWatcher(factory, NAMESPACE, self.canaries) as self.pods:
            self.dag_run_id, self.state = factory.run(DAG)
        run = factory.store.run_of(DAG, self.dag_run_id)
        assert run is not None
        self.run_id = run.id

    def evidence(self, vm: str, kind: EvidenceKind) -> dict[str, Any]:
        return self.factory.evidence(DAG, self.dag_run_id, vm, kind)


@pytest.fixture(scope="session")
def wave(factory: Factory) -> Wave:
    return Wave(factory)


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
    assert wave.state == "success", wave.factory.errors(DAG, wave.dag_run_id)
    payloads = {name: wave.factory.payload(name) for name in ("web-1", "db-1", "app-1")}
    vms = summarise(wave.factory.store, wave.run_id, payloads)
    assert {vm.name: vm.is_proven for vm in vms} == {"web-1": True, "db-1": True, "app-1": True}


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
            assert not any(canary in content for canary in wave.canaries), secret["metadata"]["name"]


def test_no_password_is_seen_anywhere(wave):
    assert wave.watcher.rounds > 10
    assert wave.watcher.leaks == set()
    found = []
    state = wave.factory.state
    allowed = {
        Path(state.endpoints("vcenter")["password_file"]),
        Path(wave.factory.endpoints["connections_file"]),
    }
    # What goes meanwhile, like the claims of a wave that another test has ended, holds nothing any more.
    files = (Path(folder, name) for folder, _, names in os.walk(state.dir, onerror=_unless_gone) for name in names)
    for path in files:
        if path.is_symlink() or not path.is_file() or path in allowed:
            continue
        where = path.relative_to(state.dir).parts
        if where[:2] in {("vcenter", "disks"), ("cluster", "etcd"), ("cluster", "pki")}:
            continue  # the source's own disks; where Kubernetes keeps the Secrets that there were; and its keys
        content = _read(path)
        if any(canary in content for canary in wave.canaries):
            found.append(str(path.relative_to(state.dir)))
    assert found == []


def test_no_password_is_in_airflows_database(wave):
    fernet = _fernet(Path(wave.factory.endpoints["home"]) / "airflow.cfg")
    engine = sqlalchemy.create_engine(wave.factory.endpoints["database"])
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    assert "trigger" in tables.tables
    assert "xcom" in tables.tables
    try:
        with engine.connect() as database:
            for table in tables.sorted_tables:
                for row in database.execute(sqlalchemy.select(table)):
                    texts = [value if isinstance(value, bytes) else str(value).encode() for value in row]
                    clear = texts + [_decrypted(fernet, text) for text in texts]
                    leaks = [canary for canary in wave.canaries for text in clear if canary in text]
                    assert not leaks, f"a password stands in table {table.name}"
    finally:
        engine.dispose()


def test_nothing_connects_outside_loopback(wave):
    assert wave.watcher.rounds > 10
    assert wave.watcher.remote == set()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # a log that was rotated or a pod's folder that went meanwhile


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _fernet(config: Path) -> Any:
    from cryptography.fernet import Fernet

    (line,) = [line for line in config.read_text().splitlines() if line.startswith("fernet_key")]
    key = line.partition("=")[2].strip()
    assert base64.urlsafe_b64decode(key)
    return Fernet(key)


def _decrypted(fernet: Any, text: bytes) -> bytes:
    from cryptography.fernet import InvalidToken

    try:
        clear: bytes = fernet.decrypt(text)
    except (InvalidToken, TypeError):
        return b""
    return clear
