"""Datastore files and exports: content, ranges, logins, and downloads that go wrong on demand."""

from __future__ import annotations

import http.client
import subprocess
from pathlib import Path

import pytest
from pyVmomi import vim

from tests.lab_vcenter.lab_vcenter_kit import (
    ADMIN,
    MIB,
    READER,
    Center,
    HttpRefused,
    finish,
    opened_lease,
    read,
    snapshot,
    until,
    vm_of,
)

FLAT = "/folder/web/web-flat.vmdk?dcPath=dc1&dsName=ds1"


def raw_of(center: Center, url: str, folder: Path) -> bytes:
    (folder / "export.vmdk").write_bytes(center.get(url))
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", str(folder / "export.vmdk"), str(folder / "export.raw")], check=True
    )
    return (folder / "export.raw").read_bytes()


def test_a_flat_file_is_the_disk(center: Center) -> None:
    assert center.get(FLAT, user=ADMIN) == center.disk("web").read_bytes()


def test_a_session_cookie_opens_ranges(center: Center, instance: vim.ServiceInstance) -> None:
    part = center.get(FLAT, cookie=instance._stub.cookie, byte_range="4194304-4195327")
    assert part == center.disk("web").read_bytes()[4 * MIB : 4 * MIB + 1024]
    center.faults.expire_sessions()
    with pytest.raises(HttpRefused, match="401"):
        center.get(FLAT, cookie=instance._stub.cookie)


@pytest.mark.parametrize(
    ("user", "url", "status"),
    [
        ("", FLAT, 401),
        ("nobody", FLAT, 401),
        (READER, FLAT, 403),
        (ADMIN, FLAT.replace("ds1", "ds9"), 404),
        (ADMIN, "/folder/web/none-flat.vmdk?dcPath=dc1&dsName=ds1", 404),
        (ADMIN, "/folder/%2e%2e/%2e%2e/%2e%2e/inventory.json?dcPath=dc1&dsName=ds1", 404),
    ],
    ids=["no-login", "unknown-user", "no-privilege", "no-datastore", "no-file", "outside"],
)
def test_other_requests_are_refused(center: Center, user: str, url: str, status: int) -> None:
    with pytest.raises(HttpRefused) as refused:
        center.get(url, user=user)
    assert refused.value.status == status


def test_while_there_is_a_snapshot_the_file_stays_as_it_was(center: Center, instance: vim.ServiceInstance) -> None:
    before = center.disk("web").read_bytes()
    snap = snapshot(vm_of(instance, "web"), "s")
    with center.disk("web").open("r+b") as disk:
        disk.write(b"later")
    assert center.get(FLAT, user=ADMIN) == before
    finish(snap.RemoveSnapshot_Task(False))
    assert center.get(FLAT, user=ADMIN)[:5] == b"later"


def test_an_export_of_a_vm_holds_its_disk(center: Center, instance: vim.ServiceInstance, tmp_path: Path) -> None:
    lease = vm_of(instance, "db").ExportVm()
    (device,) = opened_lease(lease).deviceUrl
    assert raw_of(center, device.url, tmp_path) == center.disk("db").read_bytes()
    lease.Progress(100)
    lease.Complete()
    with pytest.raises(HttpRefused, match="404"):
        center.get(device.url)


def test_an_export_of_a_snapshot_holds_that_moment(
    center: Center, instance: vim.ServiceInstance, tmp_path: Path
) -> None:
    before = center.disk("web").read_bytes()
    snap = snapshot(vm_of(instance, "web"), "s")
    with center.disk("web").open("r+b") as disk:
        disk.write(b"later")
    (device,) = opened_lease(snap.ExportSnapshot()).deviceUrl
    assert raw_of(center, device.url, tmp_path) == before


def test_a_running_vm_cannot_be_exported(instance: vim.ServiceInstance) -> None:
    with pytest.raises(vim.fault.InvalidPowerState):
        vm_of(instance, "web").ExportVm()


def test_a_lease_without_progress_ends(center: Center, instance: vim.ServiceInstance) -> None:
    center.faults.lease_timeout(1000)
    lease = vm_of(instance, "db").ExportVm()
    (device,) = opened_lease(lease).deviceUrl
    until(lambda: read(lease, "state") == "error")
    with pytest.raises(HttpRefused, match="404"):
        center.get(device.url)


def test_a_download_can_be_cut(center: Center) -> None:
    center.faults.drop_downloads(after_bytes=5 * MIB)
    with pytest.raises(http.client.IncompleteRead) as cut:
        center.get(FLAT, user=ADMIN)
    assert cut.value.partial == center.disk("web").read_bytes()[: len(cut.value.partial)]
    assert len(cut.value.partial) <= 5 * MIB
    assert center.get(FLAT, user=ADMIN) == center.disk("web").read_bytes()


def test_a_download_can_be_corrupted_in_one_bit(center: Center) -> None:
    center.faults.corrupt_downloads(at_byte=5 * MIB + 3)
    got, real = center.get(FLAT, user=ADMIN), center.disk("web").read_bytes()
    assert [place for place in range(len(real)) if got[place] != real[place]] == [5 * MIB + 3]


def test_downloads_can_be_refused_for_a_while(center: Center) -> None:
    center.faults.refuse_downloads(status=503, count=2)
    for _ in range(2):
        with pytest.raises(HttpRefused, match="503"):
            center.get(FLAT, user=ADMIN)
    assert center.get(FLAT, user=ADMIN)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_datastores_take_no_writes_and_the_audit_tells_of_the_attempt(center: Center, method: str) -> None:
    with pytest.raises(HttpRefused, match="403"):
        center.http(method, FLAT, {}, b"x")
    (change,) = center.audit()
    assert (change.method, change.passed) == (f"{method} /folder/web/web-flat.vmdk", False)
