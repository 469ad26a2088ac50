"""The vSphere provider against the lab's vCenter: real SOAP, real sessions, real faults."""

from __future__ import annotations

import hashlib
import re
import ssl

import msgspec
import pytest

from lab.vcenter.audit import read_audit
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.source import Firmware, PowerState, SourceVm
from mtv.model.transfer import VsphereDatastore, VsphereNfc
from mtv.providers.power import Answer
from mtv.providers.registry import open_provider
from mtv.providers.vmware import collect
from mtv.providers.vmware.power import Power
from tests.providers import vsphere_lab

pytestmark = pytest.mark.lab


def test_check_says_what_answered(connect):
    with open_provider(connect()) as provider:
        assert "vCenter" in provider.check()
        assert "not verified" not in provider.check()


def test_a_vm_is_read_whole(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["web-1"])
    assert (vm.provider, vm.name, vm.uuid) == ("vmware", "web-1", "4203a1b2-0000-4000-8000-000000000001")
    assert (vm.cpu_count, vm.cores_per_socket, vm.memory_bytes) == (4, 2, 1 << 30)
    assert (vm.firmware, vm.secure_boot, vm.tpm) == (Firmware.EFI, True, True)
    assert vm.host == "esx-2.lab"
    assert vm.document["path"] == "dc1/prod/web/web-1"
    assert vm.document["datacenter"]["name"] == "dc1"
    assert vm.document["host"]["cluster"]["name"] == "cl-dc1"
    assert vm.document["hostName"] == "web-1.example.test"
    assert [(nic.network, nic.mac, nic.model) for nic in vm.nics] == [
        ("dvpg-app", "00:50:56:aa:00:01", "vmxnet3"),
        ("VM Network", "00:50:56:aa:00:02", "e1000"),
    ]
    assert vm.document["guestNetworks"][0]["ip"] == "10.0.0.11"


def test_disks_are_ordered_by_bus_and_know_their_storage(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["web-1"])
    assert [(disk.index, disk.bus, disk.size_bytes >> 20, disk.storage) for disk in vm.disks] == [
        (0, "sata", 4, "ds-gold"),
        (1, "scsi", 16, "ds-gold"),
        (2, "nvme", 8, "ds-silver"),
    ]
    assert len({disk.identity for disk in vm.disks}) == 3


def test_every_vm_can_be_kept_as_json(connect):
    with open_provider(connect()) as provider:
        vms = provider.vms()
    assert msgspec.convert(msgspec.to_builtins(vms), list[SourceVm]) == vms
    assert msgspec.json.decode(msgspec.json.encode(vms), type=list[SourceVm]) == vms


def test_the_whole_inventory_takes_more_than_one_page(connect):
    with open_provider(connect()) as provider:
        vms = provider.vms()
    assert sum(vm.name.startswith("load-") for vm in vms) == 130
    assert {vm.name for vm in vms if vm.is_template} == {"template-1"}
    (far,) = (vm for vm in vms if vm.name == "far-1")
    assert far.document["datacenter"]["name"] == "dc2"
    assert any(disk.shared for vm in vms if vm.name == "shared-1" for disk in vm.disks)


def test_a_named_reading_equals_the_whole_one(connect):
    with open_provider(connect()) as provider:
        (alone,) = provider.vms(["off-1"])
        (among,) = (vm for vm in provider.vms() if vm.name == "off-1")
    assert alone == among


def test_unknown_names_are_absent_and_no_names_give_no_vms(connect):
    with open_provider(connect()) as provider:
        assert [vm.name for vm in provider.vms(["off-1", "no-such-vm"])] == ["off-1"]
        assert provider.vms([]) == []


def test_two_vms_of_one_name_both_come_and_are_told_apart_by_their_paths(connect):
    with open_provider(connect()) as provider:
        found = provider.vms(["twice", "off-1"])
    assert [vm.document["path"] for vm in found] == ["dc1/prod/off-1", "dc1/prod/twice", "dc1/prod/web/twice"]
    assert len({vm.id for vm in found}) == 3


def test_a_wrong_password_is_one_clear_sentence_without_the_password(connect):
    with pytest.raises(ConnectionRefused) as caught, open_provider(connect(password="canary-wrong-7")):
        pass
    text = str(caught.value)
    assert "vcenter-dc1" in text
    assert "127.0.0.1" in text
    assert "canary" not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_certificate_of_an_unknown_authority_is_refused(connect):
    with pytest.raises(ConnectionRefused, match="not trusted"), open_provider(connect(extra={})):
        pass


def test_a_pinned_certificate_is_accepted_and_another_is_refused(connect, vcenter):
    pem = ssl.get_server_certificate(("127.0.0.1", vcenter["port"]))
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    with open_provider(connect(extra={"thumbprint": pin.upper()})) as provider:
        assert provider.vms(["off-1"])
    other = "0" * 64
    with pytest.raises(ConnectionRefused, match="not the pinned"), open_provider(connect(extra={"thumbprint": other})):
        pass


