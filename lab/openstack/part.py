"""OpenStack as a part of the lab: starts the services and fills them with the demo project."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from lab.airflow.databases import remove_databases
from lab.cluster.pki import Authority
from lab.openstack import demo, services
from lab.openstack.broker import Broker, stop_broker
from lab.openstack.client import connect
from lab.openstack.configuration import APIS, KEY_FOLDERS, REGION, Layout, write_configuration
from lab.openstack.packages import broker
from lab.openstack.packages import services as packages
from lab.openstack.tables import start_databases, tables
from lab.parts import Part
from lab.process import is_alive
from lab.state import State, write_secret

ADMINISTRATOR, USER, PROJECT = "admin", "mtv", "demo"


class OpenStackPart(Part):
    """Keystone, glance, cinder, nova, neutron and placement with a demo project."""

    name = "openstack"
    on_request = True
    real = "keystone, glance, cinder, nova, neutron and placement from their packages, on RabbitMQ and PostgreSQL"
    stand_in = "volumes are sparse files; a fake hypervisor keeps power states and boots nothing; no network agents"

    def build(self) -> None:
        """Install the packages and make the tables."""
        packages()
        broker()
        tables()

    def start(self, state: State) -> dict[str, Any]:
        """Start all services side by side; returns when the demo project is there."""
        folder = state.folder(self.name)
        _remove_data(folder)
        authority = Authority.create(folder / "pki")
        messages = Broker(folder / "broker", secrets.token_urlsafe(16))
        databases = start_databases(folder)
        layout = Layout(folder, messages.url, secrets.token_urlsafe(16), databases.address)
        for inner in ("images", "staging", "tasks", "cinder/conversion", "nova/instances"):
            (layout.data / inner).mkdir(mode=0o700, parents=True)
        for keys in KEY_FOLDERS:
            (folder / keys).mkdir(mode=0o700)
            for number in ("0", "1"):
                write_secret(folder / keys / number, base64.urlsafe_b64encode(os.urandom(32)))
        passwords = {
            user: write_secret(folder / f"password-{user}", secrets.token_urlsafe(16)) for user in (ADMINISTRATOR, USER)
        }

        def session(user: str, project: str) -> Connection:
            password = passwords[user].read_text()
            url = layout.public_url("keystone")
            return connect(url, ca_file=authority.certificate, user=user, password=password, project=project)

        write_configuration(layout)
        messages.start()
        for service in APIS:
            services.start_api(layout, service)
        services.start_tls(layout, authority.issue("openstack", common_name="openstack", hosts=["127.0.0.1"]))
        services.bootstrap_keystone(layout, passwords[ADMINISTRATOR])  # while all others load
        services.wait_for_api(layout, "keystone")
        services.wait_for_tls(layout, authority.certificate)
        with session(ADMINISTRATOR, "admin") as administrator:
            demo.register_services(administrator, layout)
            demo.create_user(administrator, PROJECT, USER, passwords[USER].read_text())
        messages.wait()
        services.start_workers(layout)
        for service in APIS:
            services.wait_for_api(layout, service)
        with session(ADMINISTRATOR, "admin") as administrator:  # it sees the new catalog
            services.wait_for_workers(folder, lambda: demo.missing_workers(administrator), messages.alarms)
            types = demo.create_types(administrator)
        with session(USER, PROJECT) as member:
            content = demo.create_project(member, folder, types)
        return {
            "auth_url": layout.public_url("keystone"),
            "image_url": layout.public_url("glance"),
            "ca_file": str(authority.certificate),
            "region": REGION,
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
        return bool(endpoints) and services.answers(endpoints["auth_url"], Path(endpoints["ca_file"]))

    def stop(self, state: State) -> None:
        """Stop the services, then broker and databases; their data go, their logs stay."""
        folder = state.folder(self.name)
        services.stop_services(folder)
        stop_broker(folder / "broker")
        remove_databases(folder)
        _remove_data(folder)


def _remove_data(folder: Path) -> None:
    for name in ("data", "broker", "etc", "pki", *KEY_FOLDERS):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
