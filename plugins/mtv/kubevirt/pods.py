"""Pods of the mover as plain manifests: what runs beside the target volumes, with which claims, files and rights.

Pure functions; the caller creates the pod first and then its Secret, owned by the pod, so that the Secret goes with it.
All pods fit the `restricted` Pod Security profile. Mount points:

- /run/mtv               Secret: spec.json and credential files
- /work                  work claim
- /disks/<index>/        Filesystem claim of disk <index>; the bytes are in disk.img
- /dev/mtv-disk-<index>  Block claim of disk <index>
- /source                folder of OVA files, read-only
- /run/mtv-keys          Secret of the user's with LUKS keys
- /virtio-win            claim of the user's with Windows drivers, read-only
- /var/tmp, /tmp         scratch space of virt-v2v's appliance, and its sockets; all the rest of the root is read-only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from mtv.kubevirt.claims import Claim
from mtv.model.settings import PodPlacement
from mtv.model.transfer import SPEC_PATH, WORK_DIR

ANYWHERE = PodPlacement()
QEMU_ID = 107
"""User and group of QEMU in KubeVirt's launcher: who writes a disk must be who will run it."""
DISK_FILE = "disk.img"
KVM = "devices.kubevirt.io/kvm"
SOURCE_DIR = "/source"
KEYS_DIR = "/run/mtv-keys"
DRIVERS_DIR = "/virtio-win"
PREFLIGHT_DEVICE = "/dev/mtv-preflight"

_SECRET_DIR = str(PurePosixPath(SPEC_PATH).parent)
_POD_IP = "MTV_POD_IP"


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that a step wants to run. `secret_files` is mounted at /run/mtv; nothing in `pod` itself is secret.

    The pod waits for its Secret, which is created after it with an ownerReference to it. Look for a live pod with the
    same `mtv/*` labels before creating one: a worker that died must find its pod again.
    """

    namespace: str
    pod: dict[str, Any]
    secret_name: str
    secret_files: Mapping[str, str]
    connection_id: str

    @property
    def name(self) -> str:
        """Name of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which this pod is found again: plan, wave, VM, run and role."""
        return dict(self.pod["metadata"]["labels"])

    def __repr__(self) -> str:
        return f"PodRequest({self.namespace}/{self.name}, files={sorted(self.secret_files)})"


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod asks of its node. `memory_limit` ends a mover gone wild; a CPU limit would only slow it down."""

    cpu: str
    memory: str
    memory_limit: str
    kvm: bool = False

    def manifest(self) -> dict[str, Any]:
        """Return the container's `resources`."""
        device = {KVM: "1"} if self.kvm else {}
        return {
            "requests": {"cpu": self.cpu, "memory": self.memory, **device},
            "limits": {"memory": self.memory_limit, **device},
        }


TRANSFER = Resources(cpu="250m", memory="256Mi", memory_limit="2Gi")
# virt-v2v's appliance takes 1.2 to 1.8 GB.
CONVERT = Resources(cpu="500m", memory="1Gi", memory_limit="4Gi")
PREFLIGHT = Resources(cpu="50m", memory="64Mi", memory_limit="256Mi")


def disk_path(claim: Claim) -> str:
    """Return where a mover pod sees the bytes of a disk claim."""
    if claim.volume_mode == "Block":
        return f"/dev/mtv-disk-{claim.index}"
    return f"/disks/{claim.index}/{DISK_FILE}"


