from __future__ import annotations

import json
from typing import Any

import pytest

from mtv.kubevirt import pods
from mtv.kubevirt.claims import Claim
from mtv.kubevirt.pods import ANYWHERE, PodRequest
from mtv.model.settings import Settings

FILE = Claim(name="c0", storage_class="s", size_bytes=1, disk_id="a", index=0)
BLOCK = Claim(name="c1", storage_class="s", size_bytes=1, volume_mode="Block", disk_id="b", index=1)


def transfer_pod(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "first-web-1-transfer-3",
        "namespace": "demo",
        "image": "localhost/mtv-mover:1",
        "arguments": ["transfer", "--spec", "/run/mtv/spec.json"],
        "object_labels": {"mtv/plan": "first"},
        "resources": pods.TRANSFER,
        "disks": [FILE, BLOCK],
        "work_claim": "w",
        "secret_name": "first-web-1-transfer-3",
    }
    return pods.mover_pod(**values | changes)


def container(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0]


def test_a_mover_pod_fits_the_restricted_profile() -> None:
    pod = transfer_pod()
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (107, 107, 107)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["restartPolicy"] == "Never"


def test_disks_are_mounted_where_the_spec_says() -> None:
    pod = transfer_pod()
    mounts = {mount["name"]: mount["mountPath"] for mount in container(pod)["volumeMounts"]}
    devices = {device["name"]: device["devicePath"] for device in container(pod)["volumeDevices"]}
    assert mounts["work"] == "/work"
    assert mounts["mtv"] == "/run/mtv"
    assert pods.disk_path(FILE) == f"{mounts['disk-0']}/disk.img" == "/disks/0/disk.img"
    assert pods.disk_path(BLOCK) == devices["disk-1"] == "/dev/mtv-disk-1"


def test_every_mounted_volume_is_there() -> None:
    pod = transfer_pod(source_volume={"hostPath": {"path": "/srv/ova"}}, keys_secret="keys", drivers_claim="drivers")
    used = {m["name"] for m in container(pod)["volumeMounts"]} | {d["name"] for d in container(pod)["volumeDevices"]}
    assert used == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_what_tools_write_beside_disks_and_work_volume_is_not_on_the_read_only_root() -> None:
    pod = transfer_pod()
    writable = {mount["mountPath"] for mount in container(pod)["volumeMounts"] if not mount.get("readOnly")}
    assert {"/tmp", "/var/tmp", "/work", "/disks/0"} == writable  # noqa: S108
    assert {variable["value"] for variable in container(pod)["env"]} == {"/var/tmp"}  # noqa: S108


def test_an_ova_folder_is_mounted_read_only() -> None:
    pod = transfer_pod(source_volume={"nfs": {"server": "nas", "path": "/ova"}})
    assert {"name": "source", "mountPath": "/source", "readOnly": True} in container(pod)["volumeMounts"]
    assert {"name": "source", "nfs": {"server": "nas", "path": "/ova"}} in pod["spec"]["volumes"]


def test_kvm_is_asked_for_only_when_a_node_offers_it() -> None:
    plain = pods.CONVERT.manifest()
    asking = pods.Resources(cpu="1", memory="1Gi", memory_limit="2Gi", kvm=True).manifest()
    assert pods.KVM not in plain["requests"]
    assert asking["requests"][pods.KVM] == asking["limits"][pods.KVM] == "1"


def test_the_preflight_opens_a_block_claim_as_qemu_would() -> None:
    pod = pods.preflight_pod(
        name="p", namespace="demo", image="i", object_labels={}, claim_name="c", placement=ANYWHERE, deadline_s=60
    )
    assert container(pod)["args"] == ["preflight-block", container(pod)["volumeDevices"][0]["devicePath"]]
    assert pod["spec"]["activeDeadlineSeconds"] == 60
    assert pod["spec"]["securityContext"]["runAsUser"] == 107


def test_a_request_hides_its_secrets_from_its_repr_and_its_pod() -> None:
    request = PodRequest(
        namespace="demo",
        pod=transfer_pod(),
        secret_name="first-web-1-transfer-3",
        secret_files={"password": "canary-1", "spec.json": "{}"},
        connection_id="c",
    )
    assert "canary-1" not in repr(request) + json.dumps(request.pod)
    assert request.name == "first-web-1-transfer-3"
    assert request.labels == {"mtv/plan": "first"}


def test_pods_run_where_and_as_whom_the_installation_says() -> None:
    placement = Settings.from_environ(
        {"MTV_POD_SERVICE_ACCOUNT": "mover", "MTV_POD_NODE_SELECTOR": "zone=a, kubevirt.io/schedulable=true"}
    ).pod_placement
    preflight = pods.preflight_pod(
        name="p", namespace="n", image="i", object_labels={}, claim_name="c", placement=placement, deadline_s=1
    )
    for pod in (transfer_pod(placement=placement), preflight):
        assert pod["spec"]["serviceAccountName"] == "mover"
        assert pod["spec"]["nodeSelector"] == {"zone": "a", "kubevirt.io/schedulable": "true"}


def test_pods_run_on_nodes_for_vms_unless_told_otherwise() -> None:
    assert Settings.from_environ({}).pod_placement.node_selector == {"kubevirt.io/schedulable": "true"}
    anywhere = Settings.from_environ({"MTV_POD_NODE_SELECTOR": ""}).pod_placement
    assert "nodeSelector" not in transfer_pod(placement=anywhere)["spec"]
    with pytest.raises(ValueError, match=r"MTV_POD_NODE_SELECTOR.*'zone'"):
        Settings.from_environ({"MTV_POD_NODE_SELECTOR": "zone"})


def test_a_copy_serves_its_progress_on_the_pods_address_only_where_the_installation_says_a_port() -> None:
    assert (
        Settings.from_environ({}).mover_metrics_port
        == Settings.from_environ({"MTV_MOVER_METRICS_PORT": "0"}).mover_metrics_port
        == 0
    )
    silent = transfer_pod()
    assert "ports" not in container(silent)
    assert "annotations" not in silent["metadata"]
    port = Settings.from_environ({"MTV_MOVER_METRICS_PORT": "9100"}).mover_metrics_port
    pod = transfer_pod(metrics_port=port)
    assert container(pod)["args"] == ["transfer", "--spec", "/run/mtv/spec.json", "--metrics", "$(MTV_POD_IP):9100"]
    assert {"name": "MTV_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in container(pod)["env"]
    assert container(pod)["ports"] == [{"name": "metrics", "containerPort": 9100}]
    assert pod["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9100",
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("text", ["http", "-1", "80", "65536", "９１００"])
def test_what_is_no_port_is_told_with_the_settings_name(text: str) -> None:
    with pytest.raises(ValueError, match="MTV_MOVER_METRICS_PORT"):
        Settings.from_environ({"MTV_MOVER_METRICS_PORT": text})
