"""Certificates of the lab under the strict rules of RFC 5280, which Python applies by default since 3.13."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.cluster.pki import Authority
from lab.kubevirt.identity import make_certificates


def assert_strict(authority: Path, certificate: Path) -> None:
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority, certificate]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_clusters_certificates_are_strict(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    pair = authority.issue("server", common_name="server", hosts=["127.0.0.1"])
    assert_strict(authority.certificate, pair.certificate)


def test_kubevirts_certificates_are_strict_and_no_other_file_is_beside_them(tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "certificates", ("virt-api.kubevirt.svc",))
    assert_strict(files.authority, files.certificate)
    assert {path.name for path in files.key.parent.iterdir()} == {"ca.crt", "tls.crt", "tls.key"}
