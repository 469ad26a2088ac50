"""Sessions with the lab's OpenStack by the official SDK."""

from __future__ import annotations

from pathlib import Path

import openstack

from lab.openstack.configuration import REGION


def connect(auth_url: str, *, ca_file: Path, user: str, password: str, project: str) -> openstack.connection.Connection:
    """A session as that user, by the public endpoints; use it as a context manager."""
    return openstack.connect(
        auth={
            "auth_url": auth_url,
            "username": user,
            "password": password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name=REGION,
        cacert=str(ca_file),
        load_yaml_config=False,
        load_envvars=False,
    )
