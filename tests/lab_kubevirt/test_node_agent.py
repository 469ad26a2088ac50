"""What the node agent writes into an instance, and how it talks to a launcher."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from lab.kubevirt.node import instance_status
from lab.kubevirt.node.instance import active_pod, is_due
from lab.kubevirt.node.launcher_link import LauncherGone, LauncherLink

NOW = "2026-01-02T03:04:05Z"


def instance(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "n", "uid": "u", "resourceVersion": "7"},
        "spec": {
            "domain": {
                "memory": {"guest": "1Gi"},
                "devices": {
                    "disks": [
                        {"name": "root", "disk": {"bus": "virtio"}},
                        {"name": "a", "disk": {"bus": "scsi"}},
                        {"name": "iso", "cdrom": {"bus": "sata"}},
                    ],
                    "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:01"}],
                },
            }
        },
        "status": status,
    }


def test_a_running_instance_gets_what_virt_handler_writes() -> None:
    volumes = [{"name": "root"}, {"name": "a"}, {"name": "iso"}, {"name": "persistent-state"}]
    patch = instance_status.running(instance(phase="Scheduled", volumeStatus=volumes), NOW)
    status = patch["status"]
    assert status["phase"] == "Running"
    assert status["phaseTransitionTimestamps"][-1] == {"phase": "Running", "phaseTransitionTimestamp": NOW}
    assert [volume.get("target") for volume in status["volumeStatus"]] == ["vda", "sda", "sdb", None]
    assert status["interfaces"][0]["mac"] == "02:00:00:00:00:01"
    assert status["memory"]["guestAtBoot"] == "1Gi"


def test_a_patch_is_refused_by_the_server_if_somebody_else_was_faster() -> None:
    assert instance_status.running(instance(), NOW)["metadata"] == {"resourceVersion": "7"}
    assert instance_status.ended(instance(), "shutdown", NOW)["metadata"] == {"resourceVersion": "7"}


def test_conditions_of_others_stay_and_ours_has_both_times() -> None:
    ready = {"type": "Ready", "status": "False"}
    conditions = instance_status.running(instance(conditions=[ready]), NOW)["status"]["conditions"]
    assert conditions[0] == ready
    assert conditions[1]["type"] == "LiveMigratable"
    assert conditions[1]["lastProbeTime"] == conditions[1]["lastTransitionTime"] == NOW


@pytest.mark.parametrize(("state", "phase"), [("shutdown", "Succeeded"), ("crashed", "Failed")])
def test_the_end_of_the_guest_decides_the_last_phase(state: str, phase: str) -> None:
    assert instance_status.ended(instance(phase="Running"), state, NOW)["status"]["phase"] == phase


@pytest.mark.parametrize(
    ("status", "due"),
    [
        ({"phase": "Scheduled", "nodeName": "here", "activePods": {"p": "here"}}, True),
        ({"phase": "Running", "nodeName": "here", "activePods": {"p": "here"}}, True),
        ({"phase": "Scheduling", "nodeName": "here", "activePods": {"p": "here"}}, False),
        ({"phase": "Scheduled", "nodeName": "there", "activePods": {"p": "there"}}, False),
        ({"phase": "Scheduled", "nodeName": "here", "activePods": {}}, False),
        ({"phase": "Succeeded", "nodeName": "here", "activePods": {"p": "here"}}, False),
        ({}, False),
    ],
    ids=["scheduled", "running", "not-yet", "elsewhere", "no-pod", "over", "new"],
)
def test_an_instance_is_due_when_its_pod_is_on_this_node(status: dict[str, Any], due: bool) -> None:
    assert is_due(instance(**status), "here") is due


def test_the_active_pod_is_the_one_on_this_node() -> None:
    assert active_pod(instance(activePods={"p": "there", "q": "here"}), "here") == "q"


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    """A kubelet's folder whose path is far longer than a Unix socket's may be."""
    folder = tmp_path / ("long" * 30)
    (folder / "pods" / "uid" / "volumes" / "kubernetes.io~empty-dir" / "sockets").mkdir(parents=True)
    return folder


def test_the_agent_reaches_a_launcher_behind_a_path_longer_than_sockets_allow(
    kubelet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kubelet / "pods" / "uid" / "volumes" / "kubernetes.io~empty-dir" / "sockets")
    received: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("launcher-sock")
        listener.listen()

        def launcher() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as lines:
                received.append(json.loads(lines.readline()))
                lines.write(b'{"state": "running"}\n')

        thread = Thread(target=launcher)
        thread.start()
        with LauncherLink.open(kubelet, "uid", timeout_s=10, stop=Event()) as link:
            link.send({"vmi": {}})
            assert link.receive() == {"state": "running"}
            with pytest.raises(LauncherGone, match="closed"):
                link.receive()
        thread.join(10)
    assert received == [{"vmi": {}}]


def test_a_launcher_that_never_comes_is_given_up(kubelet: Path) -> None:
    with pytest.raises(LauncherGone, match="no launcher"):
        LauncherLink.open(kubelet, "uid", timeout_s=0.2, stop=Event())
