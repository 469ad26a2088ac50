"""The power hook: the vCenter calls it for VMs that run for real, and it drives QEMU.

    python -m lab.vcenter.hook --state DIR on|off|shutdown|gone|stun|resume   (the VM as JSON on stdin)

`on` prints the process and the console as JSON, `shutdown` presses the power button (the guest goes down by itself),
`off` pulls the plug, `gone` tidies up after a guest that has ended. `stun` holds the guest while a snapshot is taken
(its disks are written out and stand still), `resume` lets it go on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.guests.boot import command_qemu, press_power_button
from lab.guests.hardware import VMWARE, Hardware, command
from lab.process import is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import State
from mtv.model.errors import MtvError, PermanentError, TemporaryError

_QEMU_VERBS = {"stun": "stop", "resume": "cont"}
PART = "vcenter"
READY = "MTV-BOOT-OK"
"""What the console says once the guest is up: the moment when VMware Tools would report in."""


@dataclass(frozen=True)
class GuestFiles:
    """Where a running guest keeps its files: below the vCenter's folder, one folder per VM."""

    folder: Path
    name: str

    @property
    def pidfile(self) -> Path:
        """Its QEMU; the file is there only while the VM is on."""
        return self.folder / f"{self.name}.pid"

    @property
    def console(self) -> Path:
        """What the serial port said since the last power-on."""
        return self.folder / "console.log"

    @property
    def control(self) -> Path:
        """QMP socket."""
        return self.folder / "qmp"

    @property
    def errors(self) -> Path:
        """What QEMU itself has to say."""
        return self.folder / "qemu.log"


def guest_files(state: State, name: str) -> GuestFiles:
    """The files of the VM `name`; they need not exist."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise PermanentError(f"{name!r} is no name for a guest's folder")
    return GuestFiles(state.dir / PART / "guests" / name, name)


def running_guests(state: State) -> list[GuestFiles]:
    """Guests that were started and not stopped; their QEMU may have died."""
    return [GuestFiles(path.parent, path.stem) for path in sorted((state.dir / PART / "guests").glob("*/*.pid"))]


def power_on(files: GuestFiles, vm: dict[str, Any]) -> dict[str, Any]:
    """Start QEMU and wait until it answers; returns what the vCenter wants to know."""
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.control.unlink(missing_ok=True)
    files.console.write_text("")
    hardware = Hardware(VMWARE.bus, VMWARE.card, memory_mb=vm["MemoryMB"], cpu_count=vm["CPUs"])
    # Relative paths, as QEMU runs in the folder: a socket's path may have 107 characters only.
    argv = command(
        [Path(disk) for disk in vm["Disks"]],
        hardware,
        console=Path(files.console.name),
        control=Path(files.control.name),
        name=files.name,
        macs=vm["MACs"] or (),
    )
    pid = start_daemon(argv, log=files.errors, pidfile=files.pidfile, cwd=files.folder)
    wait_until(
        lambda: _answers(files.control),
        timeout_s=30,
        what=f"QEMU of {files.name}",
        give_up=lambda: "" if is_alive(files.pidfile) else f"QEMU has ended: {tail(files.errors)}",
    )
    return {"Pid": pid, "Console": str(files.console), "Ready": READY}


def _answers(control: Path) -> bool:
    """Is QEMU past its start? Its socket is there before it has opened the disks; answers come only after."""
    if not control.exists():
        return False
    try:
        command_qemu(control, "query-status")
    except TemporaryError:
        return False
    return True


def power_off(files: GuestFiles) -> None:
    """Pull the plug, or tidy up what an ended QEMU left."""
    stop_daemon(files.pidfile)
    files.control.unlink(missing_ok=True)


def main() -> int:
    """Entry point; errors go to stderr and make the power operation fail."""
    parser = argparse.ArgumentParser(prog="python -m lab.vcenter.hook", description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="folder of the running lab")
    parser.add_argument("operation", choices=["on", "off", "shutdown", "gone", "stun", "resume"])
    options = parser.parse_args()
    vm = json.load(sys.stdin)
    files = guest_files(State(options.state), vm["Name"])
    try:
        if options.operation == "on":
            print(json.dumps(power_on(files, vm)))
        elif options.operation == "shutdown":
            press_power_button(files.control)
        elif options.operation in _QEMU_VERBS:
            command_qemu(files.control, _QEMU_VERBS[options.operation])
        else:
            power_off(files)
    except MtvError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
