"""The part `kubevirt` of the lab."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.cache import cached
from lab.kubevirt import install
from lab.kubevirt.binary import binary
from lab.kubevirt.identity import Certificates, make_certificates, write_kubeconfig
from lab.kubevirt.install import NAMESPACE, VERSION
from lab.kubevirt.kube import Kube, Refused, Unreachable, path_of
from lab.kubevirt.launcher_image import IMAGE, register_launcher_image
from lab.parts import Part
from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import REPO, State

_START_WITHIN_S = 180.0  # ten seconds as a rule; a machine with twenty busy processes needs its time
_ANSWER_WITHIN_S = 10.0  # slow is not broken: `up` takes down what is broken, with its guests
# Their start-up code makes much garbage: collecting it only near a limit halves the CPU time that a start costs.
_GO_MEMORY = {"GOGC": "off", "GOMEMLIMIT": "300MiB"}
_ACCOUNTS = ("kubevirt-apiserver", "kubevirt-controller", "kubevirt-handler")


class KubeVirtPart(Part):
    """KubeVirt's control plane beside the cluster, and the node agent."""

    name = "kubevirt"
    needs = ("cluster",)
    real = f"KubeVirt {VERSION}: its CRDs, roles, virt-api (admission, subresources) and virt-controller"
    stand_in = "virt-operator, virt-handler (node agent) and virt-launcher (QEMU boots the VMI's spec, no libvirt)"

    def build(self) -> None:
        """Build the binary (two minutes the first time) and print its manifests."""
        manifests()

    def start(self, state: State) -> dict[str, Any]:
        """Install, start, and wait until VMs are admitted, reconciled and can be scheduled."""
        folder, cluster = state.folder(self.name), state.endpoints("cluster")
        admin = Path(cluster["kubeconfig"])
        kube, files = Kube(admin), manifests()
        register_launcher_image(state, folder / "launcher-image")
        install.install_definitions(kube, install.read_lines(files / "crds"), install.read_lines(files / "rbac"))
        certificates = make_certificates(folder / "certificates", (f"virt-api.{NAMESPACE}.svc",))
        install.install_settings(kube, state_class=cluster["classes"]["filesystem"], authority=certificates.authority)
        kube.delete(path_of("Lease", "virt-controller", NAMESPACE))  # of a virt-controller that was killed
        clients = {
            account: write_kubeconfig(
                kube, admin, namespace=NAMESPACE, account=account, target=folder / f"{account}.kubeconfig"
            )
            for account in _ACCOUNTS
        }
        ports = {"api": free_port(), "controller": free_port()}
        (folder / "ports.json").write_text(json.dumps(ports))
        components = _components(folder, clients, certificates, ports, cluster)
        (folder / "components.json").write_text(json.dumps({"components": components}))
        start_daemon(
            [sys.executable, "-m", "lab.kubevirt.supervisor", folder / "components.json"],
            log=folder / "supervisor.log",
            pidfile=folder / "supervisor.pid",
            cwd=REPO,
        )

        def give_up() -> str:
            return "" if is_alive(folder / "supervisor.pid") else tail(folder / "supervisor.log")

        wait_until(
            lambda: _answers(folder, ports["api"], "/healthz"),
            timeout_s=_START_WITHIN_S,
            what="virt-api",
            give_up=give_up,
        )
        install.install_aggregation(kube, port=ports["api"], authority=certificates.authority)
        install.install_admission(
            kube, install.read_lines(files / "webhooks"), port=ports["api"], authority=certificates.authority
        )
        wait_until(
            lambda: _answers(folder, ports["controller"], "/leader", says="true"),
            timeout_s=_START_WITHIN_S,
            what="virt-controller to lead",
            give_up=give_up,
        )
        wait_until(lambda: _is_schedulable(kube), timeout_s=_START_WITHIN_S, what="the node agent", give_up=give_up)
        return {"namespace": NAMESPACE, "version": VERSION}

    def healthy(self, state: State) -> bool:
        """Supervisor alive, virt-api reached by the aggregator, virt-controller leading."""
        folder = state.dir / self.name
        if not is_alive(folder / "supervisor.pid"):
            return False
        try:
            ports = json.loads((folder / "ports.json").read_text())
            kube = Kube(Path(state.endpoints("cluster")["kubeconfig"]), timeout_s=_ANSWER_WITHIN_S)
            return install.is_aggregated(kube) and _answers(folder, ports["controller"], "/leader", says="true")
        except (Unreachable, Refused, FileNotFoundError, KeyError):
            return False

    def stop(self, state: State) -> None:
        """End guests, processes, admission and aggregation. Definitions and VMs stay, as long as the cluster does."""
        folder = state.dir / self.name
        if not folder.is_dir():
            return
        kube = _reachable(state)
        if kube is not None:
            # Running guests would go on without anybody who looks after them.
            for pod in (kube.get(path_of("Pod") + "?labelSelector=kubevirt.io%3Dvirt-launcher") or {}).get("items", []):
                kube.delete(path_of("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"]), grace_s=1)
            install.remove_admission(kube)
        stop_daemon(folder / "supervisor.pid", timeout_s=15)
        for secret in (*folder.glob("*.kubeconfig"), folder / "certificates" / "tls.key"):
            secret.unlink(missing_ok=True)
        shutil.rmtree(folder / "tmp", ignore_errors=True)


