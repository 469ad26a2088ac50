"""The OpenStack provider on the lab's real services: inventory, rules, power, and a volume read to the last byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openstack
import pytest

from mtv.inventory import drift, snapshot
from mtv.model.errors import ConnectionRefused, PermanentError
from mtv.model.source import Firmware, PowerState, SourceVm
from mtv.providers.openstack.provider import OpenstackProvider
from mtv.providers.registry import open_provider
from mtv.validation.documents import read_document
from mtv.validation.firing import outcome
from mtv.validation.rules import load_rules
from tests.mover import moving
from tests.openstack.kit import connection, made

pytestmark = pytest.mark.openstack
RULES = Path(__file__).parents[2] / "include" / "validation_rules"


@pytest.fixture(scope="module")
def provider(cloud: dict[str, Any]) -> Iterator[OpenstackProvider]:
    with OpenstackProvider(connection(cloud)) as opened:
        yield opened


@pytest.fixture(scope="module")
def vms(provider: OpenstackProvider) -> dict[str, SourceVm]:
    return {vm.name: vm for vm in provider.vms()}


def test_the_check_says_which_project_and_versions_answered(provider: OpenstackProvider) -> None:
    assert provider.check().startswith("OpenStack, project demo: compute API up to 2.")


def test_a_server_that_boots_from_a_volume_is_read_with_all_that_it_refers_to(
    cloud: dict[str, Any], vms: dict[str, SourceVm]
) -> None:
    vm = vms["db-1"]
    assert (vm.id, vm.power) == (cloud["servers"]["db-1"], PowerState.ON)
    assert (vm.cpu_count, vm.cores_per_socket, vm.memory_bytes) == (2, 1, 256 << 20)
    assert vm.guest_os == "centos 9"
    assert [(disk.id, disk.storage, disk.size_bytes) for disk in vm.disks] == [
        (cloud["volumes"]["db-root"], "gold", 1 << 30),
        (cloud["volumes"]["db-data"], "silver", 1 << 30),
    ]
    assert [nic.network for nic in vm.nics] == ["blue", "red"]
    macs = {entry["OS-EXT-IPS-MAC:mac_addr"] for found in vm.document["addresses"].values() for entry in found}
    assert {nic.mac for nic in vm.nics} == macs
    assert {kind["name"] for kind in vm.document["volumeTypes"]} == {"gold", "silver"}
    assert {subnet["cidr"] for subnet in vm.document["subnets"]} == {"10.9.1.0/24", "10.9.2.0/24"}
    assert vm.document["image"]["id"] == cloud["images"]["guest"]


def test_a_server_that_boots_from_an_image_has_its_root_disk_first(
    cloud: dict[str, Any], vms: dict[str, SourceVm]
) -> None:
    vm = vms["web-1"]
    assert vm.power is PowerState.OFF
    assert [(disk.id, disk.storage, disk.size_bytes) for disk in vm.disks] == [
        ("root", "glance", 1 << 30),
        (cloud["volumes"]["web-data"], "silver", 2 << 30),
    ]
    assert [snapshot["name"] for snapshot in vm.document["snapshots"]] == ["before"]


def test_properties_of_flavor_and_image_become_hardware(vms: dict[str, SourceVm]) -> None:
    vm = vms["odd-1"]
    assert (vm.firmware, vm.secure_boot, vm.tpm) == (Firmware.EFI, True, True)
    assert (vm.cpu_count, vm.cores_per_socket) == (2, 2)
    assert [disk.bus for disk in vm.disks] == ["scsi"]
    assert [nic.model for nic in vm.nics] == ["e1000"]


def test_the_rules_find_in_the_documents_all_that_they_ask_for(vms: dict[str, SourceVm]) -> None:
    rules = load_rules(RULES, "openstack")
    assert not rules.problems
    documents = {}
    for name, vm in vms.items():
        document, errors = read_document(msgspec.json.encode(vm.document), 1)
        assert document is not None
        assert not errors
        documents[name] = document
    told = {
        name: {rule.id: str(outcome(rule, document)) for rule in rules.rules} for name, document in documents.items()
    }
    fired = {name: {rule for rule, how in found.items() if how == "fires"} for name, found in told.items()}
    assert fired["db-1"] == fired["web-1"] == set()
    assert fired["odd-1"] == {
        f"openstack.{concern}"
        for concern in (
            "bios.boot_menu.enabled",
            "cpu.shares.defined",
            "numa_tuning.detected",
            "os.unsupported",
            "secure_boot.detected",
            "watchdog.detected",
        )
    }
    # What nobody can know: properties that this image does not set.
    undefined = {rule for found in told.values() for rule, how in found.items() if how == "undefined"}
    assert undefined <= {
        f"openstack.{concern}"
        for concern in (
            "bios.boot_menu.enabled",
            "disk.unsupported_interface",
            "network.vif_model.unsupported",
            "secure_boot.detected",
            "watchdog.detected",
        )
    }
    assert not [rule for rule, how in told["odd-1"].items() if how == "undefined"]


def test_the_same_inventory_twice_shows_no_drift(provider: OpenstackProvider, vms: dict[str, SourceVm]) -> None:
    again = snapshot(provider, ["odd-1", "nobody"])
    assert again.missing == ("nobody",)
    assert drift(vms["odd-1"], again.vm("odd-1")) == []


def test_of_a_name_that_two_servers_have_both_are_given(
    cloud: dict[str, Any], provider: OpenstackProvider, user: openstack.connection.Connection
) -> None:
    wanted = {"flavor_id": cloud["flavors"]["small"], "image_id": cloud["images"]["guest"], "networks": "none"}
    twins = [user.compute.create_server(name="twice", **wanted) for _ in range(2)]
    try:
        for server in twins:
            user.compute.wait_for_server(server, interval=0.3, wait=120)
        found = snapshot(provider, ["twice", "odd-1"])
        assert sorted(vm.id for vm in found.vms if vm.name == "twice") == sorted(server.id for server in twins)
        assert {vm.name for vm in found.vms} == {"twice", "odd-1"}
        assert found.missing == ()
    finally:
        for server in twins:
            user.compute.delete_server(server, ignore_missing=True)
        for server in twins:
            user.compute.wait_for_delete(server, interval=0.3, wait=120)


def test_a_login_that_fails_says_why_and_not_with_what(cloud: dict[str, Any]) -> None:
    refused = {
        "LoginRefused": connection(cloud, password="canary-Passw0rd"),
        "PlainHttp": connection(cloud, host=cloud["auth_url"].replace("https://", "http://")),
        "CertificateUntrusted": connection(cloud, ca_file=None),
    }
    for code, wrong in refused.items():
        with pytest.raises((ConnectionRefused, PermanentError)) as caught, open_provider(wrong):
            pass
        assert caught.value.code == code
        assert "canary" not in str(caught.value)


def checked(provider: OpenstackProvider) -> str:
    with provider:
        return provider.check()


def test_an_application_credential_is_enough_and_missing_verification_is_told(
    cloud: dict[str, Any], user: openstack.connection.Connection, tmp_path: Path
) -> None:
    credential = user.identity.create_application_credential(user.current_user_id, tmp_path.name)
    try:
        only = {"password": credential.secret, "application_credential_id": credential.id, "login": ""}
        verified = OpenstackProvider(connection(cloud, **only))
        assert checked(verified).startswith("OpenStack, project ")
        files = {"application-credential-id", "application-credential-secret"}
        assert set(verified.pod_credentials()) == {*files, "ca.pem"}
        unverified = OpenstackProvider(connection(cloud, **only, insecure=True, ca_file=None))
        assert checked(unverified).endswith("(TLS not verified)")
        assert set(unverified.pod_credentials()) == files
    finally:
        user.identity.delete_application_credential(user.current_user_id, credential)


def test_a_volume_of_a_running_server_is_not_read(provider: OpenstackProvider, vms: dict[str, SourceVm]) -> None:
    with pytest.raises(PermanentError) as caught:
        provider.disk_source(vms["odd-1"], vms["odd-1"].disks[0])
    assert caught.value.code == "SourceNotOff"


def test_a_root_disk_on_a_compute_host_is_refused_with_a_way_out(
    provider: OpenstackProvider, vms: dict[str, SourceVm]
) -> None:
    with pytest.raises(PermanentError) as caught:
        provider.disk_source(vms["web-1"], vms["web-1"].disks[0])
    assert caught.value.code == "RootDiskUnreadable"
    assert caught.value.cure


def test_a_server_is_stopped_its_volume_read_to_the_last_byte_and_all_is_as_before(
    cloud: dict[str, Any],
    provider: OpenstackProvider,
    user: openstack.connection.Connection,
    tmp_path: Path,
) -> None:
    before = made(user)
    [vm] = provider.vms(["db-1"])
    assert provider.power_off(vm, timeout_s=120) == "power off"
    assert provider.power_off(vm, timeout_s=120) == "already off"
    try:
        [vm] = provider.vms(["db-1"])
        disk = vm.disks[0]
        source = provider.disk_source(vm, disk)
        assert len(made(user) - before) == 1  # the image; snapshot and copy are gone already
        assert provider.disk_source(vm, disk) == source  # a second attempt takes the same image
        for name, content in provider.pod_credentials().items():
            (tmp_path / name).write_text(content)
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(source, disk.size_bytes, tmp_path / "t"))
        ran = moving.run(msgspec.structs.replace(spec, credentials_dir=str(tmp_path)))
        assert ran.result.ok, ran.lines
        guest = Path(cloud["guest"]["path"])
        assert moving.same_bytes(guest, tmp_path / "t", guest.stat().st_size)
        assert (tmp_path / "t").stat().st_size == 1 << 30
        assert provider.release_disks(vm)
        assert made(user) == before
        assert provider.release_disks(vm) == []
    finally:
        provider.release_disks(vm)
        provider.power_on(vm)
    assert provider.power_state(vm) is PowerState.ON
