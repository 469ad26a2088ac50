"""What the tests of the lab's OpenStack share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openstack


def connect(cloud: dict[str, Any]) -> openstack.connection.Connection:
    """A session of the SDK as the demo project's user; use it as a context manager."""
    return openstack.connect(
        auth={
            "auth_url": cloud["auth_url"],
            "username": cloud["user"],
            "password": Path(cloud["password_file"]).read_text(),
            "project_name": cloud["project"],
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name=cloud["region"],
        load_yaml_config=False,
        load_envvars=False,
    )