def mover_pod(
    *,
    name: str,
    namespace: str,
    image: str,
    arguments: Sequence[str],
    object_labels: Mapping[str, str],
    resources: Resources,
    disks: Sequence[Claim] = (),
    work_claim: str = "",
    secret_name: str = "",
    source_volume: Mapping[str, Any] | None = None,
    keys_secret: str = "",
    drivers_claim: str = "",
    placement: PodPlacement = ANYWHERE,
    deadline_s: int | None = None,
    metrics_port: int = 0,
) -> dict[str, Any]:
    """Return a pod that runs `mtv-mover <arguments>` once.

    `source_volume` is a Kubernetes volume source (an OVA share) that is mounted read-only at /source. `keys_secret` and
    `drivers_claim` are the user's own. `metrics_port` is where a transfer serves its progress for Prometheus, on the
    pod's address; 0: nowhere.
    """
    mounts: list[dict[str, Any]] = [
        {"name": "scratch", "mountPath": "/var/tmp"},  # noqa: S108  inside the pod
        {"name": "sockets", "mountPath": "/tmp"},  # noqa: S108  inside the pod
    ]
    devices: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}, {"name": "sockets", "emptyDir": {}}]
    if secret_name:
        mounts.append({"name": "mtv", "mountPath": _SECRET_DIR, "readOnly": True})
        # 0440 and fsGroup: readable by the pod's group and nobody else.
        volumes.append({"name": "mtv", "secret": {"secretName": secret_name, "defaultMode": 0o440}})
    if keys_secret:
        mounts.append({"name": "keys", "mountPath": KEYS_DIR, "readOnly": True})
        volumes.append({"name": "keys", "secret": {"secretName": keys_secret, "defaultMode": 0o440}})
    if drivers_claim:
        mounts.append({"name": "drivers", "mountPath": DRIVERS_DIR, "readOnly": True})
        volumes.append({"name": "drivers", "persistentVolumeClaim": {"claimName": drivers_claim, "readOnly": True}})
    if work_claim:
        mounts.append({"name": "work", "mountPath": WORK_DIR})
        volumes.append({"name": "work", "persistentVolumeClaim": {"claimName": work_claim}})
    for claim in disks:
        volume = f"disk-{claim.index}"
        volumes.append({"name": volume, "persistentVolumeClaim": {"claimName": claim.name}})
        if claim.volume_mode == "Block":
            devices.append({"name": volume, "devicePath": disk_path(claim)})
        else:
            mounts.append({"name": volume, "mountPath": str(PurePosixPath(disk_path(claim)).parent)})
    if source_volume is not None:
        mounts.append({"name": "source", "mountPath": SOURCE_DIR, "readOnly": True})
        volumes.append({"name": "source", **source_volume})
    container: dict[str, Any] = {
        "name": "mover",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["mtv-mover"],
        "args": list(arguments),
        "env": [{"name": "HOME", "value": "/var/tmp"}, {"name": "TMPDIR", "value": "/var/tmp"}],  # noqa: S108  inside the pod
        "resources": resources.manifest(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict(object_labels)}
    if metrics_port:
        # An address of its own family, which "everywhere" would have to guess; the kubelet puts it into the argument.
        container["env"].append({"name": _POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
        container["args"] += ["--metrics", f"$({_POD_IP}):{metrics_port}"]
        container["ports"] = [{"name": "metrics", "containerPort": metrics_port}]
        metadata["annotations"] = _scraped_at(metrics_port)
    if devices:
        container["volumeDevices"] = devices
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": QEMU_ID,
            "runAsGroup": QEMU_ID,
            "fsGroup": QEMU_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if placement.service_account:
        spec["serviceAccountName"] = placement.service_account
    if placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    if deadline_s is not None:
        spec["activeDeadlineSeconds"] = deadline_s
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
    }


def _scraped_at(port: int) -> dict[str, str]:
    """What Prometheus' usual configuration for pods goes by."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}


def preflight_pod(
    *,
    name: str,
    namespace: str,
    image: str,
    object_labels: Mapping[str, str],
    claim_name: str,
    placement: PodPlacement,
    deadline_s: int,
) -> dict[str, Any]:
    """Return a pod that proves that 107:107 can open a Block claim of a class (`mtv-mover preflight-block`)."""
    pod = mover_pod(
        name=name,
        namespace=namespace,
        image=image,
        arguments=["preflight-block", PREFLIGHT_DEVICE],
        object_labels=object_labels,
        resources=PREFLIGHT,
        placement=placement,
        deadline_s=deadline_s,
    )
    pod["spec"]["volumes"].append({"name": "block", "persistentVolumeClaim": {"claimName": claim_name}})
    pod["spec"]["containers"][0]["volumeDevices"] = [{"name": "block", "devicePath": PREFLIGHT_DEVICE}]
    return pod


def secret_of(request: PodRequest, uid: str) -> dict[str, Any]:
    """Return the Secret of a request, owned by its pod of this uid, so that it goes with it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "metadata": {
            "name": request.secret_name,
            "namespace": request.namespace,
            "labels": request.labels,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": request.name, "uid": uid}],
        },
        "stringData": dict(request.secret_files),
    }


def left_message(pod: Mapping[str, Any]) -> str:
    """Return the result that a pod left as its termination message; empty when it left none."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        message = ((status.get("state") or {}).get("terminated") or {}).get("message") or ""
        if message.lstrip().startswith("{"):
            return str(message)
    return ""
