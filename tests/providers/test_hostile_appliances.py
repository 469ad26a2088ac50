"""Appliances made to do harm, or broken on the way: refused with a reason, and the others are read."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtv.model.errors import PermanentError
from mtv.providers.ova.envelope import read_envelope
from mtv.providers.ova.refusal import Refused
from mtv.providers.ova.units import bytes_of
from mtv.providers.ova.xml import parse
from mtv.providers.registry import open_provider

DISK = b"x" * 2048


def refusal(connection, name="bad.ova") -> str:
    with open_provider(connection) as provider:
        assert [vm.name for vm in provider.vms()] == ["good"]
        assert list(provider.refused) == [name]
        return provider.refused[name]


@pytest.fixture(autouse=True)
def _a_good_one_beside_it(tmp_path, make):
    ovf = make.envelope(make.system("good", "disk-file1"))
    make.write_tar(tmp_path / "good.ova", {"good.ovf": ovf, "disk1.vmdk": DISK})


def bad(tmp_path, make, ovf: bytes, **files: bytes) -> None:
    make.write_tar(tmp_path / "bad.ova", {"bad.ovf": ovf, "disk1.vmdk": DISK, **files})


@pytest.mark.parametrize(
    "prolog",
    [
        pytest.param(
            '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>', id="entity-expansion"
        ),
        pytest.param('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', id="external-entity"),
        pytest.param('<!DOCTYPE a SYSTEM "http://127.0.0.1/evil.dtd">', id="external-subset"),
        pytest.param('<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>', id="parameter-entity"),
    ],
)
def test_a_document_type_is_refused(tmp_path, make, ova_connection, prolog):
    ovf = make.envelope(make.system("bad", "disk-file1")).decode()
    bad(tmp_path, make, ovf.replace("<Envelope", f"{prolog}<Envelope", 1).encode())
    assert "document type" in refusal(ova_connection)


def test_too_deep_and_too_large_xml_is_refused():
    with pytest.raises(Refused, match="deep"):
        parse(b"<a>" * 200 + b"</a>" * 200)
    with pytest.raises(Refused, match="larger"):
        parse(b" " * (17 << 20))


def test_broken_xml_is_refused_with_its_place(tmp_path, make, ova_connection):
    bad(tmp_path, make, b"<Envelope>\n<oops")
    assert "line 2" in refusal(ova_connection)


@pytest.mark.parametrize(
    "name", ["../disk1.vmdk", "/etc/passwd", "a/../../b", "C:\\disk.vmdk", "..\\disk.vmdk", "a\nb"]
)
def test_a_member_that_leads_out_is_refused(tmp_path, make, ova_connection, name):
    ovf = make.envelope(make.system("bad", "disk-file1"))
    make.write_tar(tmp_path / "bad.ova", {"bad.ovf": ovf, "disk1.vmdk": DISK, name: DISK})
    assert "leads out" in refusal(ova_connection)


@pytest.mark.parametrize("href", ["../good.ova", "/etc/passwd", "http://127.0.0.1/x:y"])
def test_a_reference_that_leads_out_is_refused(tmp_path, make, ova_connection, href):
    bad(tmp_path, make, make.envelope(make.system("bad", "disk-file1"), files={"file1": f'ovf:href="{href}"'}))
    reason = refusal(ova_connection)
    assert "leads out" in reason or "lacks" in reason


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_the_tar_are_refused(tmp_path, make, ova_connection, kind):
    ovf = make.envelope(make.system("bad", "disk-file1"))
    with tarfile.open(tmp_path / "bad.ova", "w") as tar:
        info = tarfile.TarInfo("bad.ovf")
        info.size = len(ovf)
        tar.addfile(info, io.BytesIO(ovf))
        link = tarfile.TarInfo("disk1.vmdk")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    assert "link" in refusal(ova_connection)


def test_an_ovf_that_is_a_link_to_elsewhere_is_not_looked_at(tmp_path, make, ova_connection):
    (tmp_path / "link.ovf").symlink_to("/etc/passwd")
    with open_provider(ova_connection) as provider:
        assert [vm.name for vm in provider.vms()] == ["good"]
        assert provider.refused == {}


def test_a_disk_beside_an_ovf_that_is_a_link_is_refused(tmp_path, make, ova_connection):
    (tmp_path / "bad.ovf").write_bytes(make.envelope(make.system("bad", "disk-file1")))
    (tmp_path / "disk1.vmdk").symlink_to("/etc/passwd")
    assert "lacks its file" in refusal(ova_connection, "bad.ovf")


def test_a_header_of_absurd_size_is_not_read_into_memory(tmp_path, ova_connection):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    path = tmp_path / "bad.ova"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as file:
        file.truncate(1 << 41)  # sparse: costs nothing
    assert "absurd" in refusal(ova_connection)


def test_a_cut_off_appliance_is_refused(tmp_path, make, ova_connection):
    bad(tmp_path, make, make.envelope(make.system("bad", "disk-file1")))
    path = tmp_path / "bad.ova"
    path.write_bytes(path.read_bytes()[:3000])
    assert refusal(ova_connection)


def test_a_changed_ovf_is_refused_by_its_manifest(tmp_path, make, ova_connection):
    ovf = make.envelope(make.system("bad", "disk-file1"))
    files = {"bad.ovf": ovf + b"<!-- -->", "bad.mf": make.manifest({"bad.ovf": ovf}), "disk1.vmdk": DISK}
    make.write_tar(tmp_path / "bad.ova", files)
    assert "differs from its manifest" in refusal(ova_connection)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": {"file1": 'ovf:href="missing.vmdk"'}}, "lacks"),
        ({"files": {"file1": 'ovf:href="disk1.vmdk" ovf:chunkSize="100"'}}, "lacks the piece disk1.vmdk.000000000"),
        ({"files": {"file1": 'ovf:href="disk1.vmdk" ovf:chunkSize="0"'}}, "size of '0'"),
        ({"files": {"file1": 'ovf:href="disk1.vmdk" ovf:compression="bzip2"'}}, "bzip2"),
        ({"disks": '<Disk ovf:diskId="disk-file1" ovf:capacity="1"/>'}, "no file"),
        ({"disks": '<Disk ovf:diskId="disk-file1" ovf:fileRef="file1" ovf:capacity="${size}"/>'}, "whole number"),
        (
            {"disks": '<Disk ovf:diskId="disk-file1" ovf:fileRef="file1" ovf:capacity="1" ovf:parentRef="d0"/>'},
            "delta",
        ),
        ({"disks": '<Disk ovf:diskId="other" ovf:fileRef="file1" ovf:capacity="1"/>'}, "not in its Disk section"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_reason(tmp_path, make, ova_connection, change, reason):
    bad(tmp_path, make, make.envelope(make.system("bad", "disk-file1"), **change))
    assert reason in refusal(ova_connection)


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "", "1e3", "٣٤٥٦٧"])
def test_odd_numbers_are_refused_or_read_but_never_an_accident(tmp_path, make, ova_connection, number):
    ovf = make.envelope(make.system("bad", "disk-file1")).decode()
    ovf = ovf.replace("<rasd:VirtualQuantity>2<", f"<rasd:VirtualQuantity>{number}<")
    bad(tmp_path, make, ovf.replace("<rasd:AddressOnParent>0<", f"<rasd:AddressOnParent>{number}<").encode())
    assert "number of CPUs" in refusal(ova_connection)


def test_a_wanted_name_that_only_a_refused_appliance_carries_raises_its_reason(tmp_path, ova_connection):
    (tmp_path / "app.ova").write_bytes(b"not a tar at all")
    with open_provider(ova_connection) as provider:
        with pytest.raises(PermanentError, match=r"app\.ova"):
            provider.vms(["app"])
        assert [vm.name for vm in provider.vms(["good", "elsewhere"])] == ["good"]


@pytest.mark.parametrize(
    "unit", ["parsec", "byte * 2^999", "byte * x", "byte * 2^", "byte ** 2", "byte * 10^99 * 10^99"]
)
def test_absurd_units_are_refused(unit):
    with pytest.raises(Refused):
        bytes_of("1", unit, what="it")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(data=st.data())
def test_a_damaged_ovf_is_read_or_refused_but_never_an_accident(make, data):
    good = make.envelope(make.system("vm", "disk-file1"))
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start, min(len(good), start + 60)))
    damaged = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    with contextlib.suppress(Refused):
        read_envelope(parse(damaged))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100)
@given(data=st.data())
def test_a_damaged_tar_is_read_or_refused_but_never_an_accident(tmp_path, make, ova_connection, data):
    good = (tmp_path / "good.ova").read_bytes()
    at = data.draw(st.integers(0, 4096))
    damage = data.draw(st.binary(min_size=1, max_size=64))
    (tmp_path / "bad.ova").write_bytes(good[:at] + damage + good[at + len(damage) :])
    with open_provider(ova_connection) as provider:
        assert "good" in {vm.name for vm in provider.vms()}
