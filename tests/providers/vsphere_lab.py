"""A vCenter of our own for the tests of its provider, and connections to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.process import stop_daemon
from lab.vcenter.part import start_server
from mtv.model.connection import Connection

ADMINISTRATOR, READER, PASSWORD = "administrator@vsphere.local", "reader@vsphere.local", "canary-pass-1!"


@contextmanager
def vcenter(
    folder: Path, *, datacenters: Sequence[dict[str, Any]], vms: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A vCenter that answers until the block ends: its port, its CA file, the lab's own URL and its audit.

    The reader may do all that the administrator may, but power VMs off.
    """
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    scratch = folder / "scratch"
    scratch.mkdir()
    users = [
        {"Name": ADMINISTRATOR, "PasswordFile": str(password)},
        {"Name": READER, "PasswordFile": str(password), "Deny": ["VirtualMachine.Interact.PowerOff"]},
    ]
    inventory = {"Users": users, "Scratch": str(scratch), "Datacenters": datacenters, "VMs": vms}
    (folder / "inventory.json").write_text(json.dumps(inventory))
    try:
        port = start_server(folder)
        yield {
            "port": port,
            "ca_file": str(folder / "ca.pem"),
            "lab_url": f"https://127.0.0.1:{port}/lab",
            "audit": folder / "audit.jsonl",
        }
    finally:
        stop_daemon(folder / "vcenter.pid")


def datacenter(name: str, **options: Any) -> dict[str, Any]:
    """A data centre with one cluster of one host, one datastore and the network VM Network, but for `options`."""
    return {
        "Name": name,
        "Folders": ["prod"],
        "Datastores": [f"ds-{name}"],
        "Networks": ["VM Network"],
        "Portgroups": [],
        "Clusters": [{"Name": f"cl-{name}", "Hosts": [f"esx-{name}.lab"]}],
        **options,
    }


def vm(name: str, **options: Any) -> dict[str, Any]:
    """A VM of one CPU and one small disk that is off, on the datastore of the data centre dc1, but for `options`."""
    return {
        "Name": name,
        "Folder": "prod",
        "Datastore": "ds-dc1",
        "GuestID": "rhel9_64Guest",
        "GuestName": "RHEL 9",
        "CPUs": 1,
        "MemoryMB": 128,
        "Disks": [{"SizeMB": 1}],
        **options,
    }


def connection(running: dict[str, Any], **changed: Any) -> Connection:
    """How the vCenter is reached; `changed` are fields of the connection."""
    fields = {
        "conn_id": "vcenter-dc1",
        "conn_type": "vsphere",
        "host": "127.0.0.1",
        "port": running["port"],
        "login": ADMINISTRATOR,
        "password": PASSWORD,
        "extra": {"ca_file": running["ca_file"]},
    }
    return Connection(**{**fields, **changed})
