"""Keys of encrypted guests, from the user's Secret to what opens the disk: real pods in the lab's cluster."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mtv.kubevirt import pods
from mtv.kubevirt.claims import MIB, Claim, manifest
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import CLAIMS, NAMESPACES, PODS, SECRETS
from mtv.model.conversion import ANY_FILE, ConvertDisk, ConvertResult, ConvertSpec, LuksKey
from tests.steps.lab_pods import last_word, start_pod

pytestmark = pytest.mark.lab
RIGHT, TWO_LINES = "canary-one-line", "canary-first-line\ncanary-second-line"
DISK_BYTES = 24 * MIB
# What a copy would have left on the claim.
COPY_AND_CONVERT = f"""\
touch /not-here 2>/dev/null && exit 3
truncate -s {DISK_BYTES} /disks/0/disk.img
exec mtv-mover convert --spec /run/mtv/spec.json
"""


@pytest.fixture
def namespace(cluster: Cluster, namespace: str) -> str:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.merge(NAMESPACES, namespace, "", {"metadata": {"labels": level}})
    return namespace


def claim(name: str, index: int) -> Claim:
    return Claim(name=name, storage_class="lab-fs", size_bytes=400 * MIB, disk_id="d0", index=index)


def converted(lab: Any, cluster: Cluster, namespace: str, name: str, keys: dict[str, str]) -> ConvertResult:
    """What the conversion of a disk says in a pod with a Secret of these keys."""
    disk, work = claim(f"{name}-disk", 0), claim(f"{name}-work", -1)
    for wanted in (disk, work):
        cluster.create(CLAIMS, manifest(wanted, namespace=namespace, object_labels={}))
    metadata = {"name": f"{name}-keys", "namespace": namespace}
    cluster.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})
    spec = ConvertSpec(
        plan="p",
        run="r",
        vm="v",
        epoch=1,
        disks=(ConvertDisk(id="d0", path=pods.disk_path(disk), block=False, size_bytes=DISK_BYTES, digest=""),),
        luks_keys=(LuksKey(file=ANY_FILE),),
        credentials_dir=pods.KEYS_DIR,
    )
    pod = pods.mover_pod(
        name=name,
        namespace=namespace,
        image=lab.endpoints("cluster")["images"]["mover"],
        arguments=[],
        object_labels={"mtv/vm": name},
        resources=pods.CONVERT,
        disks=[disk],
        work_claim=work.name,
        secret_name=name,
        keys_secret=f"{name}-keys",
    )
    pod["spec"]["containers"][0]["command"] = ["sh", "-c", COPY_AND_CONVERT]
    files = {"spec.json": msgspec.json.encode(spec).decode()}
    request = PodRequest(namespace=namespace, pod=pod, secret_name=name, secret_files=files, connection_id="lab")
    start_pod(cluster, request)
    said = last_word(cluster, request)
    stored = cluster.get(PODS, name, namespace)
    assert stored is not None
    assert stored["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert "canary" not in json.dumps(stored) + said
    assert said, cluster.pod_log(name, namespace, "mover")
    return msgspec.json.decode(said.encode(), type=ConvertResult)


def test_the_keys_of_the_users_secret_reach_the_conversion(lab: Any, cluster: Cluster, namespace: str) -> None:
    """One that is not one line is refused by its name before an appliance starts; `new` was read before it."""
    refused = converted(lab, cluster, namespace, "keys", {"new": RIGHT, "old": TWO_LINES})
    assert refused.failure is not None
    assert refused.failure.code == "luks-key"
    assert "'old' is not one line of text" in refused.failure.message
