"""Watches instances and gives each one of this node a follower of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from lab.kubevirt.kube import Kube, Refused, Unreachable, path_of
from lab.kubevirt.node.instance import Instance, is_due

_WATCH_SECONDS = 240
_GONE = 410  # the version to watch from is too old: list anew


class Agent:
    """The node's instances by uid. ``run`` returns when ``stop`` is set."""

    def __init__(self, kube: Kube, kubelet: Path, node: str, log: Callable[[str], None]) -> None:
        self._kube = kube
        self._kubelet = kubelet
        self._node = node
        self._log = log
        self._instances: dict[str, Instance] = {}

    def run(self, stop: Event) -> None:
        """List, watch, and list again when the watch breaks."""
        while not stop.is_set():
            try:
                self._follow(stop)
            except (Refused, Unreachable) as why:
                if not (isinstance(why, Refused) and why.status == _GONE):
                    self._log(f"watch: {why}")
                    stop.wait(1)

    def _follow(self, stop: Event) -> None:
        path = path_of("VirtualMachineInstance")
        found = self._kube.get(path)
        if found is None:
            raise Unreachable("the kind VirtualMachineInstance is not served")
        seen = {vmi["metadata"]["uid"] for vmi in found["items"]}
        for uid in self._instances.keys() - seen:
            self._instances.pop(uid).forget()
        for vmi in found["items"]:
            self.see(vmi)
        version = found["metadata"]["resourceVersion"]
        while not stop.is_set():
            for kind, item in self._kube.watch(path, version, seconds=_WATCH_SECONDS):
                if kind == "ERROR":
                    raise Refused(str(item.get("message")), int(item.get("code") or 0))
                version = item["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self.lose(item)
                elif kind in ("ADDED", "MODIFIED"):
                    self.see(item)
                if stop.is_set():
                    return

    def see(self, vmi: dict[str, Any]) -> None:
        """An instance as it is now."""
        uid = vmi["metadata"]["uid"]
        if uid in self._instances:
            self._instances[uid].update(vmi)
        elif is_due(vmi, self._node):
            self._instances[uid] = Instance(self._kube, self._kubelet, self._node, vmi, self._log)
            self._instances[uid].start()

    def lose(self, vmi: dict[str, Any]) -> None:
        """An instance that is gone."""
        if instance := self._instances.pop(vmi["metadata"]["uid"], None):
            instance.forget()