def test_insecure_is_only_taken_when_said_and_is_visible(connect):
    with open_provider(connect(extra={"insecure": True})) as provider:
        assert "TLS not verified" in provider.check()
    with (
        pytest.raises(PermanentError, match="insecure is 'no'"),
        open_provider(connect(extra={"insecure": "no"})),
    ):
        pass


def test_a_host_that_does_not_answer_is_worth_a_retry(connect):
    with pytest.raises(TemporaryError), open_provider(connect(port=1)):
        pass


def test_a_guest_with_tools_is_shut_down_and_powered_on_again(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        assert provider.power_state(vm) is PowerState.OFF
        assert provider.power_off(vm, timeout_s=30) == "already off"
        provider.power_on(vm)
        provider.power_on(vm)
        assert provider.power_state(vm) is PowerState.ON


def test_a_vm_is_known_by_its_vcenter_and_its_id_whatever_its_name(connect):
    with open_provider(connect()) as provider, open_provider(connect(login=vsphere_lab.READER)) as again:
        (vm,) = provider.vms(["power-1"])
        about = provider.session.open().content.about
        assert provider.identity(vm) == f"vsphere:{about.instanceUuid}/{vm.id}"
        assert again.identity(msgspec.structs.replace(vm, name="renamed")) == provider.identity(vm)


def test_a_vm_of_a_standalone_host_is_known_by_the_hosts_hardware_else_by_its_address(connect, monkeypatch):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        provider.session.open().content.about.instanceUuid = None
        address = f"{provider.session.host}:{provider.session.port}"
        assert provider.identity(vm) == f"vsphere:{address}/{vm.id}"
        monkeypatch.setattr(collect, "_STANDALONE", vm.document["host"]["id"])
        assert re.fullmatch(rf"vsphere:[0-9a-f-]{{36}}/{vm.id}", provider.identity(vm))


@pytest.mark.parametrize("known", ["instance UUID", "BIOS UUID"])
def test_an_id_that_leads_to_another_vm_than_the_one_that_was_read_is_never_powered(connect, known):
    """As when a connection leads to another vCenter by now: morefs are numbers, and every vCenter has a vm-42."""
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        elsewhere = "4203a1b2-0000-4000-8000-0000000000ff"
        other = msgspec.structs.replace(vm, uuid=elsewhere, document={**vm.document, "instanceUuid": ""})
        if known == "instance UUID":
            other = msgspec.structs.replace(vm, document={**vm.document, "instanceUuid": elsewhere})
        for act in (
            lambda: provider.power_state(other),
            lambda: provider.power_off(other, timeout_s=5),
            lambda: provider.power_on(other),
        ):
            with pytest.raises(PermanentError, match="is another VM than power-1") as refused:
                act()
            assert refused.value.code == "OtherVm"
        assert provider.power_state(vm) is PowerState.ON


@pytest.mark.parametrize("fault", ["InvalidState", "ToolsUnavailable"])
def test_a_guest_that_cannot_be_asked_for_a_moment_is_asked_again(connect, faults, fault):
    faults.soap("ShutdownGuest", fault, on="power-1", count=1)
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        provider.power_on(vm)


def _tools_say(monkeypatch, *statuses):
    """The next readings of the tools' status say these, the later ones the last of them."""
    left, read = list(statuses), Power._read

    def told(self, vm_id, name, paths):
        found = read(self, vm_id, name, paths)
        if "guest.toolsRunningStatus" in paths:
            found["guest.toolsRunningStatus"] = left.pop(0) if len(left) > 1 else left[0]
        return found

    monkeypatch.setattr(Power, "_read", told)


def test_a_guest_whose_tools_are_just_starting_is_asked_when_they_run(connect, monkeypatch):
    _tools_say(monkeypatch, "guestToolsExecutingScripts", "guestToolsRunning")
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        provider.power_on(vm)


def test_a_guest_without_tools_is_powered_off_at_once(connect, monkeypatch):
    _tools_say(monkeypatch, "guestToolsNotRunning", "guestToolsRunning")  # the second would be asked
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30) == "power off"
        provider.power_on(vm)


def test_a_guest_that_was_asked_before_may_go_down_though_its_tools_have_ended(connect, monkeypatch):
    _tools_say(monkeypatch, "guestToolsNotRunning")
    pauses = []
    with open_provider(connect()) as provider, open_provider(connect()) as other:
        (vm,) = provider.vms(["power-1"])

        def goes_down(_seconds):
            monkeypatch.setattr("mtv.providers.power.time.sleep", lambda _: None)
            pauses.append(provider.power_state(vm))
            other.power._cut(vm.id, vm.name)

        monkeypatch.setattr("mtv.providers.power.time.sleep", goes_down)
        assert provider.power_off(vm, timeout_s=30, asked_before=True) == "guest shutdown"
        assert pauses == [PowerState.ON]
        provider.power_on(vm)


def test_a_guest_that_was_asked_before_and_stays_up_is_asked_again_when_its_tools_run(connect, monkeypatch):
    _tools_say(monkeypatch, "guestToolsNotRunning", "guestToolsRunning")
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30, asked_before=True) == "guest shutdown"
        provider.power_on(vm)


