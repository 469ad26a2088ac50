"""The oVirt provider's sessions with the lab's engine: certificates, logins that end, faults, power, disks."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ovirtsdk4.types import VmStatus

from lab.ovirt.faults import Deed
from lab.ovirt.sample import data_centre
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.model.transfer import OvirtDisk
from mtv.providers.ovirt.session import TRIES
from mtv.providers.registry import open_provider
from mtv.validation import load_rules
from mtv.validation.firing import firings
from tests.providers import ovirt_lab

RULES = Path(__file__).parents[2] / "include" / "validation_rules"


# -- sessions, certificates


def test_a_wrong_password_is_one_clear_sentence_without_the_password(to_ovirt):
    with pytest.raises(ConnectionRefused) as caught, open_provider(to_ovirt(password="canary-wrong-7")):
        pass
    assert "rhv-1" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_certificate_of_an_unknown_authority_is_refused(to_ovirt):
    with pytest.raises(ConnectionRefused, match="not trusted"), open_provider(to_ovirt(extra={})):
        pass


def test_a_pinned_certificate_is_accepted_and_another_is_refused(to_ovirt, ovirt):
    pem = ssl.get_server_certificate(("127.0.0.1", ovirt.port))
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    with open_provider(to_ovirt(extra={"thumbprint": pin})) as provider:
        assert "to copy disks, name the engine's CA" in provider.check()
    with (
        pytest.raises(ConnectionRefused, match="not the pinned"),
        open_provider(to_ovirt(extra={"thumbprint": "0" * 64})),
    ):
        pass


def test_insecure_is_only_taken_when_said_and_is_visible(to_ovirt):
    with open_provider(to_ovirt(extra={"insecure": True})) as provider:
        assert "TLS not verified" in provider.check()
    with (
        pytest.raises(PermanentError, match="insecure is 'no'"),
        open_provider(to_ovirt(extra={"insecure": "no"})),
    ):
        pass


def test_a_host_that_does_not_answer_is_worth_a_retry(to_ovirt):
    with pytest.raises(TemporaryError), open_provider(to_ovirt(port=1)):
        pass


def test_a_session_is_closed_and_leaves_no_login_and_no_file(to_ovirt, ovirt, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_provider(to_ovirt()) as provider:
        provider.check()
        assert len(list(tmp_path.iterdir())) == 1
        before = len(ovirt.logins)
    assert len(ovirt.logins) == before - 1
    assert list(tmp_path.iterdir()) == []


def test_a_login_that_ends_again_and_again_goes_unnoticed(to_ovirt, ovirt, ovirt_inventory):
    ovirt.logins.serves = 2
    with open_provider(to_ovirt()) as provider:
        assert provider.vms(["web-1"]) == [ovirt_inventory["web-1"]]
    assert ovirt.calls["login"] > 3


def test_a_password_that_was_changed_meanwhile_is_refused(to_ovirt, ovirt, monkeypatch):
    with open_provider(to_ovirt()) as provider:
        monkeypatch.setattr(ovirt, "password", "another")
        ovirt.forget_logins()
        with pytest.raises(ConnectionRefused) as caught:
            provider.vms(["web-1"])
        assert "canary" not in str(caught.value)


# -- faults


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["vms", "hosts", "clusters", ""]),
            st.sampled_from([Deed.DROP, Deed.CUT, Deed.EXPIRE, Deed.BUSY, Deed.BREAK]),
        ),
        max_size=4,
        unique_by=lambda fault: fault[0],
    )
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_fails_once_the_inventory_is_the_same(to_ovirt, ovirt, ovirt_inventory, faults):
    ovirt.faults.clear()
    for path, deed in faults:
        # curl itself asks once more where a kept connection was closed
        ovirt.faults.plan(f"^{path}", deed, count=2 if deed is Deed.DROP else 1)
    with open_provider(to_ovirt()) as provider:
        assert provider.vms(["web-1", "odd_1"]) == [ovirt_inventory["web-1"], ovirt_inventory["odd_1"]]


@pytest.mark.parametrize("deed", [Deed.DROP, Deed.CUT, Deed.BUSY])
def test_what_never_comes_back_ends_as_worth_a_retry(to_ovirt, ovirt, deed):
    with open_provider(to_ovirt()) as provider:
        ovirt.faults.plan("^clusters", deed, count=99)
        with pytest.raises(TemporaryError):
            provider.vms()


def test_a_vm_that_is_deleted_between_two_pages_hides_no_other(tmp_path):
    with ovirt_lab.engine(tmp_path, data_centre(load=110)) as engine:
        staying = {vm.name for vm in engine.estate.objects["vms"].values()} - {"asleep-1"}
        engine.faults.plan("^vms$", lambda: None)
        # By the request of the second page its first VM has slipped into the first one.
        engine.faults.plan("^vms$", lambda: engine.delete_vm("asleep-1"))
        with open_provider(ovirt_lab.connection(engine, tmp_path / "pki" / "ca.crt")) as provider:
            seen = {vm.name for vm in provider.vms()}
        assert "asleep-1" not in {vm.name for vm in engine.estate.objects["vms"].values()}
    assert staying <= seen


def test_a_vm_that_is_deleted_while_its_parts_are_read_is_left_out(tmp_path):
    with ovirt_lab.engine(tmp_path, data_centre()) as engine:
        engine.faults.plan("^vms$", Deed.FORBID)  # the page as a whole
        engine.faults.plan("^vms$", lambda: None)  # the bare page
        engine.faults.plan("^vms$", lambda: engine.delete_vm("off-1"))
        with open_provider(ovirt_lab.connection(engine, tmp_path / "pki" / "ca.crt")) as provider:
            assert [vm.name for vm in provider.vms(["off-1", "web-1"])] == ["web-1"]


def test_a_part_that_may_not_be_read_is_reported_and_its_rules_are_silent(to_ovirt, ovirt, ovirt_inventory):
    odd = ovirt_inventory["odd_1"]
    ovirt.faults.forbidden |= {f"vms/{odd.id}/snapshots", "vms/*/watchdogs", "hosts", "vnic_profiles".replace("_", "")}
    with open_provider(to_ovirt()) as provider:
        (seen,) = provider.vms(["odd_1"])
    assert seen.document["unreadable"] == ["hosts", "snapshots", "vnic_profiles", "watchdogs"]
    assert "snapshots" not in seen.document
    assert "watchDogs" not in seen.document
    said = {found.rule.id for found in firings(load_rules(RULES, "ovirt"), [seen.document]) if found.concerns}
    assert "ovirt.ha.enabled" in said
    assert not said & {"ovirt.watchdog.enabled", "ovirt.snapshot.online_memory.detected", "ovirt.nic.qos.detected"}
    assert seen.disks == odd.disks


def test_a_page_that_an_engine_cannot_give_whole_is_read_part_by_part(to_ovirt, ovirt, ovirt_inventory):
    ovirt.faults.plan("^vms$", Deed.BREAK, count=TRIES)
    with open_provider(to_ovirt()) as provider:
        assert provider.vms(["web-1", "odd_1"]) == [ovirt_inventory["web-1"], ovirt_inventory["odd_1"]]


def test_numa_nodes_that_may_not_be_read_are_reported(to_ovirt, ovirt, ovirt_inventory):
    ovirt.faults.forbidden.add("vms/*/numanodes")
    with open_provider(to_ovirt()) as provider:
        (seen,) = provider.vms(["odd_1"])
    assert seen.document["unreadable"] == ["numa_nodes"]
    assert "numaNodeAffinity" not in seen.document


def test_a_user_who_may_see_no_vms_is_told_what_is_missing(to_ovirt, ovirt):
    ovirt.faults.forbidden.add("vms")
    with open_provider(to_ovirt()) as provider, pytest.raises(ConnectionRefused) as caught:
        provider.vms()
    assert "ReadOnlyAdmin" in str(caught.value)


# -- power and disks


def test_a_guest_is_shut_down_and_powered_on_again(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["power-1"])
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        assert provider.power_state(vm) is PowerState.OFF
        assert provider.power_off(vm, timeout_s=30) == "already off"
        (off,) = provider.vms(["power-1"])
        assert off.disks[0].generation != vm.disks[0].generation
        provider.power_on(vm)
        provider.power_on(vm)
        assert provider.power_state(vm) is PowerState.ON
    assert ovirt.calls == {"login": 1, "shutdown": 1, "start": 1}


def test_a_guest_that_does_not_go_down_is_powered_off_after_the_timeout(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["power-2"])
        ovirt.power.deaf.add(vm.id)
        assert provider.power_off(vm, timeout_s=0) == "power off"
        assert provider.power_state(vm) is PowerState.OFF


def test_a_guest_that_cannot_be_asked_for_a_moment_is_asked_again(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["power-1"])
        ovirt.faults.plan("^vms/[^/]+/shutdown$", Deed.CONFLICT, count=2)
        assert provider.power_off(vm, timeout_s=30) == "guest shutdown"
        assert (ovirt.calls["shutdown"], ovirt.calls["stop"]) == (1, 0)
        provider.power_on(vm)


def test_a_guest_that_was_suspended_while_it_could_not_be_asked_is_not_powered_off(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["power-1"])
        running = ovirt.estate.objects["vms"][vm.id]
        ovirt.faults.plan("^vms/[^/]+/shutdown$", Deed.CONFLICT, count=2)
        ovirt.faults.plan("^vms/[^/]+$", lambda: None)  # the first look
        ovirt.faults.plan("^vms/[^/]+$", lambda: setattr(running, "status", VmStatus.SUSPENDED))
        with pytest.raises(PermanentError, match="memory"):
            provider.power_off(vm, timeout_s=30)
        assert ovirt.calls["stop"] == 0
        running.status = VmStatus.UP


def test_a_guest_that_cannot_be_asked_until_the_timeout_is_powered_off(to_ovirt, ovirt, monkeypatch):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["power-3"])
        act = ovirt.power.act
        monkeypatch.setattr(ovirt.power, "act", lambda vm, action: "no" if action == "shutdown" else act(vm, action))
        assert provider.power_off(vm, timeout_s=0.05) == "power off"


def test_a_suspended_vm_is_never_powered_off(to_ovirt, ovirt):
    with open_provider(to_ovirt()) as provider:
        (vm,) = provider.vms(["asleep-1"])
        with pytest.raises(PermanentError, match="memory"):
            provider.power_off(vm, timeout_s=30)
    assert ovirt.calls["stop"] == 0


def test_power_of_a_vm_that_is_gone_says_so(to_ovirt, ovirt_inventory):
    gone = msgspec.structs.replace(ovirt_inventory["off-1"], id="00000000-0000-4000-8000-000000000000")
    with open_provider(to_ovirt()) as provider, pytest.raises(PermanentError, match="no longer exists"):
        provider.power_state(gone)


def test_a_disk_is_handed_out_only_while_its_vm_is_off(to_ovirt, ovirt, ovirt_inventory):
    with open_provider(to_ovirt(extra={**to_ovirt().extra, "use_proxy": True})) as provider:
        off, on, lun = (ovirt_inventory[name] for name in ("off-1", "power-4", "lun-1"))
        assert provider.disk_source(off, off.disks[0]) == OvirtDisk(
            host="127.0.0.1", port=ovirt.port, disk=off.disks[0].id, use_proxy=True
        )
        with pytest.raises(PermanentError, match="while it is off"):
            provider.disk_source(on, on.disks[0])
        with pytest.raises(PermanentError, match="hands out no image"):
            provider.disk_source(lun, lun.disks[0])
        files = provider.pod_credentials()
    assert set(files) == {"user", "password", "ca.pem"}
    assert files["password"] == ovirt_lab.PASSWORD
