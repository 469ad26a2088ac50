"""Which processes the cluster consists of, and with which options: pure, no process is started here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster.pki import KeyPair

NODE = "localhost"
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
"""First address of the range: the API server's own service, named in its certificate."""
API_READY_TIMEOUT_S = 90.0

_CONTROLLERS = (
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "job-controller",
    "cronjob-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-attach-detach-controller",
    "pod-garbage-collector-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
    "ephemeral-volume-controller",
    "resourcequota-controller",
    "disruption-controller",
    "clusterrole-aggregation-controller",
)
"""A list, as the default service account exists 3 s sooner with it, and nothing else is needed here."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    api: int
    etcd_client: int
    etcd_peer: int
    kubelet: int


@dataclass(frozen=True)
class Certificates:
    """Who is who in the cluster."""

    authority: Path
    authority_key: Path
    server: KeyPair
    admin: KeyPair
    kubelet: KeyPair
    front_proxy: KeyPair
    service_accounts: KeyPair


@dataclass(frozen=True)
class Layout:
    """Where everything of one cluster is."""

    folder: Path
    binary: Path
    ports: Ports
    certificates: Certificates
    kubeconfigs: dict[str, Path]
    """By component: kcm, scheduler, kubelet, provisioner."""
    memory_cgroup: Path | None

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def kubelet_folder(self) -> Path:
        """The kubelet's root folder, with the pods' volumes."""
        return self.folder / "kubelet"

    @property
    def volumes(self) -> Path:
        """Where the provisioner keeps the claims' volumes."""
        return self.folder / "volumes"

    @property
    def socket(self) -> Path:
        """The container runtime's socket."""
        return self.folder / "cri.sock"

    def log(self, name: str) -> Path:
        """Log of one component."""
        return self.folder / "log" / f"{name}.log"


def launch_plan(layout: Layout, images: Path) -> dict[str, Any]:
    """What `labkube launch` reads: the processes in their order, and what the first must do before they start."""
    certificates = layout.certificates
    ready = {
        "url": f"{layout.server}/readyz",
        "ca": str(certificates.authority),
        "cert": str(certificates.admin.certificate),
        "key": str(certificates.admin.key),
        "timeout_s": API_READY_TIMEOUT_S,
    }
    processes = {
        "etcd": etcd(layout),
        "runtime": runtime(layout, images),
        "apiserver": apiserver(layout),
        "controller-manager": controller_manager(layout),
        "scheduler": scheduler(layout),
        "provisioner": provisioner(layout),
        "kubelet": kubelet(layout),
    }
    return {
        "folder": str(layout.folder),
        "kubelet": str(layout.kubelet_folder),
        "scratch": str(layout.folder / "scratch"),
        "processes": [
            {
                "name": name,
                "argv": argv,
                "env": [],
                "log": str(layout.log(name)),
                "ready": ready if name == "apiserver" else None,
            }
            for name, argv in processes.items()
        ],
    }


def etcd(layout: Layout) -> list[str]:
    """The database. Without fsync: a lab does not outlive a crash of the machine."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (layout.ports.etcd_client, layout.ports.etcd_peer))
    return [
        str(layout.binary),
        "etcd",
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(layout: Layout) -> list[str]:
    """The API server, with everything that aggregated APIs (KubeVirt's subresources) need."""
    certificates = layout.certificates
    return [
        str(layout.binary),
        "apiserver",
        f"--etcd-servers=http://127.0.0.1:{layout.ports.etcd_client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=192.0.2.1",  # never used, but 127.0.0.1 is refused
        f"--secure-port={layout.ports.api}",
        f"--cert-dir={layout.folder / 'etcd'}",
        f"--tls-cert-file={certificates.server.certificate}",
        f"--tls-private-key-file={certificates.server.key}",
        f"--client-ca-file={certificates.authority}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates.service_accounts.certificate}",
        f"--service-account-signing-key-file={certificates.service_accounts.key}",
        f"--kubelet-client-certificate={certificates.admin.certificate}",
        f"--kubelet-client-key={certificates.admin.key}",
        f"--kubelet-certificate-authority={certificates.authority}",
        "--kubelet-preferred-address-types=Hostname",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--requestheader-client-ca-file={certificates.authority}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificates.front_proxy.certificate}",
        f"--proxy-client-key-file={certificates.front_proxy.key}",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ]


def controller_manager(layout: Layout) -> list[str]:
    """The controllers that the lab needs."""
    certificates = layout.certificates
    return [
        str(layout.binary),
        "controller-manager",
        f"--kubeconfig={layout.kubeconfigs['kcm']}",
        f"--service-account-private-key-file={certificates.service_accounts.key}",
        f"--root-ca-file={certificates.authority}",
        f"--cluster-signing-cert-file={certificates.authority}",
        f"--cluster-signing-key-file={certificates.authority_key}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        f"--controllers={','.join(_CONTROLLERS)}",
        "--pvclaimbinder-sync-period=1s",  # 15 s otherwise, and a joint apply of claim and VM waits for it
        f"--flex-volume-plugin-dir={layout.folder / 'plugins'}",
        "--profiling=false",
    ]


def scheduler(layout: Layout) -> list[str]:
    """The scheduler."""
    return [
        str(layout.binary),
        "scheduler",
        f"--kubeconfig={layout.kubeconfigs['scheduler']}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--profiling=false",
    ]


def runtime(layout: Layout, images: Path) -> list[str]:
    """Our container runtime."""
    argv = [
        str(layout.binary),
        "runtime",
        f"--socket={layout.socket}",
        f"--images={images}",
        f"--scratch={layout.folder / 'scratch'}",
    ]
    if layout.memory_cgroup:
        argv.append(f"--memory-cgroup={layout.memory_cgroup}")
    return argv


def provisioner(layout: Layout) -> list[str]:
    """Our volume provisioner."""
    return [
        str(layout.binary),
        "provisioner",
        f"--kubeconfig={layout.kubeconfigs['provisioner']}",
        f"--data={layout.volumes}",
        f"--node={NODE}",
    ]


def kubelet(layout: Layout) -> list[str]:
    """The kubelet, in a mount namespace where three sysctls are plain files: it would set the machine's."""
    binary = str(layout.binary)
    return [
        *("unshare", "--mount", "--propagation", "unchanged", "--"),
        *(binary, "shield", str(layout.folder / "sysctls")),
        *(binary, "kubelet"),
        f"--config={layout.folder / 'kubelet.json'}",
        f"--kubeconfig={layout.kubeconfigs['kubelet']}",
        f"--hostname-override={NODE}",
        f"--root-dir={layout.kubelet_folder}",
        f"--cert-dir={layout.folder / 'kubelet'}",
        "--register-node=true",
        "--v=1",
    ]


def kubelet_config(layout: Layout) -> dict[str, Any]:
    """The kubelet's configuration file."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": layout.ports.kubelet,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(layout.certificates.authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},  # only certificates of the lab's authority get this far
        # Without QoS cgroups, resize code of the kubelet meets pods that it has no record of, and panics.
        "featureGates": {"KubeletInUserNamespace": True, "InPlacePodVerticalScaling": False},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "makeIPTablesUtilChains": False,
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "10s",
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "localStorageCapacityIsolation": True,  # or the node offers no ephemeral storage, which KubeVirt's pods ask for
        "podLogsDir": str(layout.folder / "log" / "pods"),
        "volumePluginDir": str(layout.folder / "plugins"),
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "tlsCertFile": str(layout.certificates.kubelet.certificate),
        "tlsPrivateKeyFile": str(layout.certificates.kubelet.key),
    }
