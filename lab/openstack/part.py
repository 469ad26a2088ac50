"""OpenStack as a part of the lab: starts the services and fills them with the demo project."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import openstack

from lab.openstack import demo, services
from lab.openstack.broker import Broker, stop_broker
from lab.openstack.configuration import APIS, KEY_FOLDERS, Layout, write_configuration
from lab.openstack.packages import broker
from lab.openstack.packages import services as packages
from lab.openstack.tables import copy_databases, tables
from lab.parts import Part
from lab.process import is_alive
from lab.state import State, write_secret

ADMINISTRATOR, USER, PROJECT = "admin", "mtv", "demo"


class OpenStackPart(Part):
    """Keystone, glance, cinder, nova, neutron and placement with a demo project."""

    name = "openstack"
    on_request = True
    real = "keystone, glance, cinder, nova, neutron and placement from their packages, on RabbitMQ and SQLite"
    stand_in = (
        "no TLS; volumes are sparse files; a fake hypervisor keeps power states and boots nothing; no network agents"
    )

    def build(self) -> None:
        """Install the packages and make the tables."""
        packages()
        broker()
        tables()

    def start(self, state: State) -> dict[str, Any]:
        """Start all services side by side; returns when the demo project is there."""
        folder = state.folder(self.name)
        _remove_data(folder)
        messages = Broker(folder / "broker", secrets.token_urlsafe(16))
        layout = Layout(folder, messages.url, secrets.token_urlsafe(16))
        for inner in ("images", "staging", "tasks", "cinder/conversion", "nova/instances"):
            (layout.data / inner).mkdir(mode=0o700, parents=True)
        for keys in KEY_FOLDERS:
            (folder / keys).mkdir(mode=0o700)
            for number in ("0", "1"):
                write_secret(folder / keys / number, base64.urlsafe_b64encode(os.urandom(32)))
        passwords = {
            user: write_secret(folder / f"password-{user}", secrets.token_urlsafe(16)) for user in (ADMINISTRATOR, USER)
        }
        write_configuration(layout)
        copy_databases(layout)
        messages.start()
        services.bootstrap_keystone(layout, passwords[ADMINISTRATOR])
        for service in APIS:
            services.start_api(layout, service)
        services.wait_for_api(layout, "keystone")
        connection = _connect(layout, ADMINISTRATOR, passwords[ADMINISTRATOR], "admin")
        demo.register_services(connection, layout)
        demo.create_user(connection, PROJECT, USER, passwords[USER].read_text())
        connection.close()
        messages.wait()
        services.start_workers(layout)
        for service in APIS:
            services.wait_for_api(layout, service)
        connection = _connect(layout, ADMINISTRATOR, passwords[ADMINISTRATOR], "admin")  # it sees the new catalog
        demo.wait_for_workers(connection, lambda: services.worker_problems(folder))
        types = demo.create_types(connection)
        connection.close()
        member = _connect(layout, USER, passwords[USER], PROJECT)
        content = demo.create_project(member, folder, types)
        member.close()
        return {
            "auth_url": layout.url("keystone"),
            "image_url": layout.url("glance"),
            "region": "RegionOne",
            "project": PROJECT,
            "user": USER,
            "password_file": str(passwords[USER]),
            "administrator": {
                "user": ADMINISTRATOR,
                "project": "admin",
                "password_file": str(passwords[ADMINISTRATOR]),
            },
            **content,
        }

    def healthy(self, state: State) -> bool:
        """Do all processes run, and does keystone answer?"""
        folder = state.folder(self.name)
        if not all(is_alive(pidfile) for pidfile in services.pid_files(folder)):
            return False
        endpoints = state.endpoints(self.name)
        return bool(endpoints) and services.answers(endpoints["auth_url"])

    def stop(self, state: State) -> None:
        """Stop the services, then the broker; their data go, their logs stay."""
        folder = state.folder(self.name)
        services.stop_services(folder)
        stop_broker(folder / "broker")
        _remove_data(folder)


def _remove_data(folder: Path) -> None:
    for name in ("data", "broker", "etc", *KEY_FOLDERS):
        shutil.rmtree(folder / name, ignore_errors=True)


def _connect(layout: Layout, user: str, password: Path, project: str) -> openstack.connection.Connection:
    return openstack.connect(
        auth={
            "auth_url": layout.url("keystone"),
            "username": user,
            "password": password.read_text(),
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        region_name="RegionOne",
        load_yaml_config=False,
        load_envvars=False,
    )
