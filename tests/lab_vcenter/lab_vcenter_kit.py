"""A small vCenter for tests and a client of it that reads with the PropertyCollector only."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyVmomi import SoapStubAdapter, vim, vmodl

from lab.state import write_secret
from lab.vcenter.audit import Change, read_audit
from lab.vcenter.faults import Faults

ADMIN, READER = "administrator@vsphere.local", "reader@vsphere.local"
PASSWORDS = {ADMIN: "admin secret", READER: "reader secret"}
MIB = 1 << 20


def fill(path: Path, size: int, parts: list[tuple[int, int]]) -> None:
    """A sparse disk with random-looking bytes at (offset, length)."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in parts:
            file.seek(offset)
            file.write(hashlib.shake_256(f"{path.name}{offset}".encode()).digest(length))


class HttpRefused(Exception):
    """An HTTP request was answered with an error status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status


@dataclass
class Center:
    """A running vCenter and its clients."""

    folder: Path
    port: int
    stubs: list[SoapStubAdapter] = field(default_factory=list)

    @property
    def endpoints(self) -> dict[str, Any]:
        return {"lab_url": f"https://127.0.0.1:{self.port}/lab", "ca_file": str(self.folder / "ca.pem")}

    @property
    def faults(self) -> Faults:
        return Faults(self.endpoints)

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def disk(self, name: str) -> Path:
        return self.folder / f"{name}.raw"

    def audit(self) -> list[Change]:
        return read_audit(self.folder / "audit.jsonl")

    def stub(self) -> SoapStubAdapter:
        """A connection without a session."""
        found = SoapStubAdapter(
            host="127.0.0.1", port=self.port, sslContext=self.tls, version="vim.version.v8_0_3_0", poolSize=1
        )
        self.stubs.append(found)
        return found

    def connect(self, user: str = ADMIN, password: str | None = None) -> vim.ServiceInstance:
        """Log in."""
        instance = vim.ServiceInstance("ServiceInstance", self.stub())
        manager = instance.RetrieveContent().sessionManager
        manager.Login(user, PASSWORDS[user] if password is None else password)
        return instance

    def close(self) -> None:
        """Close all connections."""
        for stub in self.stubs:
            stub.DropConnections()

    def get(self, url: str, *, user: str = "", cookie: str = "", byte_range: str = "") -> bytes:
        """GET a path of the server, or a whole URL."""
        headers = {}
        if user:
            token = b64encode(f"{user}:{PASSWORDS.get(user, 'wrong')}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        if cookie:
            headers["Cookie"] = cookie
        if byte_range:
            headers["Range"] = f"bytes={byte_range}"
        return self.http("GET", url.removeprefix(f"https://127.0.0.1:{self.port}"), headers)

    def http(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
        """One request; HttpRefused for an error status."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.tls)
        with closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            with closing(answer):
                content = answer.read()
                if answer.status >= 400:
                    raise HttpRefused(answer.status)
                return content


def collect(instance: vim.ServiceInstance, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Properties of all VMs by name; `obj` is the VM itself."""
    content = instance.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    query = vmodl.query.PropertyCollector
    walk = query.TraversalSpec(name="walk", path="view", skip=False, type=vim.view.ContainerView)
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["name", *paths])],
    )
    found = content.propertyCollector.RetrievePropertiesEx([spec], query.RetrieveOptions())
    view.Destroy()
    rows = [{prop.name: prop.val for prop in row.propSet} | {"obj": row.obj} for row in found.objects]
    return {row["name"]: row for row in rows}


def read(managed: Any, path: str) -> Any:
    """One property of one object, freshly read."""
    query = vmodl.query.PropertyCollector
    collector = vim.ServiceInstance("ServiceInstance", managed._stub).RetrieveContent().propertyCollector
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=managed, skip=False)],
        propSet=[query.PropertySpec(type=type(managed), pathSet=[path])],
    )
    for row in collector.RetrievePropertiesEx([spec], query.RetrieveOptions()).objects:
        for prop in row.propSet:
            return prop.val
    return None


def until(check: Callable[[], Any], *, timeout_s: float = 300) -> Any:
    """What `check` returns once it is true; fails after the time, which only bounds the wait."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def finish(task: vim.Task) -> Any:
    """Result of a task; raises its fault."""
    info = until(lambda: (now := read(task, "info")).state in ("success", "error") and now)
    if info.state == "error":
        raise info.error
    return info.result


def virtual_disks(devices: list[Any]) -> list[Any]:
    return [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]


def vm_of(instance: vim.ServiceInstance, name: str) -> vim.VirtualMachine:
    return collect(instance, [])[name]["obj"]


def disk_key(vm: vim.VirtualMachine) -> int:
    return int(virtual_disks(read(vm, "config.hardware").device)[0].key)


def snapshot(vm: vim.VirtualMachine, name: str) -> vim.vm.Snapshot:
    return finish(vm.CreateSnapshot_Task(name, "", False, False))


def change_id(snap: vim.vm.Snapshot) -> str:
    return str(virtual_disks(read(snap, "config").hardware.device)[0].backing.changeId)


def opened_lease(lease: vim.HttpNfcLease) -> vim.HttpNfcLease.Info:
    """What an export offers, once it is ready."""
    until(lambda: read(lease, "state") != "initializing")
    assert read(lease, "state") == "ready"
    return read(lease, "info")


def small_inventory(folder: Path) -> dict[str, Any]:
    """web (on, change tracking) and db (off), 16 MiB each."""
    fill(folder / "web.raw", 16 * MIB, [(0, MIB), (4 * MIB, 2 * MIB), (15 * MIB, 4096)])
    fill(folder / "db.raw", 16 * MIB, [(MIB, MIB)])
    users = []
    for user, lacks in (
        (ADMIN, []),
        (READER, ["VirtualMachine.State.CreateSnapshot", "VApp.Export", "Datastore.Browse"]),
    ):
        secret = write_secret(folder / f"password-{user.partition('@')[0]}", PASSWORDS[user])
        users.append({"Name": user, "PasswordFile": str(secret), "Deny": lacks})
    (folder / "scratch").mkdir()
    site = {"Name": "dc1", "Datastores": ["ds1"], "Clusters": [{"Name": "cl1", "Hosts": ["esx-1"]}]}
    web = {"Name": "web", "PowerOn": True, "CBT": True, "Disks": [{"File": str(folder / "web.raw")}]}
    db = {"Name": "db", "CBT": True, "Disks": [{"File": str(folder / "db.raw")}]}
    return {"Users": users, "Datacenters": [site], "VMs": [web, db], "Scratch": str(folder / "scratch")}
