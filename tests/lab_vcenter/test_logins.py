"""Who may log in, what without a session, and what a lack of privileges looks like."""

from __future__ import annotations

import http.client
import ssl
import time

import pytest
from pyVmomi import vim

from tests.lab_vcenter.lab_vcenter_kit import ADMIN, READER, Center, collect, finish, vm_of


def test_the_right_password_opens_a_session(instance: vim.ServiceInstance) -> None:
    assert set(collect(instance, [])) == {"web", "db"}


@pytest.mark.parametrize(("user", "password"), [(ADMIN, "wrong"), (ADMIN, ""), ("nobody", "x")])
def test_anything_else_is_refused(center: Center, user: str, password: str) -> None:
    with pytest.raises(vim.fault.InvalidLogin):
        center.connect(user, password)


def test_without_a_session_nothing_can_be_read(center: Center) -> None:
    content = vim.ServiceInstance("ServiceInstance", center.stub()).RetrieveContent()
    with pytest.raises(vim.fault.NotAuthenticated):
        content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = content.rootFolder.name


def test_the_certificate_is_known_only_through_its_file(center: Center) -> None:
    strangers = http.client.HTTPSConnection("127.0.0.1", center.port, context=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        strangers.connect()
    assert center.http("GET", "/about", {})


def test_a_missing_privilege_is_named(center: Center) -> None:
    vm = vm_of(center.connect(READER), "web")
    with pytest.raises(vim.fault.NoPermission) as refused:
        vm.CreateSnapshot_Task("s", "", False, False)
    assert refused.value.privilegeId == "VirtualMachine.State.CreateSnapshot"
    with pytest.raises(vim.fault.NoPermission) as refused:
        vm.ExportVm()
    assert refused.value.privilegeId == "VApp.Export"


def test_sessions_can_be_ended_from_outside(center: Center, instance: vim.ServiceInstance) -> None:
    center.faults.expire_sessions()
    with pytest.raises(vim.fault.NotAuthenticated):
        collect(instance, [])
    assert set(collect(center.connect(), [])) == {"web", "db"}


def test_an_idle_session_ends_and_a_used_one_does_not(center: Center) -> None:
    idle, used = center.connect(), center.connect()
    center.faults.session_idle(2000)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        used.CurrentTime()
        time.sleep(0.1)
    with pytest.raises(vim.fault.NotAuthenticated):
        idle.CurrentTime()
    assert used.CurrentTime()


def test_a_fault_hits_its_method_and_object_as_often_as_told(center: Center, instance: vim.ServiceInstance) -> None:
    web, db = vm_of(instance, "web"), vm_of(instance, "db")
    center.faults.soap("CreateSnapshot_Task", "ResourceInUse", on="web", count=2)
    finish(db.CreateSnapshot_Task("s", "", False, False))
    for _ in range(2):
        with pytest.raises(vim.fault.ResourceInUse):
            web.CreateSnapshot_Task("s", "", False, False)
    finish(web.CreateSnapshot_Task("s", "", False, False))
