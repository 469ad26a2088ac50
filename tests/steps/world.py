"""A source and a target in memory that break loudly when source and target run at once.

An addition to the tests on real parts, for what those cannot do: thousands of orders of steps, faults and clears.
The mover is played as its rules say: a copy resumes when its journal is of the same generation, a conversion that its
journal calls committed is not done again. A guest writes to its disks. A disk's content is a text, so that what is
resumed wrongly shows.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgspec

from mtv.kubevirt import labels
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import (
    API_GROUPS,
    CLAIMS,
    INSTANCES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    VIRTUAL_MACHINES,
    Kind,
)
from mtv.model.connection import Connection
from mtv.model.conversion import ConvertResult, ConvertSpec, Inspection, PreflightResult
from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.model.transfer import DiskResult, DiskSource, NbdUri, Proof, TransferResult, TransferSpec, Verify

CONSOLE = "MTV-PAYLOAD 00 /srv/a\nMTV-BOOT-OK web-1 disk-driver=virtio_blk\nweb-1 login: "


_BOOTED = " and what a guest wrote"


class BothOn(AssertionError):
    """Source and target ran at the same time."""


class World:
    """One source VM and one target cluster. `faults` are numbers of calls that fail."""

    def __init__(self, vm: SourceVm) -> None:
        self.vm = vm
        self.generation = 1
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.content: dict[str, str] = {}
        self.copied: dict[str, int] = {}  # work claim uid → generation of its copy journal
        self.committed: dict[str, bool] = {}
        self.is_raw = False  # guests are not converted
        self.console = CONSOLE
        self.agent = ""  # the status of the condition AgentConnected of a guest that runs; none when empty
        self.looked = PreflightResult(ok=True, inspection=Inspection(product="Debian 12"))
        self.looking: list[dict[str, Any]] = []  # pods that looked into the disks
        self.cut_off_shutdown = False
        self.going_down = False
        self.is_gone = False  # the VM is unregistered from the source
        self.meanwhile: Callable[[], None] | None = None  # what others do during the next shutdown
        self.refusal: PermanentError | None = None  # what the target's admission says of every machine
        self.installation = "vc-1"  # what answers at every connection to the source
        self.faults: set[int] = set()
        self.calls = 0
        self.log: list[str] = []
        self._uids = itertools.count(1)
        for name in ("fs", "block"):
            self._put(STORAGE_CLASSES, {"metadata": {"name": name}})
        self._put(API_GROUPS, {"metadata": {"name": "kubevirt.io"}})
        self._put(NAMESPACES, {"metadata": {"name": "kube-system"}})
        self._put(NODES, {"metadata": {"name": "n1"}, "status": {"allocatable": {}}})

    def finish_going_down(self) -> None:
        """Time passes: a guest that was asked to shut down is off."""
        if self.going_down:
            self.going_down = False
            self.power(PowerState.OFF)

    def called(self, what: str) -> None:
        """Count a call to the outside; fail it if asked to, before it does anything."""
        self.calls += 1
        if self.calls in self.faults:
            self.log.append(f"FAULT {what}")
            raise TemporaryError(f"fault in {what}")
        self.log.append(what)

    def source_now(self) -> SourceVm:
        disks = tuple(msgspec.structs.replace(disk, generation=str(self.generation)) for disk in self.vm.disks)
        return msgspec.structs.replace(self.vm, disks=disks)

    def power(self, state: PowerState) -> None:
        self.vm = msgspec.structs.replace(self.vm, power=state)
        if state is PowerState.ON:
            self.generation += 1
        self.check()

    def check(self) -> None:
        """What must hold after every single call."""
        running = [i for i in self.all(INSTANCES) if i["metadata"]["labels"][labels.ROLE] == "target"]
        if running and self.vm.power is PowerState.ON:
            raise BothOn("\n".join(self.log[-30:]))
        if self.vm.power is PowerState.ON:
            for claim in self.all(CLAIMS):
                notes = claim["metadata"].get("annotations") or {}
                current = notes.get(labels.GENERATION) == str(self.generation)
                assert not (notes.get(labels.DIGEST) and current and labels.STALE not in notes), "proven while it runs"

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        return [body for (plural, _, _), body in sorted(self.objects.items()) if plural == kind.plural]

    def _put(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        metadata = body["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        metadata.setdefault("labels", {})
        metadata["resourceVersion"] = f"{next(self._uids)}"
        self.objects[(kind.plural, metadata.get("namespace", ""), metadata["name"])] = body
        return body

    def put(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        made = self._put(kind, copy.deepcopy(body))
        if kind is NAMESPACES:
            self._put(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": made["metadata"]["name"]}})
        if kind is VIRTUAL_MACHINES:
            self._reconcile(made)
        if kind is INSTANCES:
            self._launch(made)
        if kind is PODS and made["metadata"]["labels"].get(labels.ROLE) == "inspect":
            assert self.vm.power is PowerState.OFF
            message = msgspec.json.encode(self.looked).decode()
            made["status"] = {
                "phase": "Succeeded" if self.looked.ok else "Failed",
                "containerStatuses": [{"state": {"terminated": {"message": message}}}],
            }
            self.looking.append(made)
        self.check()
        return made

    def drop(self, kind: Kind, name: str, namespace: str) -> None:
        body = self.objects.pop((kind.plural, namespace, name), None)
        if body is None:
            return
        if kind is VIRTUAL_MACHINES:
            self.drop(INSTANCES, name, namespace)
            for claim in self.all(CLAIMS):  # the garbage collector
                if body["metadata"]["uid"] in {o["uid"] for o in claim["metadata"].get("ownerReferences", ())}:
                    self.drop(CLAIMS, claim["metadata"]["name"], namespace)
        if kind is INSTANCES:
            self.objects.pop((PODS.plural, namespace, f"virt-launcher-{name}"), None)
        if kind is CLAIMS:
            self.content.pop(name, None)

    def changed(self, kind: Kind, body: dict[str, Any]) -> None:
        if kind is VIRTUAL_MACHINES:
            self._reconcile(body)
        self.check()

    def _reconcile(self, machine: dict[str, Any]) -> None:
        metadata, template = machine["metadata"], machine["spec"]["template"]
        key = (INSTANCES.plural, metadata["namespace"], metadata["name"])
        if machine["spec"]["runStrategy"] == "Halted":
            self.drop(INSTANCES, metadata["name"], metadata["namespace"])
        elif key not in self.objects:
            instance = {
                "metadata": {
                    **{k: metadata[k] for k in ("name", "namespace")},
                    "labels": template["metadata"]["labels"],
                },
                "spec": template["spec"],
            }
            self._launch(self._put(INSTANCES, copy.deepcopy(instance)))

    def _launch(self, instance: dict[str, Any]) -> None:
        """A guest boots: its disks must hold a copy of the source as it is, once copied, once converted where it is."""
        wanted = f"copy of {self.generation}"
        wanted = wanted if self.is_raw else f"converted({wanted})"
        for volume in instance["spec"]["volumes"]:
            claim = (volume.get("persistentVolumeClaim") or volume["ephemeral"]["persistentVolumeClaim"])["claimName"]
            before, booted, _ = self.content.get(claim, "").partition(_BOOTED)
            assert before == wanted, (claim, self.content, self.log[-40:])
            if not booted and "persistentVolumeClaim" in volume:
                self.content[claim] += _BOOTED
        if self.agent:
            instance["status"] = {"conditions": [{"type": "AgentConnected", "status": self.agent}]}
        metadata = instance["metadata"]
        pod = {
            "metadata": {
                "name": f"virt-launcher-{metadata['name']}",
                "namespace": metadata["namespace"],
                "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": metadata["uid"]},
                "annotations": {"kubevirt.io/domain": metadata["name"]},
            },
            "status": {"phase": "Running"},
        }
        self._put(PODS, pod)

    def run_pod(self, request: PodRequest, *, fails: bool = False) -> str:
        """Do what the mover does and return the termination message."""
        work = self.objects[(CLAIMS.plural, request.namespace, _work(request))]["metadata"]["uid"]
        spec = json.loads(request.secret_files["spec.json"])
        if request.pod["spec"]["containers"][0]["args"][0] == "transfer":
            return self._transfer(request, msgspec.convert(spec, TransferSpec), work, fails=fails)
        return self._convert(request, msgspec.convert(spec, ConvertSpec), work, fails=fails)

    def _transfer(self, request: PodRequest, spec: TransferSpec, work: str, *, fails: bool) -> str:
        assert self.vm.power is PowerState.OFF
        for disk in spec.disks:
            claim = _claim(request, disk.target.path)
            if self.copied.get(work) != int(disk.generation):
                self.content[claim] = f"copy of {disk.generation}"
            self.content.setdefault(claim, f"copy of {disk.generation}")
        self.copied[work] = int(spec.disks[0].generation)
        if fails:
            return '{"ok": false, "failure": {"code": "source-read", "message": "cannot read", "retryable": true}}'
        disks = tuple(
            DiskResult(
                id=disk.id,
                size_bytes=disk.size_bytes,
                digest="d" * 64,
                proof=Proof.AS_READ if spec.verify is Verify.FULL else Proof.NONE,
                verify=spec.verify,
                reread=spec.verify_source,
            )
            for disk in spec.disks
        )
        return msgspec.json.encode(TransferResult(ok=True, disks=disks)).decode()

    def _convert(self, request: PodRequest, spec: ConvertSpec, work: str, *, fails: bool) -> str:
        if fails:
            return '{"ok": false, "untouched": true, "failure": {"code": "no-space", "message": "guest root full"}}'
        if not self.committed.get(work):
            for disk in spec.disks:
                claim = _claim(request, disk.path)
                self.content[claim] = f"converted({self.content[claim]})"
            self.committed[work] = True
        digests = {disk.id: "e" * 64 for disk in spec.disks}
        return msgspec.json.encode(ConvertResult(ok=True, digests=digests, accelerator="tcg")).decode()


class MemoryCluster(Cluster):
    """The target, in memory."""

    def __init__(self, world: World, connection: Connection) -> None:
        self.connection = connection
        self._world = world

    def close(self) -> None: ...

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        self._world.called(f"get {kind.plural}/{name}")
        return copy.deepcopy(self._world.objects.get((kind.plural, namespace, name)))

    def exists(self, kind: Kind, name: str, namespace: str = "") -> bool:
        self._world.called(f"look for {kind.plural}/{name}")
        return (kind.plural, namespace, name) in self._world.objects

    def _list(
        self, kind: Kind, namespace: str, having: Mapping[str, str] | None, *, accept: str
    ) -> list[dict[str, Any]]:
        self._world.called(f"list {kind.plural}")
        return [
            copy.deepcopy(body)
            for (plural, where, _), body in sorted(self._world.objects.items())
            if (plural, where) == (kind.plural, namespace)
            and (having or {}).items() <= body["metadata"]["labels"].items()
        ]

    def create(self, kind: Kind, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        metadata = body["metadata"]
        self._world.called(f"{'try to ' if dry_run else ''}create {kind.plural}/{metadata['name']}")
        if kind is VIRTUAL_MACHINES and self._world.refusal is not None:
            raise self._world.refusal
        if (kind.plural, metadata.get("namespace", ""), metadata["name"]) in self._world.objects:
            raise Conflict(f"{metadata['name']} exists")
        if dry_run:
            return copy.deepcopy(dict(body))
        return copy.deepcopy(self._world.put(kind, dict(body)))

    def merge(self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        self._world.called(f"patch {kind.plural}/{name} {json.dumps(patch)}")
        body = self._world.objects[(kind.plural, namespace, name)]
        self._refuse_changed(body, patch.get("metadata", {}).get("resourceVersion"))
        before = copy.deepcopy(body)
        _merge(body, patch)
        if body != before:
            self._world._put(kind, body)
        self._world.changed(kind, body)
        return copy.deepcopy(body)

    def _refuse_changed(self, body: Mapping[str, Any], version: str | None) -> None:
        if version and version != body["metadata"]["resourceVersion"]:
            raise TemporaryError(f"{body['metadata']['name']} has changed", code="conflict")

    def delete(self, kind: Kind, name: str, namespace: str, *, grace_s: int | None = None, version: str = "") -> None:
        self._world.called(f"delete {kind.plural}/{name}")
        if (kind.plural, namespace, name) in self._world.objects:
            self._refuse_changed(self._world.objects[(kind.plural, namespace, name)], version)
        self._world.drop(kind, name, namespace)

    def pod_log(self, name: str, namespace: str, container: str, *, limit_bytes: int = 0) -> str:
        self._world.called(f"log {name}")
        return self._world.console

    def wait(self, check: Callable[[], Any], *, timeout_s: float, what: str, interval_s: float = 0.0) -> Any:
        for _ in range(3):  # in memory nothing needs time
            try:
                found = check()
            except TemporaryError:
                continue
            if found:
                return found
        raise TemporaryError(f"waited in vain for {what}", code="wait-timeout")


class MemoryProvider:
    """The source, in memory."""

    def __init__(self, world: World, connection: Connection) -> None:
        self.connection = connection
        self._world = world

    def __enter__(self) -> Self:
        self._world.called("log in to the source")
        return self

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> str:
        return "memory"

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        self._world.called("read the source")
        if self._world.is_gone:
            return []
        now = self._world.source_now()
        return [now] if names is None or now.name in names else []

    def _require(self, vm: SourceVm) -> None:
        if self._world.is_gone or vm.id != self._world.vm.id:
            raise PermanentError(f"{vm.name} ({vm.id}) no longer exists", code="ObjectGone")

    def identity(self, vm: SourceVm) -> str:
        return f"vsphere:{self._world.installation}/{vm.id}"

    def power_state(self, vm: SourceVm) -> PowerState:
        self._world.called("read the source's power")
        self._require(vm)
        return self._world.vm.power

    def power_off(self, vm: SourceVm, *, timeout_s: float, asked_before: bool = False) -> str:
        self._world.called("power the source off")
        if self._world.going_down:
            assert asked_before, "its tools have ended: it would be powered off while it goes down"
        meanwhile, self._world.meanwhile = self._world.meanwhile, None
        if meanwhile:
            meanwhile()
        if self._world.cut_off_shutdown:
            self._world.cut_off_shutdown = False
            self._world.going_down = True
            raise TemporaryError("cut off after the guest was asked")
        self._world.going_down = False
        self._world.power(PowerState.OFF)
        return "guest shutdown"

    def power_on(self, vm: SourceVm) -> None:
        self._world.called("power the source on")
        self._require(vm)
        self._world.power(PowerState.ON)

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        return NbdUri(uri=f"nbd://localhost/{disk.id}")

    def pod_credentials(self) -> Mapping[str, str]:
        return {"password": "canary"}


def _merge(body: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, Mapping):
            _merge(body.setdefault(key, {}), value)
        else:
            body[key] = copy.deepcopy(value)


def _volumes(request: PodRequest) -> dict[str, str]:
    return {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in request.pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }


def _work(request: PodRequest) -> str:
    return _volumes(request)["work"]


def _claim(request: PodRequest, path: str) -> str:
    index = path.removeprefix("/dev/mtv-disk-").removeprefix("/disks/").removesuffix("/disk.img")
    return _volumes(request)[f"disk-{index}"]
