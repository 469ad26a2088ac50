"""A vCenter per test with a few VMs on small disks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyVmomi import vim

from lab.process import stop_daemon
from lab.vcenter.part import start_server
from tests.lab_vcenter.lab_vcenter_kit import Center, small_inventory


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    """A vCenter of its own for the test."""
    (tmp_path / "inventory.json").write_text(json.dumps(small_inventory(tmp_path)))
    try:
        found = Center(tmp_path, start_server(tmp_path))
        yield found
        found.close()
    finally:
        stop_daemon(tmp_path / "vcenter.pid")


@pytest.fixture
def instance(center: Center) -> vim.ServiceInstance:
    """A session of the administrator."""
    return center.connect()
