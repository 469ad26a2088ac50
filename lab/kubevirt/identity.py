"""Who the components are: service-account tokens for the API server, certificates for their own servers.

The components get the service accounts and the roles that virt-operator gives them, so that a missing right shows here
as it would in an installation. Their servers' certificates come from an authority that is made anew at each start.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.cluster.pki import Authority
from lab.kubevirt.kube import Kube, path_of
from lab.state import write_secret

_TOKEN_SECONDS = 30 * 24 * 3600  # a lab that runs for longer is started again


@dataclass(frozen=True)
class Certificates:
    """Files of the serving certificate and of the authority that signed it."""

    authority: Path
    certificate: Path
    key: Path


def write_kubeconfig(kube: Kube, admin: Path, *, namespace: str, account: str, target: Path) -> Path:
    """A kubeconfig (0600) that is the service account, for the cluster of the ``admin`` kubeconfig."""
    request = {"spec": {"expirationSeconds": _TOKEN_SECONDS}}
    answer = kube.create(f"{path_of('ServiceAccount', account, namespace)}/token", request)
    cluster = _cluster_of(admin)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": account}}],
        "users": [{"name": account, "user": {"token": answer["status"]["token"]}}],
    }
    return write_secret(target, json.dumps(document))  # JSON is YAML too


def make_certificates(folder: Path, names: tuple[str, ...]) -> Certificates:
    """A new authority and a serving certificate for these DNS names, localhost and 127.0.0.1.

    Nothing else may be in the folder: the components watch it and read the files anew at each change. The authority's
    key is gone when this returns: nothing more will be signed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    files = Certificates(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    with tempfile.TemporaryDirectory() as own:
        authority = Authority.create(Path(own))
        issued = authority.issue("tls", common_name=names[0], hosts=(*names, "localhost", "127.0.0.1"))
        files.authority.write_bytes(authority.certificate.read_bytes())
        files.certificate.write_bytes(issued.certificate.read_bytes())
        write_secret(files.key, issued.key.read_bytes())
    return files


def _cluster_of(kubeconfig: Path) -> dict[str, str]:
    """The ``cluster`` entry of the current context, with a relative certificate path made absolute."""
    from ruamel.yaml import YAML

    document = YAML(typ="safe", pure=True).load(kubeconfig)
    context = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
    cluster: dict[str, str] = next(c["cluster"] for c in document["clusters"] if c["name"] == context["cluster"])
    if file := cluster.get("certificate-authority"):
        cluster["certificate-authority"] = str((kubeconfig.parent / file).resolve())
    return cluster
