"""Databases with their tables and nothing else: made once per version, which takes some minutes, then copied.

What is kept is the data folder of a PostgreSQL server. Nova's cells hold templates: nothing of one lab is in it.

SQLite will not do: nova's programs share databases, and a transaction that reads before it writes fails there whenever
another has written meanwhile, at once and for good.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.airflow.databases import new_server
from lab.airflow.postgres import Postgres
from lab.cache import cached
from lab.openstack.command import run_command
from lab.openstack.configuration import APIS, STAND_INS, Layout, write_configuration
from lab.openstack.packages import PINS

_NEUTRON = STAND_INS / "create_neutron_tables.py"
_DATABASES = ("keystone", "glance", "cinder", "placement", "nova", "nova_api", "nova_cell0", "neutron")
_TABLES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # The longest first. Templates, filled from the configuration by whoever reads them.
    "nova": (
        ("nova-manage", "--config-file", "nova.conf", "api_db", "sync"),
        (
            *("nova-manage", "--config-file", "nova.conf", "cell_v2", "map_cell0"),
            *("--database_connection", "{scheme}://{username}@{hostname}:{port}/nova_cell0"),
        ),
        (
            *("nova-manage", "--config-file", "nova.conf", "cell_v2", "create_cell", "--name", "cell1"),
            *("--database_connection", "{scheme}://{username}@{hostname}:{port}/nova"),
            *("--transport-url", "{scheme}://{username}:{password}@{hostname}:{port}/"),
        ),
        ("nova-manage", "--config-file", "nova.conf", "db", "sync"),
    ),
    "keystone": (("keystone-manage", "--config-file", "keystone.conf", "db_sync"),),
    "glance": (("glance-manage", "--config-file", "glance.conf", "db_sync"),),
    "cinder": (("cinder-manage", "--config-file", "cinder.conf", "db", "sync"),),
    "placement": (("placement-manage", "--config-file", "placement.conf", "db", "sync"),),
    "neutron": (("python", str(_NEUTRON), "neutron.conf"),),
}
_TABLES_TIMEOUT_S = 600


def tables() -> Path:
    """The folder of the databases in the cache."""
    return cached("openstack-tables", sources=[PINS, Path(__file__), _NEUTRON], build=_make_tables)


def start_databases(folder: Path) -> Postgres:
    """Start a server on a fresh copy of the databases; `lab.airflow.databases.remove_databases(folder)` ends it."""
    server = new_server(folder)
    shutil.copytree(tables() / "data", server.folder / "data")
    if os.geteuid() == 0:  # then the server runs as a user of its own
        owner = pwd.getpwnam("postgres")
        for path in (server.folder, *server.folder.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    server.start()
    return server


def _make_tables(folder: Path) -> None:
    nowhere = dict.fromkeys(APIS, 1)
    with tempfile.TemporaryDirectory(prefix="mtv-pg-") as place:
        server = Postgres(Path(place))
        server.start()
        try:
            for name in _DATABASES:
                server.dsn(name)
            transport = "rabbit://mtv:none@127.0.0.1:1/"
            layout = Layout(folder / "lab", transport, "none", server.address, nowhere, nowhere)
            layout.data.mkdir(parents=True)
            write_configuration(layout)
            _fill(layout)
        finally:
            server.stop(mode="fast")
        shutil.rmtree(layout.folder)
        shutil.copytree(server.folder / "data", folder / "data")


def _fill(layout: Layout) -> None:
    """Make all tables; no service knows another's."""
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda service: _fill_of(layout, service), _TABLES))


def _fill_of(layout: Layout, service: str) -> None:
    for program, *words in _TABLES[service]:
        arguments = [layout.config(word.removesuffix(".conf")) if word.endswith(".conf") else word for word in words]
        run_command(layout, program, *arguments, what=f"make the tables of {service}", timeout_s=_TABLES_TIMEOUT_S)
