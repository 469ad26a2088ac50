"""Exports that an ESXi host serves: its certificate is told by the lease, over a connection that is trusted."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from mover.control.endpoint import Endpoint
from mover.control.nfc_lease import LeasedDisk
from mover.control.tls import connect
from mtv.model.transfer import VsphereNfc
from tests.mover.vcenter import VCenter, assert_arrived, copy, vcenter_server

WRONG = ":".join(["AA"] * 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenter]:
    with vcenter_server(tmp_path_factory.mktemp("vcenter"), export_host=True) as server:
        yield server


@pytest.fixture
def vcenter(server: VCenter) -> Iterator[VCenter]:
    yield server
    server.faults.clear()


def by_thumbprint(vcenter: VCenter) -> VsphereNfc:
    certificate = ssl.PEM_cert_to_DER_cert((vcenter.secrets / "ca.pem").read_text())
    return msgspec.structs.replace(vcenter.nfc(), thumbprint=hashlib.sha256(certificate).hexdigest())


@pytest.mark.lab
@pytest.mark.parametrize("trust", ["thumbprint", "authority"])
def test_an_export_served_by_a_host_is_read_by_the_thumbprint_that_the_lease_tells(
    vcenter: VCenter, tmp_path: Path, trust: str
) -> None:
    source = by_thumbprint(vcenter) if trust == "thumbprint" else vcenter.nfc()
    assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, source), 1)


@pytest.mark.lab
def test_the_session_of_the_vcenter_is_not_told_to_the_host(
    vcenter: VCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Mapping[str, str]] = []

    def connect_and_note(endpoint: Endpoint) -> HTTPConnection:
        connection = connect(endpoint)
        assert endpoint.port != vcenter.port
        request = connection.request

        def request_and_note(method: str, path: str, *, headers: Mapping[str, str]) -> None:
            sent.append(headers)
            request(method, path, headers=headers)

        monkeypatch.setattr(connection, "request", request_and_note)
        return connection

    monkeypatch.setattr("mover.sources.vsphere_nfc.connect", connect_and_note)
    assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, vcenter.nfc()), 1)
    assert sent == [{}]


@pytest.mark.lab
@pytest.mark.parametrize("told", [WRONG, "", "not a thumbprint"], ids=["another", "none", "nonsense"])
def test_a_host_with_another_certificate_than_the_lease_tells_is_refused(
    vcenter: VCenter, tmp_path: Path, told: str
) -> None:
    vcenter.faults.export_thumbprint(told)
    failure = copy(vcenter, tmp_path, by_thumbprint(vcenter)).result.failure
    assert failure is not None
    assert failure.code == "source-certificate"
    assert not failure.retryable
    assert ("in vCenter" in failure.cure) is bool(told)  # without one, the connection's own trust counts


@pytest.mark.lab
def test_an_insecure_connection_reads_from_any_host(vcenter: VCenter, tmp_path: Path) -> None:
    vcenter.faults.export_thumbprint(WRONG)
    source = msgspec.structs.replace(vcenter.nfc(), insecure=True)
    assert_arrived(vcenter, tmp_path, copy(vcenter, tmp_path, source), 1)


VCENTER = Endpoint(host="vc.example.org", port=443, thumbprint="5a" * 32)


@pytest.mark.parametrize(
    ("url", "told", "trusted"),
    [
        pytest.param("https://esx-1.example.org/nfc/1/disk-0.vmdk", WRONG, WRONG, id="another-host"),
        pytest.param("https://vc.example.org:8443/nfc/1/disk-0.vmdk", WRONG, WRONG, id="another-port"),
        pytest.param("https://esx-1.example.org/nfc/1/disk-0.vmdk", "", VCENTER.thumbprint, id="nothing-told"),
        pytest.param("https://VC.example.org/nfc/1/disk-0.vmdk", WRONG, VCENTER.thumbprint, id="the-vcenter-itself"),
    ],
)
def test_the_thumbprint_of_a_lease_counts_for_other_hosts_only(url: str, told: str, trusted: str) -> None:
    location = LeasedDisk(url, told).location(VCENTER)
    assert location.endpoint.thumbprint == trusted
    assert location.path == "/nfc/1/disk-0.vmdk"


def test_an_insecure_endpoint_pins_nothing() -> None:
    endpoint = Endpoint(host="vc.example.org", port=443, insecure=True)
    location = LeasedDisk("https://esx-1.example.org/nfc/1/disk-0.vmdk", WRONG).location(endpoint)
    assert (location.endpoint.insecure, location.endpoint.thumbprint) == (True, "")
