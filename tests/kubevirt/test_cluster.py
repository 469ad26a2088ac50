"""The client against a real API server, and against things that are none."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from mtv.kubevirt import cluster as cluster_module
from mtv.kubevirt import labels, machines, pods, volumes
from mtv.kubevirt.claims import MIB, Claim
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.labels import Role
from mtv.kubevirt.resources import CLAIMS, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, VIRTUAL_MACHINES
from mtv.kubevirt.virtual_machine import virtual_machine
from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from tests.kubevirt.values import kubeconfig_text, source_vm, target_vm


def connection(kubeconfig: str | Path, **extra: Any) -> Connection:
    return Connection(conn_id="target", conn_type="kubernetes", extra={"kube_config_path": str(kubeconfig), **extra})


def kubeconfig(folder: Path, server: str, *, authority: str = "", user: dict[str, str] | None = None) -> Path:
    cluster: dict[str, Any] = {"server": server}
    if authority:
        cluster["certificate-authority-data"] = authority
    path = folder / "kubeconfig"
    path.write_text(kubeconfig_text(cluster, user or {"token": "none"}))
    return path


def of_vm(vm: str, role: Role = Role.DISK) -> dict[str, str]:
    return labels.of_object(plan="p", wave="w", vm=vm, run="r", role=role)


def disk_claim(name: str, **changes: Any) -> Claim:
    values: dict[str, Any] = {
        "name": name,
        "storage_class": "lab-fs",
        "size_bytes": MIB,
        "disk_id": "d0",
        "index": 0,
        "identity": "id-0",
    }
    return Claim(**values | changes)


def test_a_kubeconfig_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="kube_config_path"):
        Cluster(connection(tmp_path / "none"))


def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("- not a kubeconfig")
    with pytest.raises(PermanentError, match="cannot be used"):
        Cluster(connection(path))


def test_a_port_where_nobody_listens_is_worth_a_retry(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can answer
        port = taken.getsockname()[1]
        with (
            Cluster(connection(kubeconfig(tmp_path, f"https://127.0.0.1:{port}"))) as cluster,
            pytest.raises(TemporaryError, match="read the version"),
        ):
            cluster.check()


def test_clean_up_that_could_reach_other_vms_is_refused(tmp_path: Path) -> None:
    with Cluster(connection(kubeconfig(tmp_path, "https://127.0.0.1:1"))) as cluster:
        for having in ({}, {labels.PLAN: "p"}, {labels.VM: "v"}, {labels.ROLE: "disk"}):
            with pytest.raises(ValueError, match="other VMs"):
                cluster.remove_labelled(PODS, "demo", having, timeout_s=1)


@pytest.fixture(scope="module")
def admin(lab: Any) -> Iterator[Cluster]:
    assert lab.endpoints("kubevirt")
    with Cluster(connection(lab.endpoints("cluster")["kubeconfig"])) as cluster:
        yield cluster


@pytest.mark.lab
def test_a_namespace_that_mtv_makes_is_labelled_and_may_be_asked_for_again(admin: Cluster, namespace: str) -> None:
    admin.ensure_namespace(namespace)
    found = admin.get(NAMESPACES, namespace)
    assert found is not None
    assert found["metadata"]["labels"][labels.OWNED_NAMESPACE] == "true"
    admin.ensure_namespace("kube-system")
    foreign = admin.get(NAMESPACES, "kube-system")
    assert foreign is not None
    assert labels.OWNED_NAMESPACE not in foreign["metadata"]["labels"]


@pytest.mark.lab
def test_every_pod_is_taken_by_a_namespace_that_enforces_the_restricted_level(admin: Cluster, namespace: str) -> None:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    admin.merge(NAMESPACES, namespace, "", {"metadata": {"labels": level}})
    common = {"namespace": namespace, "image": "none", "object_labels": {}}
    claims = [disk_claim("a"), disk_claim("b", volume_mode="Block", index=1)]
    mover: dict[str, Any] = {
        **common, "arguments": [], "disks": claims, "work_claim": "w", "secret_name": "s", "keys_secret": "k",
        "drivers_claim": "d",
    }  # fmt: skip
    share = {"persistentVolumeClaim": {"claimName": "ova", "readOnly": True}}
    made = [
        pods.mover_pod(name="transfer", resources=pods.TRANSFER, source_volume=share, **mover),
        pods.mover_pod(name="convert", resources=msgspec.structs.replace(pods.CONVERT, kvm=True), **mover),
        pods.preflight_pod(name="preflight", claim_name="b", placement=pods.ANYWHERE, deadline_s=60, **common),
    ]
    for pod in made:
        admin.create(PODS, pod)
    nfs = {
        "nfs": {"server": "nas", "path": "/ova"}
    }  # the one thing that a connection can ask for and the level forbids
    with pytest.raises(PermanentError, match="restricted volume types"):
        admin.create(PODS, pods.mover_pod(name="nfs", resources=pods.TRANSFER, source_volume=nfs, **mover))
    assert {pod["metadata"]["name"] for pod in admin.find(PODS, namespace)} == {"transfer", "convert", "preflight"}


@pytest.mark.lab
def test_a_secret_is_known_to_be_there_without_its_content(admin: Cluster, namespace: str) -> None:
    metadata = {"name": "keys", "namespace": namespace}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"passphrase": "canary-key"}}
    admin.create(SECRETS, body)
    said: list[bytes] = []
    raw = admin._raw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admin, "_raw", lambda *a, **k: said.append(raw(*a, **k)) or said[-1])
        assert admin.exists(SECRETS, "keys", namespace)
        assert not admin.exists(SECRETS, "none", namespace)
    assert json.loads(said[0]).keys() == {"kind", "apiVersion", "metadata"}
    assert base64.b64encode(b"canary-key") not in said[0]


@pytest.mark.lab
def test_claims_are_made_once_and_found_again_by_a_later_run(admin: Cluster, namespace: str) -> None:
    claims = [disk_claim("a"), disk_claim("w", disk_id="", identity="", index=-1)]
    for run in ("r1", "r2"):
        volumes.ensure_claims(admin, namespace, claims, plan="p", wave="w", vm="v", run=run)
    found = admin.find(CLAIMS, namespace)
    assert {item["metadata"]["name"]: item["metadata"]["labels"][labels.ROLE] for item in found} == {
        "a": "disk",
        "w": "work",
    }
    assert {item["metadata"]["labels"][labels.RUN] for item in found} == {"r1"}


@pytest.mark.lab
def test_a_claim_under_its_disks_former_identity_is_kept_and_says_so(admin: Cluster, namespace: str) -> None:
    volumes.ensure_claims(admin, namespace, [disk_claim("a")], plan="p", wave="w", vm="v", run="r")
    claim = disk_claim("a", identity="by uuid", former_identities=("id-0",))
    volumes.ensure_claims(admin, namespace, [claim], plan="p", wave="w", vm="v", run="r")
    (state,) = volumes.disk_states(admin, namespace, [claim], plan="p", vm="v").values()
    assert state.identity == "id-0"


@pytest.mark.lab
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"storage_class": "lab-block"}, "class lab-fs instead of lab-block"),
        ({"size_bytes": 2 * MIB}, "instead of 2097152 bytes"),
        ({"identity": "id-1"}, "another source disk"),
        ({"volume_mode": "Block"}, "volume mode Filesystem"),
    ],
)
def test_a_claim_made_for_something_else_is_refused_and_kept(
    admin: Cluster, namespace: str, changes: dict[str, Any], words: str
) -> None:
    volumes.ensure_claims(admin, namespace, [disk_claim("a")], plan="p", wave="w", vm="v", run="r")
    with pytest.raises(PermanentError, match=words):
        volumes.ensure_claims(admin, namespace, [disk_claim("a", **changes)], plan="p", wave="w", vm="v", run="r")
    assert admin.get(CLAIMS, "a", namespace) is not None


@pytest.mark.lab
def test_a_claim_of_somebody_else_is_never_taken_over(admin: Cluster, namespace: str) -> None:
    volumes.ensure_claims(admin, namespace, [disk_claim("a")], plan="other", wave="w", vm="v", run="r")
    with pytest.raises(PermanentError, match="did not make"):
        volumes.ensure_claims(admin, namespace, [disk_claim("a")], plan="p", wave="w", vm="v", run="r")


@pytest.mark.lab
def test_marks_on_a_claim_are_read_back_and_taken_back(admin: Cluster, namespace: str) -> None:
    claim = disk_claim("a")
    volumes.ensure_claims(admin, namespace, [claim], plan="p", wave="w", vm="v", run="r")
    volumes.mark(admin, namespace, "a", {labels.DIGEST: "d", labels.GENERATION: "52 3c/1 [x]", labels.STALE: None})
    state = volumes.disk_states(admin, namespace, [claim], plan="p", vm="v")["d0"]
    assert state.is_proven("52 3c/1 [x]")
    assert not state.is_proven("another")
    volumes.mark(admin, namespace, "a", {**volumes.UNPROVEN, labels.STALE: "true"})
    state = volumes.disk_states(admin, namespace, [claim], plan="p", vm="v")["d0"]
    assert (state.digest, state.generation, state.stale) == ("", "", True)


@pytest.mark.lab
def test_clean_up_of_one_vm_leaves_the_others_alone(admin: Cluster, namespace: str) -> None:
    for vm in ("v1", "v2"):
        volumes.ensure_claims(admin, namespace, [disk_claim(f"{vm}-a")], plan="p", wave="w", vm=vm, run="r")
    removed = admin.remove_labelled(CLAIMS, namespace, labels.of_vm("p", "v1"), timeout_s=60)
    assert removed == ["v1-a"]
    assert [item["metadata"]["name"] for item in admin.find(CLAIMS, namespace)] == ["v2-a"]


@pytest.mark.lab
def test_a_pods_log_is_text(admin: Cluster, namespace: str, lab: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "says", "namespace": namespace, "labels": of_vm("v")},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "c",
                    "image": lab.endpoints("cluster")["images"]["busybox"],
                    "command": ["sh", "-c", "printf 'grüße\\nsecond\\n'"],
                }
            ],
        },
    }
    assert admin.pod_log("says", namespace, "c") == ""
    admin.create(PODS, pod)
    admin.wait(
        lambda: (admin.get(PODS, "says", namespace) or {}).get("status", {}).get("phase") == "Succeeded",
        timeout_s=300,
        what="the pod",
    )
    assert admin.pod_log("says", namespace, "c") == "grüße\nsecond\n"
    with pytest.raises(Conflict):
        admin.create(PODS, pod)


@pytest.mark.lab
def test_a_machine_is_made_once_and_a_field_that_does_not_exist_is_refused(admin: Cluster, namespace: str) -> None:
    vm = source_vm()
    machine = virtual_machine(vm, target_vm(vm, namespace=namespace))
    assert machines.why_not_tried(admin, machine) == "", "none of its claims exists"
    assert admin.find(VIRTUAL_MACHINES, namespace) == [], "a trial makes nothing"
    first, second = machines.ensure(admin, machine), machines.ensure(admin, machine)
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert first["spec"]["runStrategy"] == "Halted"
    machine["metadata"]["name"] = "other"
    machine["metadata"]["labels"][labels.VM] = "other"
    machine["spec"]["template"]["spec"]["domain"]["devices"]["diskz"] = []
    with pytest.raises(PermanentError, match=r"would refuse the VM: .*diskz"):
        machines.why_not_tried(admin, machine)
    with pytest.raises(PermanentError, match="diskz"):
        machines.ensure(admin, machine)
    having = {**labels.of_vm("first", "web-1"), labels.ROLE: Role.TARGET.value}
    assert machines.remove(admin, namespace, having, timeout_s=60) == ["web-1"]
    assert admin.find(VIRTUAL_MACHINES, namespace) == []


@pytest.mark.lab
def test_an_account_without_rights_learns_which_verb_it_lacks(
    admin: Cluster, namespace: str, lab: Any, tmp_path: Path
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "weak", "namespace": namespace}}
    admin.create(SERVICE_ACCOUNTS, account)
    import kubernetes

    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(lab.endpoints("cluster")["kubeconfig"]))
    token = api.create_namespaced_service_account_token("weak", namespace, {"spec": {"expirationSeconds": 600}})
    api.api_client.close()
    path = kubeconfig(tmp_path, **_server(lab), user={"token": token.status.token})
    with Cluster(connection(path)) as weak:
        weak.check()
        with pytest.raises(PermanentError, match=r"not allowed to create persistentvolumeclaims/a") as caught:
            weak.create(CLAIMS, {"metadata": {"name": "a", "namespace": namespace}})
    assert token.status.token not in str(caught.value)


@pytest.mark.lab
def test_keys_inside_a_kubeconfig_leave_no_file_behind(lab: Any, tmp_path: Path, monkeypatch: Any) -> None:
    import asyncio
    import base64
    import tempfile

    from kubernetes_asyncio import client

    from mtv.orchestration.pods import clients

    document = YAML(typ="safe", pure=True).load(Path(lab.endpoints("cluster")["kubeconfig"]))
    user = document["users"][0]["user"]
    keys = {f"{name}-data": base64.b64encode(Path(user[name]).read_bytes()).decode() for name in user}
    assert set(keys) == {"client-certificate-data", "client-key-data"}
    inline = connection(kubeconfig(tmp_path, **_server(lab), user=keys))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    with Cluster(inline) as cluster:
        assert cluster.get(NAMESPACES, "default")
        assert list(temporary.iterdir()) == []

    async def ask() -> Any:
        async with await clients.open_client(inline) as api:
            return await client.CoreV1Api(api).read_namespace("default")

    assert asyncio.run(ask()).metadata.name == "default"
    assert list(temporary.iterdir()) == []


@pytest.mark.lab
def test_an_unknown_account_and_an_unknown_certificate_are_refused_for_good(lab: Any, tmp_path: Path) -> None:
    server = _server(lab)
    with (
        Cluster(connection(kubeconfig(tmp_path, **server))) as stranger,
        pytest.raises(ConnectionRefused, match="does not know us"),
    ):
        stranger.find(PODS, "default")
    with (
        Cluster(connection(kubeconfig(tmp_path, server["server"]))) as mistrusting,
        pytest.raises(ConnectionRefused, match="certificate"),
    ):
        mistrusting.check()


@pytest.mark.lab
def test_names_of_secrets_are_told_without_their_content(admin: Cluster, namespace: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": namespace, "labels": of_vm("v")},
        "stringData": {"password": "canary"},
    }
    admin.create(SECRETS, secret)
    having = labels.of_vm("p", "v")
    assert admin.names_of(SECRETS, namespace, having) == ["s"]
    (listed,) = admin._list(SECRETS, namespace, having, accept=cluster_module._METADATA_LIST)
    assert set(listed) <= {"kind", "apiVersion", "metadata"}
    assert admin.remove_labelled(SECRETS, namespace, having, timeout_s=30) == ["s"]


def _server(lab: Any) -> dict[str, str]:
    document = YAML(typ="safe", pure=True).load(Path(lab.endpoints("cluster")["kubeconfig"]))
    cluster = document["clusters"][0]["cluster"]
    authority = cluster.get("certificate-authority-data", "")
    if not authority:
        import base64

        authority = base64.b64encode(Path(cluster["certificate-authority"]).read_bytes()).decode()
    return {"server": cluster["server"], "authority": authority}
