"""One instance on this node: a thread that hands it to its launcher and writes down what the launcher says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

from lab.kubevirt.kube import Kube, Refused, Unreachable, path_of
from lab.kubevirt.launcher.disks import claim_of
from lab.kubevirt.node import instance_status
from lab.kubevirt.node.launcher_link import LauncherGone, LauncherLink

_LAUNCHER_WITHIN_S = 60.0
_ATTEMPTS = 5  # after errors that nobody foresaw
_PATCH_ATTEMPTS = 20
_NEWER_WITHIN_S = 5.0
_FINAL = ("Succeeded", "Failed")


class Instance:
    """Follows one VMI (by uid) in a thread of its own, so that whatever goes wrong with it stays with it."""

    def __init__(self, kube: Kube, kubelet: Path, node: str, vmi: dict[str, Any], log: Callable[[str], None]) -> None:
        self._kube = kube
        self._kubelet = kubelet
        self._node = node
        self._vmi = vmi
        self._name = f"{vmi['metadata']['namespace']}/{vmi['metadata']['name']}"
        self._print = log
        self._changed = Condition()
        self._gone = Event()
        self._link: LauncherLink | None = None
        self._thread = Thread(target=self._run, name=vmi["metadata"]["name"], daemon=True)

    def start(self) -> None:
        """Begin to follow it."""
        self._thread.start()

    def update(self, vmi: dict[str, Any]) -> None:
        """A newer version of the instance was seen."""
        with self._changed:
            self._vmi = vmi
            self._changed.notify_all()

    def forget(self) -> None:
        """The instance is gone from the API server."""
        self._gone.set()
        with self._changed:
            self._changed.notify_all()
        if self._link is not None:
            self._link.close()

    def _log(self, text: str) -> None:
        self._print(f"{self._name}: {text}")

    def _run(self) -> None:
        for _ in range(_ATTEMPTS):
            try:
                return self._follow()
            except Exception as why:  # noqa: BLE001  one instance must not end the agent; the log has the words
                self._log(f"{type(why).__name__}: {why}")
                self._gone.wait(2)
        self._log(f"given up after {_ATTEMPTS} attempts")

    def _follow(self) -> None:
        domain: dict[str, Any] = {"state": "crashed", "message": "the launcher ended without a word"}
        try:
            pod = active_pod(self._vmi, self._node)
            with LauncherLink.open(self._kubelet, pod, timeout_s=_LAUNCHER_WITHIN_S, stop=self._gone) as link:
                self._link = link
                link.send({"vmi": self._vmi, "volumeModes": self._volume_modes()})
                domain = link.receive()
                if domain["state"] == "running":
                    self._log(f"running, {domain.get('accelerator')}, process {domain.get('pid')}")
                    self._started(domain)
                    domain = link.receive()
                self._log(f"{domain['state']} ({domain.get('how')}) {domain.get('message', '')}")
                self._ended(domain["state"])
                link.send({"ack": True})
        except LauncherGone as why:
            if self._gone.is_set():
                return
            self._log(f"launcher: {why}")
            if "deletionTimestamp" in self._vmi["metadata"]:
                domain = {"state": "shutdown"}  # told to stop before there was a guest
            self._ended(domain["state"])
        if domain["state"] == "crashed":
            self._event("Stopped", f"The guest did not run: {domain.get('message') or domain.get('how')}")

    def _started(self, domain: dict[str, Any]) -> None:
        if self._vmi["status"]["phase"] == "Running":
            return  # the agent was started again while the guest ran on
        self._write(lambda vmi: instance_status.running(vmi, instance_status.timestamp()))
        notes = "; ".join(domain.get("notes") or [])
        accelerator = "KVM" if domain.get("accelerator") == "kvm" else "TCG emulation, no KVM"
        self._event("Started", f"Guest started ({accelerator}).{' Not as the spec says: ' + notes if notes else ''}")

    def _ended(self, state: str) -> None:
        self._write(lambda vmi: instance_status.ended(vmi, state, instance_status.timestamp()))

    def _write(self, make: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Patch the instance; when another was faster, wait for the newer version and patch that."""
        for _ in range(_PATCH_ATTEMPTS):
            vmi = self._vmi
            if self._gone.is_set() or vmi["status"].get("phase") in _FINAL:
                return
            metadata = vmi["metadata"]
            path = path_of("VirtualMachineInstance", metadata["name"], metadata["namespace"])
            try:
                self._kube.merge(path, make(vmi))
            except Refused as why:
                if why.status == 404:
                    return
                if why.status != 409:
                    raise
                self._wait_for_newer(metadata["resourceVersion"])
            except Unreachable as why:
                self._log(str(why))
                self._gone.wait(1)
            else:
                return
        self._log(f"could not write its status in {_PATCH_ATTEMPTS} attempts")

    def _wait_for_newer(self, version: str) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._gone.is_set() or self._vmi["metadata"]["resourceVersion"] != version, _NEWER_WITHIN_S
            )

    def _volume_modes(self) -> dict[str, str]:
        """Mode of each claim: from the instance's status, which has none for ephemeral volumes; those are looked up."""
        known = {
            status["name"]: status["persistentVolumeClaimInfo"].get("volumeMode") or "Filesystem"
            for status in self._vmi["status"].get("volumeStatus") or []
            if status.get("persistentVolumeClaimInfo")
        }
        for volume in self._vmi["spec"].get("volumes") or []:
            name, claim = volume["name"], claim_of(volume)
            if claim and name not in known:
                found = self._kube.get(path_of("PersistentVolumeClaim", claim, self._vmi["metadata"]["namespace"]))
                if found is not None:
                    known[name] = found["spec"].get("volumeMode") or "Filesystem"
        return known

    def _event(self, reason: str, message: str) -> None:
        metadata, now = self._vmi["metadata"], instance_status.timestamp()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachineInstance",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "reason": reason,
            "message": message[:1000],
            "type": "Normal" if reason == "Started" else "Warning",
            "source": {"component": "mtv-lab-node-agent", "host": self._node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._kube.create(f"/api/v1/namespaces/{metadata['namespace']}/events", body)
        except (Refused, Unreachable) as why:
            self._log(f"event: {why}")


def active_pod(vmi: dict[str, Any], node: str) -> str:
    """Uid of the instance's pod on this node, "" if there is none."""
    pods: dict[str, str] = (vmi.get("status") or {}).get("activePods") or {}
    return next((uid for uid, where in pods.items() if where == node), "")


def is_due(vmi: dict[str, Any], node: str) -> bool:
    """Is it this node's turn with the instance?"""
    status = vmi.get("status") or {}
    on_node = status.get("nodeName") == node and status.get("phase") in ("Scheduled", "Running")
    return on_node and bool(active_pod(vmi, node))
