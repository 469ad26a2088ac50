"""The page for Prometheus of a transfer's pod, read over the network while it copies, from a real pod of the lab."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.process import free_port
from mover.measure import digest_of_path
from mtv.kubevirt import pods
from mtv.kubevirt.claims import Claim, manifest
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import CLAIMS, PODS
from mtv.model.transfer import TransferResult, TransferSpec
from tests.mover import moving
from tests.mover.moving import MIB
from tests.steps.lab_pods import last_word, start_pod

pytestmark = pytest.mark.lab
SIZE = 12 * MIB


def request_of(lab: Any, namespace: str, disk: Claim, work: Claim, uri: str) -> PodRequest:
    """A transfer that takes some seconds, as a step asks for it."""
    copied = moving.disk_of(uri, SIZE, Path(pods.disk_path(disk)), id=disk.disk_id)
    spec = TransferSpec(plan="p", run="r", vm="v", epoch=1, disks=(copied,), limit_bytes_per_s=MIB)
    pod = pods.mover_pod(
        name="copy",
        namespace=namespace,
        image=lab.endpoints("cluster")["images"]["mover"],
        arguments=["transfer", "--spec", "/run/mtv/spec.json"],
        object_labels={"mtv/vm": "v"},
        resources=pods.TRANSFER,
        disks=[disk],
        work_claim=work.name,
        secret_name="copy",
        metrics_port=free_port(),
    )
    files = {"spec.json": msgspec.json.encode(spec).decode()}
    return PodRequest(namespace=namespace, pod=pod, secret_name="copy", secret_files=files, connection_id="lab")


def page_of(pod: dict[str, Any] | None) -> str:
    """What a scraper gets that goes by the pod's annotations; "" while there is none."""
    address = (pod or {}).get("status", {}).get("podIP")
    if pod is None or not address:
        return ""
    notes = pod["metadata"]["annotations"]
    assert notes["prometheus.io/scrape"] == "true"
    try:
        where = f"http://{address}:{notes['prometheus.io/port']}{notes['prometheus.io/path']}"
        with urllib.request.urlopen(where, timeout=30) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_a_copy_is_scraped_at_its_pods_address_while_it_goes_on(
    lab: Any, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    original = moving.make_disk(tmp_path / "source", SIZE, [(0, SIZE)])
    disk = Claim(name="disk", storage_class="lab-fs", size_bytes=40 * MIB, disk_id="d", index=0)
    work = Claim(name="work", storage_class="lab-fs", size_bytes=40 * MIB, disk_id="", index=-1)
    for wanted in (disk, work):
        cluster.create(CLAIMS, manifest(wanted, namespace=namespace, object_labels={}))
    with moving.nbdkit(tmp_path, "file", str(original), port=free_port()) as uri:
        request = request_of(lab, namespace, disk, work, uri)
        start_pod(cluster, request)

        def amid_the_copy() -> str:
            page = page_of(cluster.get(PODS, "copy", namespace))
            done = re.search(r"^mtv_mover_bytes_done\{.*\} (\d+)", page, re.MULTILINE)
            return page if done and 0 < int(done[1]) < SIZE else ""

        page = cluster.wait(amid_the_copy, timeout_s=300, what="a page amid the copy", interval_s=0.2)
        said = last_word(cluster, request)
    assert f'disk="{disk.disk_id}"' in page
    result = msgspec.json.decode(said.encode(), type=TransferResult)
    assert result.ok, cluster.pod_log("copy", namespace, "mover")
    assert result.disks[0].digest == digest_of_path(original)
