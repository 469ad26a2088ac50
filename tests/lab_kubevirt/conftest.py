from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.guests.image import GuestImage, guest_image
from lab.guests.spec import GuestSpec
from lab.kubevirt.kube import Kube, Refused, path_of
from lab.kubevirt.launcher_image import IMAGE
from lab.process import wait_until

BOOT_MARKER = "MTV-BOOT-OK"


@pytest.fixture(scope="session")
def cluster(lab: Any) -> dict[str, Any]:
    """Endpoints of the lab's cluster, with KubeVirt up on it."""
    assert lab.endpoints("kubevirt")["version"]
    endpoints: dict[str, Any] = lab.endpoints("cluster")
    return endpoints


@pytest.fixture(scope="session")
def kube(cluster: dict[str, Any]) -> Kube:
    return Kube(Path(cluster["kubeconfig"]))


@pytest.fixture(scope="session")
def converted_guest() -> GuestImage:
    """A tiny Linux whose first initramfs has virtio drivers, as after a conversion."""
    return guest_image(GuestSpec(hostname="converted", root_mb=128, payload_mb=2, virtio=True))


@pytest.fixture(scope="session")
def no_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk without an operating system."""
    disk = tmp_path_factory.mktemp("no-system") / "no-system.raw"
    disk.write_bytes(b"\x5a" * (1 << 20))
    disk.parent.chmod(0o755)
    return disk


class Target:
    """A namespace of its own on the lab's cluster, with what the tests do there."""

    def __init__(self, kube: Kube, namespace: str, classes: dict[str, str | None]) -> None:
        self.kube = kube
        self.namespace = namespace
        self.classes = classes

    def path(self, kind: str, name: str = "") -> str:
        return path_of(kind, name, self.namespace)

    def claim(self, name: str, source: Path, *, mode: str = "Filesystem", size: str = "256Mi") -> str:
        """A claim that holds the raw image `source`, written by a pod as the mover would."""
        storage_class = self.classes["block" if mode == "Block" else "filesystem"]
        self.kube.create(
            self.path("PersistentVolumeClaim"),
            {
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": storage_class,
                    "volumeMode": mode,
                    "resources": {"requests": {"storage": size}},
                },
            },
        )
        if mode == "Block":
            script = f"cp --sparse=always /source/{source.name} /dev/disk"
        else:
            script = f"cp --sparse=always /source/{source.name} /disk/disk.img && chown -R 107:107 /disk"
        self.run_pod(f"fill-{name}", script, claims={name: mode}, source=source.parent)
        return name

    def run_pod(self, name: str, script: str, *, claims: dict[str, str], source: Path | None = None) -> str:
        """Run a shell script with claims at /disk (or /dev/disk), wait for its end and give its log."""
        container: dict[str, Any] = {
            "name": "main",
            "image": IMAGE,
            "command": ["/bin/sh", "-ec", script],
            "securityContext": {"runAsUser": 0},
            "volumeMounts": [],
            "volumeDevices": [],
        }
        volumes: list[dict[str, Any]] = []
        for claim, mode in claims.items():
            volumes.append({"name": claim, "persistentVolumeClaim": {"claimName": claim}})
            if mode == "Block":
                container["volumeDevices"].append({"name": claim, "devicePath": "/dev/disk"})
            else:
                container["volumeMounts"].append({"name": claim, "mountPath": "/disk"})
        if source is not None:
            volumes.append({"name": "source", "hostPath": {"path": str(source)}})
            container["volumeMounts"].append({"name": "source", "mountPath": "/source", "readOnly": True})
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
        self.kube.create(self.path("Pod"), {"metadata": {"name": name}, "spec": spec})
        phase = self.wait(lambda: self._ended_pod(name), what=f"pod {name}", timeout_s=300)
        log = self.kube.text(f"{self.path('Pod', name)}/log")
        assert phase == "Succeeded", log
        self.kube.delete(self.path("Pod", name), grace_s=1)
        return log

    def checksum(self, claim: str, *, mode: str = "Filesystem") -> str:
        place = "/dev/disk" if mode == "Block" else "/disk/disk.img"
        return self.run_pod(f"sum-{uuid.uuid4().hex[:6]}", f"sha256sum {place}", claims={claim: mode})

    @staticmethod
    def volume(claim: str) -> dict[str, Any]:
        return {"persistentVolumeClaim": {"claimName": claim}}

    @staticmethod
    def throw_away(claim: str) -> dict[str, Any]:
        """Copy on write: what the guest writes ends with the pod."""
        return {"ephemeral": {"persistentVolumeClaim": {"claimName": claim}}}

    def create_instance(self, name: str, **wishes: Any) -> dict[str, Any]:
        """An instance without a VM: it runs once, and is gone when it is deleted."""
        manifest = {"metadata": {"name": name}, "spec": instance_spec(**wishes)}
        manifest |= {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance"}
        return self.kube.create(self.path("VirtualMachineInstance"), manifest)

    def create_vm(self, name: str, **wishes: Any) -> dict[str, Any]:
        return self.kube.create(self.path("VirtualMachine"), vm_manifest(name, **wishes))

    def vm_status(self, name: str) -> str:
        vm = self.kube.get(self.path("VirtualMachine", name)) or {}
        return str(vm.get("status", {}).get("printableStatus", ""))

    def instance(self, name: str) -> dict[str, Any]:
        return self.kube.get(self.path("VirtualMachineInstance", name)) or {}

    def phase(self, name: str) -> str:
        return str(self.instance(name).get("status", {}).get("phase", ""))

    def launcher_pods(self, name: str) -> list[dict[str, Any]]:
        query = f"?labelSelector=vm.kubevirt.io%2Fname%3D{name}"
        return (self.kube.get(self.path("Pod") + query) or {}).get("items", [])

    def log(self, name: str, container: str) -> str:
        """Log of the present instance's pod, "" while there is none: an older pod may still be ending beside it."""
        active = self.instance(name).get("status", {}).get("activePods", {})
        pods = [pod for pod in self.launcher_pods(name) if pod["metadata"]["uid"] in active]
        if not pods:
            return ""
        try:
            return self.kube.text(f"{self.path('Pod', pods[0]['metadata']['name'])}/log?container={container}")
        except Refused as why:
            if why.status in (400, 404):  # the container is still being made, or gone
                return ""
            raise

    def console(self, name: str) -> str:
        return self.log(name, "guest-console-log")

    def wait_for_boot(self, name: str, *, timeout_s: float = 300) -> str:
        return self.wait(
            lambda: text if BOOT_MARKER in (text := self.console(name)) else "",
            what=f"{BOOT_MARKER} on the console of {name}",
            timeout_s=timeout_s,
        )

    def wait(self, check: Callable[[], Any], *, what: str, timeout_s: float = 300) -> Any:
        return wait_until(check, timeout_s=timeout_s, what=what, interval_s=0.3)

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the namespace."""
        return list((self.kube.get(self.path("Pod")) or {}).get("items", []))

    def end_guests(self) -> None:
        """Delete VMs and instances, and do not wait for guests that have been looked at."""
        for kind in ("VirtualMachine", "VirtualMachineInstance"):
            self.kube.delete(self.path(kind))
        for pod in self.pods():
            self.kube.delete(self.path("Pod", pod["metadata"]["name"]), grace_s=1)

    def subresource(self, name: str, verb: str) -> None:
        """start, stop or restart a VM through the aggregator and the real virt-api."""
        self.kube.put(
            f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachines/{name}/{verb}", {}
        )

    def _ended_pod(self, name: str) -> str:
        phase = str((self.kube.get(self.path("Pod", name)) or {}).get("status", {}).get("phase", ""))
        return phase if phase in ("Succeeded", "Failed") else ""


@pytest.fixture
def target(kube: Kube, cluster: dict[str, Any]) -> Iterator[Target]:
    """A fresh namespace, deleted with all that is in it."""
    namespace = f"kv-{uuid.uuid4().hex[:8]}"
    kube.create(path_of("Namespace"), {"metadata": {"name": namespace}})
    # Pods are refused until the namespace has its default service account.
    wait_until(lambda: kube.get(path_of("ServiceAccount", "default", namespace)), timeout_s=300, what="service account")
    target = Target(kube, namespace, cluster["classes"])
    yield target
    target.end_guests()
    # Until no guest runs any more. The namespace itself goes about 10 s later, and nobody meets it again.
    wait_until(lambda: not target.pods(), timeout_s=300, what=f"the pods of {namespace} to go", interval_s=0.3)
    kube.delete(path_of("Namespace", namespace))


def vm_manifest(
    name: str,
    *,
    volumes: dict[str, dict[str, Any]],
    run_strategy: str = "Always",
    **wishes: Any,
) -> dict[str, Any]:
    """A VM; its wishes are those of `instance_spec`."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "runStrategy": run_strategy,
            "template": {"spec": instance_spec(volumes=volumes, **wishes)},
        },
    }


def instance_spec(
    *,
    volumes: dict[str, dict[str, Any]],
    bus: str = "virtio",
    domain: dict[str, Any] | None = None,
    interface: dict[str, Any] | None = None,
    grace_s: int = 20,
) -> dict[str, Any]:
    """One disk per volume (name to volume source), all on one bus, and one masqueraded interface."""
    nic = {"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:01", **(interface or {})}
    return {
        "terminationGracePeriodSeconds": grace_s,
        "domain": {
            "cpu": {"sockets": 1, "cores": 1, "threads": 1},
            "memory": {"guest": "256Mi"},
            "devices": {
                "disks": [{"name": volume, "disk": {"bus": bus}} for volume in volumes],
                "interfaces": [nic],
                "rng": {},
            },
            **(domain or {}),
        },
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": volume, **source} for volume, source in volumes.items()],
    }
