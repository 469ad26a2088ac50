"""What the tests of the lab's OpenStack share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openstack

from lab.openstack import client
from mtv.model.connection import Connection


def connect(cloud: dict[str, Any]) -> openstack.connection.Connection:
    """A session of the SDK as the demo project's user; use it as a context manager."""
    return client.connect(
        cloud["auth_url"],
        ca_file=Path(cloud["ca_file"]),
        user=cloud["user"],
        password=password(cloud),
        project=cloud["project"],
    )


def password(cloud: dict[str, Any]) -> str:
    """The demo project's user's."""
    return Path(cloud["password_file"]).read_text()


def connection(cloud: dict[str, Any], **changed: Any) -> Connection:
    """The demo project as a connection of ours; `changed` are fields of it, the rest stands in its extra."""
    fields = {
        "conn_id": "cloud",
        "conn_type": "openstack",
        "host": cloud["auth_url"],
        "login": cloud["user"],
        "password": password(cloud),
    }
    extra = {"project": cloud["project"], "region": cloud["region"], "ca_file": cloud["ca_file"]}
    extra |= {name: value for name, value in changed.items() if name not in fields}
    return Connection(**fields | {name: value for name, value in changed.items() if name in fields}, extra=extra)


def made(user: openstack.connection.Connection) -> set[str]:
    """Ids of all images, volumes and snapshots of the project."""
    storage = user.block_storage
    return {entry.id for kind in (user.image.images(), storage.volumes(), storage.snapshots()) for entry in kind}
