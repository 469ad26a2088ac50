"""Who the components are: service-account tokens for the API server, certificates for their own servers.

The components get the service accounts and the roles that virt-operator gives them, so that a missing right shows here
as it would in an installation. Their servers' certificates come from an authority that is made anew at each start.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.kubevirt.kube import Kube, path_of
from lab.state import write_secret

_TOKEN_SECONDS = 30 * 24 * 3600  # a lab that runs for longer is started again
_CERTIFICATE_DAYS = 365


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

    Nothing else may be written to the folder: the components watch it and read the files anew at each change.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mtv lab KubeVirt")])
    authority = (
        _builder(subject, subject, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    alternatives = [x509.DNSName(name) for name in (*names, "localhost")]
    certificate = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), subject, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([*alternatives, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = Certificates(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    files.authority.write_bytes(authority.public_bytes(pem))
    files.certificate.write_bytes(certificate.public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(files.key, plain)
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
    )


def _cluster_of(kubeconfig: Path) -> dict[str, str]:
    """The ``cluster`` entry of the current context, with a relative certificate path made absolute."""
    from ruamel.yaml import YAML

    document = YAML(typ="safe", pure=True).load(kubeconfig)
    context = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
    cluster: dict[str, str] = next(c["cluster"] for c in document["clusters"] if c["name"] == context["cluster"])
    if file := cluster.get("certificate-authority"):
        cluster["certificate-authority"] = str((kubeconfig.parent / file).resolve())
    return cluster
