"""The part `cluster`: a Kubernetes that comes up in a few seconds and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster import images, machine
from lab.cluster.access import Api, write_kubeconfig
from lab.cluster.binaries import VERSION, binaries
from lab.cluster.components import NODE, SERVICE_ADDRESS, Certificates, Layout, Ports, kubelet_config, launch_plan
from lab.cluster.mover_image import mover_image
from lab.cluster.pki import Authority, KeyPair, service_account_keys
from lab.parts import Part
from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import State, write_secret
from mtv.model.errors import MtvError, PermanentError

CLASSES = {"filesystem": "lab-fs", "block": "lab-block"}
PROVISIONER = "lab.mtv/local"
_START_TIMEOUT_S = 120.0
# Unix sockets have at most 107 bytes; the longest below the folder is kubelet/pod-resources/ and a temporary name.
_LONGEST_FOLDER = 60


class ClusterPart(Part):
    """Start, check and stop the cluster."""

    name = "cluster"
    needs = ()
    real = f"Kubernetes {VERSION}: etcd, kube-apiserver, controller-manager, scheduler, kubelet"
    stand_in = (
        "container runtime (bubblewrap; images are folders; pods share the machine's network; no seccomp, CPU limits,"
        " services or DNS), volume provisioner"
    )

    def build(self) -> None:
        """Build the binary (minutes the first time), the images, and fetch the guest kernel."""
        binaries()
        images.busybox_image()
        images.host_image()
        mover_image()

    def start(self, state: State) -> dict[str, Any]:
        """Start all components and wait until pods can be made."""
        folder = state.folder(self.name)
        if len(str(folder)) > _LONGEST_FOLDER:
            raise PermanentError(
                f"the path {folder} is too long for the cluster's Unix sockets (at most {_LONGEST_FOLDER} characters)",
                cure="give a shorter one: --state DIR, or MTV_LAB_STATE",
            )
        if not machine.is_root() and not machine.has_subordinate_ids():
            raise PermanentError(
                "pods cannot have users of their own here: this user has no subordinate ids",
                cure=machine.SUBORDINATE_CURE,
            )
        for tool in ("bwrap", "unshare", "nsenter", "losetup"):
            if shutil.which(tool) is None:
                raise PermanentError(f"the program {tool} is missing", cure="python3 -m lab apt-line")
        layout = _prepare(folder)
        for name, directory in (
            (images.BUSYBOX, images.busybox_image()),
            (images.HOST, images.host_image()),
            (images.MOVER, mover_image()),
        ):
            images.register(state, name, directory)
        (folder / "kubelet.json").write_text(json.dumps(kubelet_config(layout), indent=2))
        (folder / "launch.json").write_text(json.dumps(launch_plan(layout, images.images_file(state)), indent=2))
        command = [*machine.namespace_command(), str(layout.binary), "launch", str(folder / "launch.json")]
        start_daemon(command, log=layout.log("launch"), pidfile=folder / "cluster.pid", cwd=folder)
        api = Api(layout.server, Authority(folder / "pki"), layout.certificates.admin)
        self._wait(api, folder)
        return {
            "kubeconfig": str(folder / "kubeconfig"),
            "server": layout.server,
            "classes": {**CLASSES, "block": CLASSES["block"] if machine.is_root() else None},
            "images": {
                "mover": images.MOVER,
                "launcher": images.LAUNCHER,
                "busybox": images.BUSYBOX,
                "host": images.HOST,
            },
            "node": NODE,
            "kubelet": str(layout.kubelet_folder),
            "kubectl": str(folder / "kubectl"),
        }

    def _wait(self, api: Api, folder: Path) -> None:
        def give_up() -> str:
            return "" if is_alive(folder / "cluster.pid") else _ending(folder)

        def wait(check: Any, what: str) -> None:
            wait_until(check, timeout_s=_START_TIMEOUT_S, what=what, interval_s=0.1, give_up=give_up)

        wait(api.is_ready, "the API server")
        for name in CLASSES.values():
            api.create("/apis/storage.k8s.io/v1/storageclasses", _storage_class(name))
        wait(lambda: _is_ready(api.get(f"/api/v1/nodes/{NODE}")), "the node")
        # Pods are refused before this one exists, and nodes are ready sooner.
        wait(lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default"), "the default service account")

    def healthy(self, state: State) -> bool:
        """All components run, the API server is ready and the node is Ready."""
        folder = state.dir / self.name
        if not is_alive(folder / "cluster.pid"):
            return False
        pki = folder / "pki"
        api = Api(
            state.endpoints(self.name).get("server", ""), Authority(pki), KeyPair(pki / "admin.crt", pki / "admin.key")
        )
        try:
            return api.is_ready() and _is_ready(api.get(f"/api/v1/nodes/{NODE}"))
        except MtvError:
            return False

    def stop(self, state: State) -> None:
        """End everything and undo what was done to the machine. Only the logs stay."""
        folder = state.dir / self.name
        if not folder.is_dir():
            return
        stop_daemon(folder / "cluster.pid", timeout_s=5)
        machine.detach_loop_devices(folder)
        if (folder / "cgroup").exists():
            machine.remove_memory_cgroup(Path((folder / "cgroup").read_text()))
        for entry in folder.iterdir():
            if entry.name != "log":
                machine.remove_tree(entry)

    def problems(self, state: State) -> list[str]:
        """Which component ended, and what is not enforced here."""
        folder = state.dir / self.name
        if not (folder / "cluster.pid").exists():
            return []
        found = []
        if not is_alive(folder / "cluster.pid"):
            found.append(f"the cluster has ended: {_ending(folder)}")
        if not (folder / "cgroup").exists():
            found.append("memory limits of pods are not enforced: no rights to a memory cgroup")
        if not machine.is_root():
            found.append("no block volumes: loop devices need root")
        return found


def _prepare(folder: Path) -> Layout:
    """Folders, certificates, kubeconfigs, cgroup; PermanentError if something is left of an earlier cluster."""
    for name in ("log", "etcd", "kubelet", "scratch", "volumes", "plugins"):
        (folder / name).mkdir(exist_ok=True)
    shutil.rmtree(folder / "log")
    (folder / "log" / "pods").mkdir(parents=True)
    group = machine.make_memory_cgroup(folder)
    if group:
        (folder / "cgroup").write_text(str(group))
    binary = binaries()
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    server = f"https://127.0.0.1:{ports.api}"
    authority = Authority.create(folder / "pki")
    local = ["localhost", "127.0.0.1"]
    certificates = Certificates(
        authority=authority.certificate,
        authority_key=authority.folder / "ca.key",
        server=authority.issue(
            "apiserver",
            common_name="kube-apiserver",
            hosts=[*local, SERVICE_ADDRESS, "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
        ),
        admin=authority.issue("admin", common_name="mtv-lab-admin", organizations=["system:masters"]),
        kubelet=authority.issue(
            "kubelet", common_name=f"system:node:{NODE}", organizations=["system:nodes"], hosts=local
        ),
        front_proxy=authority.issue("front-proxy", common_name="front-proxy"),
        service_accounts=service_account_keys(authority.folder),
    )
    users = {
        "kcm": authority.issue("kcm", common_name="system:kube-controller-manager"),
        "scheduler": authority.issue("scheduler", common_name="system:kube-scheduler"),
        "provisioner": authority.issue(
            "provisioner", common_name="mtv-lab-provisioner", organizations=["system:masters"]
        ),
        "kubelet": certificates.kubelet,
    }
    kubeconfigs = {
        name: write_kubeconfig(authority.folder / f"{name}.kubeconfig", server=server, authority=authority, user=user)
        for name, user in users.items()
    }
    write_kubeconfig(folder / "kubeconfig", server=server, authority=authority, user=certificates.admin)
    kubectl = f'#!/bin/sh\nexec "{binary}/kubectl" --kubeconfig "{folder}/kubeconfig" "$@"\n'
    write_secret(folder / "kubectl", kubectl).chmod(0o700)
    return Layout(
        folder=folder,
        binary=binary / "labkube",
        ports=ports,
        certificates=certificates,
        kubeconfigs=kubeconfigs,
        memory_cgroup=group,
    )


def _storage_class(name: str) -> dict[str, Any]:
    is_default = name == CLASSES["filesystem"]
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(is_default).lower()},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def _is_ready(node: dict[str, Any] | None) -> bool:
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@dataclass(frozen=True)
class _Ending:
    component: str
    reason: str


def _ending(folder: Path) -> str:
    """Why the cluster ended, with the last words of the component that did."""
    try:
        end = _Ending(**json.loads((folder / "ended.json").read_text()))
    except FileNotFoundError:
        return f"killed from outside, or its first process said: {tail(folder / 'log' / 'launch.log', 2)}"
    last_words = tail(folder / "log" / f"{end.component}.log", 1)
    return f"{end.component} {end.reason}; its log ends: {last_words[:200]}"
