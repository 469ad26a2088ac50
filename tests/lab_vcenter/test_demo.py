"""The demo's inventory, with its guests: one runs for real and obeys the vCenter."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from lab.guests.boot import BOOT_LINE, BOOTS_LINE, PAYLOAD_LINE
from lab.process import is_alive
from lab.state import State
from lab.vcenter.hook import guest_files, running_guests
from lab.vcenter.part import VCenterPart, wait_for_guest
from tests.lab_vcenter.lab_vcenter_kit import collect, disk_key, finish, read, snapshot, until, virtual_disks

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[State, dict[str, Any], vim.ServiceInstance]]:
    """The part as `lab up` starts it, and a session."""
    state, part = State(tmp_path_factory.mktemp("lab")), VCenterPart()
    part.build()
    try:
        endpoints = part.start(state)
        state.save_endpoints("vcenter", endpoints)
        assert part.healthy(state)
        assert part.problems(state) == []
        instance = SmartConnect(
            host=endpoints["host"],
            port=endpoints["port"],
            user=endpoints["user"],
            pwd=Path(endpoints["password_file"]).read_text(),
            disableSslCertValidation=True,
        )
        yield state, endpoints, instance
        Disconnect(instance)
        instance._stub.DropConnections()
    finally:
        part.stop(state)
    assert running_guests(state) == []
    assert not part.healthy(state)


def test_it_holds_what_the_demo_promises(demo: tuple[State, dict[str, Any], vim.ServiceInstance]) -> None:
    rows = collect(demo[2], ["config.hardware", "config.template", "datastore", "network", "config.instanceUuid"])
    assert {"web-1", "db-1", "rdm-1", "shared-1", "template-1"} <= set(rows)
    disks = {name: virtual_disks(row["config.hardware"].device) for name, row in rows.items()}
    assert [disk.backing.fileName for disk in disks["web-1"]] == [
        "[ds-gold] web-1/web-1.vmdk",
        "[ds-silver] web-1/web-1_1.vmdk",
    ]
    assert len(disks["db-1"]) == 1
    assert rows["template-1"]["config.template"]
    assert disks["shared-1"][1].backing.sharing == "sharingMultiWriter"
    assert isinstance(disks["rdm-1"][1].backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo)
    networks = {network.name for row in rows.values() for network in row["network"]}
    assert networks == {"VM Network", "dvpg-app"}
    assert len({row["config.instanceUuid"] for row in rows.values()}) == len(rows)


def test_the_running_guest_bears_a_snapshot_goes_down_and_comes_up_on_the_same_disks(
    demo: tuple[State, dict[str, Any], vim.ServiceInstance],
) -> None:
    state, endpoints, instance = demo
    vm = collect(instance, [])["web-1"]["obj"]
    files = guest_files(state, "web-1")
    until(lambda: read(vm, "guest").toolsRunningStatus == "guestToolsRunning")
    first = files.console.read_text()
    assert {found["path"]: found["sha256"] for found in PAYLOAD_LINE.finditer(first)} == endpoints["guests"]["web-1"][
        "payload"
    ]

    snap = snapshot(vm, "mtv-web-1-1")
    root = endpoints["guests"]["web-1"]["disks"][0]
    found = vm.QueryChangedDiskAreas(snap, disk_key(vm), 0, "*")
    assert 0 < sum(area.length for area in found.changedArea) < Path(root).stat().st_size
    copies = sorted((state.dir / "vcenter/scratch").glob("*/snapshot-disk-*"))
    assert len(copies) == 2
    finish(snap.RemoveSnapshot_Task(False))

    # The guest was held for the snapshot, not stopped for good: it still goes down when asked.
    until(lambda: read(vm, "guest").toolsRunningStatus == "guestToolsRunning")
    vm.ShutdownGuest()
    until(lambda: read(vm, "runtime.powerState") == "poweredOff", timeout_s=300)
    assert "MTV-SHUTDOWN-OK" in files.console.read_text()
    assert not files.pidfile.exists()

    finish(vm.PowerOnVM_Task())
    with pytest.raises(vim.fault.ToolsUnavailable):
        vm.ShutdownGuest()  # it is still booting
    wait_for_guest(state, "web-1")
    console = files.console.read_text()
    assert BOOT_LINE.search(console)["mac"] == "00:50:56:00:01:01"  # type: ignore[index]
    assert int(BOOTS_LINE.search(console)["count"]) == int(BOOTS_LINE.search(first)["count"]) + 1  # type: ignore[index]

    finish(vm.PowerOffVM_Task())
    assert not is_alive(files.pidfile)
    assert read(vm, "runtime.powerState") == "poweredOff"


def test_a_guest_that_dies_is_seen_as_off(demo: tuple[State, dict[str, Any], vim.ServiceInstance]) -> None:
    state, _, instance = demo
    vm = collect(instance, [])["db-1"]["obj"]
    finish(vm.PowerOnVM_Task())
    files = guest_files(state, "db-1")
    pid = int(files.pidfile.read_text().split()[0])
    assert is_alive(files.pidfile)

    os.kill(pid, signal.SIGKILL)
    until(lambda: read(vm, "runtime.powerState") == "poweredOff")
    until(lambda: not files.pidfile.exists())
