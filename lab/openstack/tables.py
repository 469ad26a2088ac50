"""Databases with their tables and nothing else: made once per version, which takes a minute, then copied.

They are opened by relative paths and nova's cells hold a template, so that nothing of one lab is in what is kept.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.cache import cached
from lab.openstack.configuration import APIS, STAND_INS, Layout, service_environment, write_configuration
from lab.openstack.packages import PINS, services
from lab.state import write_secret
from mtv.model.errors import PermanentError

_NEUTRON = STAND_INS / "create_neutron_tables.py"
_TABLES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "keystone": (("keystone-manage", "--config-file", "keystone.conf", "db_sync"),),
    "glance": (("glance-manage", "--config-file", "glance.conf", "db_sync"),),
    "cinder": (("cinder-manage", "--config-file", "cinder.conf", "db", "sync"),),
    "placement": (("placement-manage", "--config-file", "placement.conf", "db", "sync"),),
    "nova": (
        ("nova-manage", "--config-file", "nova.conf", "api_db", "sync"),
        (
            *("nova-manage", "--config-file", "nova.conf", "cell_v2", "map_cell0"),
            *("--database_connection", "sqlite:///nova_cell0.sqlite?timeout=60"),
        ),
        (
            *("nova-manage", "--config-file", "nova.conf", "cell_v2", "create_cell", "--name", "cell1"),
            *("--database_connection", "sqlite:///nova.sqlite?timeout=60"),
            # A template, filled from the configuration by whoever reads it.
            *("--transport-url", "{scheme}://{username}:{password}@{hostname}:{port}/"),
        ),
        ("nova-manage", "--config-file", "nova.conf", "db", "sync"),
    ),
    "neutron": (("python", str(_NEUTRON), "sqlite:///neutron.sqlite"),),
}
_TABLES_TIMEOUT_S = 600


def tables() -> Path:
    """The folder of the databases in the cache."""
    return cached("openstack-tables", sources=[PINS, Path(__file__), _NEUTRON], build=_make_tables)


def copy_databases(layout: Layout) -> None:
    """Lay fresh databases into the data folder."""
    for database in sorted(tables().glob("*.sqlite")):
        write_secret(layout.data / database.name, database.read_bytes())


def _make_tables(folder: Path) -> None:
    layout = Layout(folder / "lab", "rabbit://mtv:none@127.0.0.1:1/", "none", dict.fromkeys(APIS, 1))
    layout.data.mkdir(parents=True)
    write_configuration(layout)
    for service, commands in _TABLES.items():
        for command in commands:
            argv = [str(services() / "bin" / command[0]), *command[1:]]
            argv = [str(layout.config(word.removesuffix(".conf"))) if word.endswith(".conf") else word for word in argv]
            done = subprocess.run(
                argv,
                cwd=layout.data,
                env=service_environment(),
                capture_output=True,
                text=True,
                timeout=_TABLES_TIMEOUT_S,
                check=False,
            )
            if done.returncode:
                said = f"{done.stdout}\n{done.stderr}".strip()[-2000:]
                raise PermanentError(f"the tables of {service} cannot be made: {said}", code="LabNoOpenStack")
    for database in layout.data.glob("*.sqlite"):
        database.rename(folder / database.name)