def test_a_guest_that_was_asked_before_and_hangs_is_powered_off_after_the_timeout(connect, monkeypatch):
    _tools_say(monkeypatch, "guestToolsNotRunning")
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=0.1, asked_before=True) == "power off"
        provider.power_on(vm)


def test_a_guest_that_cannot_be_asked_until_the_timeout_is_powered_off(connect, faults):
    faults.soap("ShutdownGuest", "ToolsUnavailable", on="power-2", count=0)
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-2"])
        assert provider.power_off(vm, timeout_s=0.1) == "power off"
        assert provider.power_state(vm) is PowerState.OFF


def test_a_guest_that_does_not_go_down_is_powered_off_after_the_timeout(connect, monkeypatch):
    monkeypatch.setattr(Power, "_ask_guest", lambda *_: Answer.TAKEN)  # a guest that says yes and does nothing
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-3"])
        assert provider.power_off(vm, timeout_s=0.1) == "power off"
        assert provider.power_state(vm) is PowerState.OFF


def test_a_failing_power_off_says_what_failed(connect, faults):
    faults.soap("ShutdownGuest", "ToolsUnavailable", on="power-4", count=0)
    faults.soap("PowerOffVM_Task", "ResourceInUse", on="power-4", count=0)
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["power-4"])
        with pytest.raises(TemporaryError, match="power off power-4"):
            provider.power_off(vm, timeout_s=0.1)
        assert provider.power_state(vm) is PowerState.ON


def test_a_missing_privilege_is_named(connect):
    with open_provider(connect(login=vsphere_lab.READER)) as provider:
        (vm,) = provider.vms(["power-5"])
        with pytest.raises(ConnectionRefused, match=r"VirtualMachine\.Interact\.PowerOff"):
            provider.power_off(vm, timeout_s=30)


def test_an_expired_session_is_renewed_in_every_call(connect, faults):
    with open_provider(connect()) as provider:
        faults.expire_sessions()
        (vm,) = provider.vms(["expiry-1"])
        faults.expire_sessions()
        assert provider.power_state(vm) is PowerState.ON
        faults.expire_sessions()
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        faults.expire_sessions()
        provider.power_on(vm)
        assert provider.power_state(vm) is PowerState.ON


def test_a_session_that_expires_at_once_is_not_renewed_for_ever(connect, faults):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["off-1"])
        faults.soap("RetrievePropertiesEx", "NotAuthenticated", count=0)
        with pytest.raises(TemporaryError, match="session ended"):
            provider.power_state(vm)


def test_a_flat_disk_is_read_from_the_datastore_and_by_nfc_on_demand(connect, vcenter):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["off-1"])
        disk = vm.disks[0]
        assert provider.disk_source(vm, disk) == VsphereDatastore(
            host="127.0.0.1",
            port=vcenter["port"],
            datacenter="dc1",
            datastore="ds-gold",
            path="off-1/off-1-flat.vmdk",
            vm=vm.id,
            disk_key=int(disk.id),
        )
        nfc = provider.disk_source(vm, disk, transport="nfc")
    assert isinstance(nfc, VsphereNfc)
    assert (nfc.vm, nfc.disk_key) == (vm.id, int(disk.id))


def test_a_disk_with_a_snapshot_is_read_by_nfc(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["snapshot-1"])
        assert isinstance(provider.disk_source(vm, vm.disks[0]), VsphereNfc)
        with pytest.raises(PermanentError, match="snapshot"):
            provider.disk_source(vm, vm.disks[0], transport="datastore")


def test_a_physical_rdm_cannot_be_read(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["rdm-1"])
        with pytest.raises(PermanentError, match="physical mode"):
            provider.disk_source(vm, vm.disks[1])


def test_a_running_vm_has_no_disk_to_read(connect):
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["web-1"])
        with pytest.raises(PermanentError, match="while it is off"):
            provider.disk_source(vm, vm.disks[0])


def test_nothing_but_power_is_ever_changed_on_the_source(connect, vcenter):
    before = len(read_audit(vcenter["audit"]))
    with open_provider(connect()) as provider:
        provider.check()
        provider.vms()
        (vm,) = provider.vms(["off-1"])
        provider.disk_source(vm, vm.disks[0])
    assert len(read_audit(vcenter["audit"])) == before
    with open_provider(connect()) as provider:
        (vm,) = provider.vms(["audit-1"])
        provider.power_off(vm, timeout_s=30)
        provider.power_on(vm)
    # doomed-1 is what a test deletes, as an administrator would; events are what tests post in vCenter's place.
    changes = [change for change in read_audit(vcenter["audit"]) if change.name != "doomed-1"]
    methods = {change.method for change in changes} - {"PostEvent"}
    assert {"ShutdownGuest", "PowerOnVM_Task"} <= methods <= {"ShutdownGuest", "PowerOnVM_Task", "PowerOffVM_Task"}


def test_pods_get_user_password_and_authority(connect):
    files = open_provider(connect()).pod_credentials()
    assert sorted(files) == ["ca.pem", "password", "user"]
    assert files["ca.pem"].startswith("-----BEGIN CERTIFICATE")