def manifests() -> Path:
    """Folder with the binary's manifests (crds, rbac, webhooks), made once: the binary is slow to start."""
    kubevirt = binary()

    def build(folder: Path) -> None:
        for kind in ("crds", "rbac", "webhooks"):
            with (folder / kind).open("w") as out:
                subprocess.run([kubevirt, "manifests", kind], stdout=out, timeout=120, check=True)

    return cached("kubevirt-manifests", sources=[], build=build, extra_key=kubevirt.parent.name)


def _components(
    folder: Path, clients: dict[str, Path], certificates: Certificates, ports: dict[str, int], cluster: dict[str, Any]
) -> list[dict[str, Any]]:
    kubevirt = str(binary())
    certificate, key = str(certificates.certificate), str(certificates.key)
    api = [kubevirt, "virt-api", "--kubeconfig", str(clients["kubevirt-apiserver"]), "--listen", "127.0.0.1"]
    api += ["--port", str(ports["api"]), "--tls-cert-file", certificate, "--tls-key-file", key]
    api += ["--handler-cert-file", certificate, "--handler-key-file", key]
    controller = [kubevirt, "virt-controller", "--kubeconfig", str(clients["kubevirt-controller"])]
    controller += ["--listen", "127.0.0.1", "--port", str(ports["controller"])]
    controller += ["--launcher-image", IMAGE, "--exporter-image", "localhost/no-exporter:1"]
    controller += ["--prom-cert-file", certificate, "--prom-key-file", key]
    agent = [sys.executable, "-m", "lab.kubevirt.node", "--kubeconfig", str(clients["kubevirt-handler"])]
    agent += ["--node", cluster["node"], "--kubelet", cluster["kubelet"]]
    scratch = folder / "tmp"  # virt-api unpacks certificates into a temporary folder and leaves them there
    scratch.mkdir(mode=0o700, exist_ok=True)
    settings = {**_GO_MEMORY, "TMPDIR": str(scratch)}
    return [
        {"name": name, "argv": argv, "log": str(folder / f"{name}.log"), "env": env}
        for name, argv, env in (
            ("virt-api", api, settings),
            ("virt-controller", controller, settings),
            ("node-agent", agent, {}),
        )
    ]


def _answers(folder: Path, port: int, path: str, says: str = "") -> bool:
    """Does the component answer under its certificate, with these words in its body?"""
    try:
        context = ssl.create_default_context(cafile=str(folder / "certificates" / "ca.crt"))
        with urllib.request.urlopen(
            f"https://127.0.0.1:{port}{path}", context=context, timeout=_ANSWER_WITHIN_S
        ) as answer:
            return says in answer.read().decode(errors="replace")
    except urllib.error.HTTPError:
        return not says  # it answers, though not this path
    except (OSError, ValueError):
        return False


def _is_schedulable(kube: Kube) -> bool:
    nodes = (kube.get(path_of("Node")) or {}).get("items", [])
    return any(node["metadata"].get("labels", {}).get("kubevirt.io/schedulable") == "true" for node in nodes)


def _reachable(state: State) -> Kube | None:
    """The cluster, if it is up and answers."""
    try:
        kube = Kube(Path(state.endpoints("cluster")["kubeconfig"]), timeout_s=_ANSWER_WITHIN_S)
        kube.get(path_of("Namespace", "default"))
    except (KeyError, OSError, Refused, Unreachable):
        return None
    return kube
