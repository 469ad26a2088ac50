"""The lab's vCenter as a part: builds the server and the guests' images, starts it with the demo inventory."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.guests.boot import BOOT_LINE
from lab.parts import Part
from lab.process import is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import PYTHON_PATH, State, write_secret
from lab.vcenter import demo
from lab.vcenter.binary import binary
from lab.vcenter.hook import PART, guest_files, power_off, running_guests


class VCenterPart(Part):
    """vCenter with guests."""

    name = PART
    real = "disk contents, changed areas, exports, downloads, sessions; web-1, db-1 and full-1 are guests in QEMU"
    stand_in = "the vSphere API is answered by govmomi's simulator; privileges are per user, not per object"

    def build(self) -> None:
        """Compile the server and make the guests' images."""
        binary()
        demo.build_images()

    def start(self, state: State) -> dict[str, Any]:
        """Start server and guests; returns when web-1 has booted."""
        folder = state.folder(PART)
        for stale in ("disks", "guests", "scratch"):
            shutil.rmtree(folder / stale, ignore_errors=True)
        (folder / "audit.jsonl").unlink(missing_ok=True)  # it speaks of an inventory that is gone
        (folder / "scratch").mkdir()
        images = demo.copy_images(folder / "disks")
        passwords = {
            user: write_secret(folder / f"password-{user.partition('@')[0]}", secrets.token_urlsafe(16))
            for user in (demo.ADMINISTRATOR, demo.READER)
        }
        hook = [sys.executable, "-m", "lab.vcenter.hook", "--state", str(state.dir)]
        document = demo.inventory(images, passwords, folder / "scratch", hook)
        (folder / "inventory.json").write_text(json.dumps(document, indent=1))
        port = start_server(folder)
        endpoints: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "user": demo.ADMINISTRATOR,
            "password_file": str(passwords[demo.ADMINISTRATOR]),
            "reader": {"user": demo.READER, "password_file": str(passwords[demo.READER])},
            "ca_file": str(folder / "ca.pem"),
            "lab_url": f"https://127.0.0.1:{port}/lab",
            "audit": str(folder / "audit.jsonl"),
            "guests": {
                name: {
                    "console": str(guest_files(state, name).console),
                    "payload": dict(image.payload),
                    "disks": [str(disk) for disk in image.disks],
                }
                for name, image in images.items()
            },
        }
        wait_for_guest(state, "web-1")
        return endpoints

    def healthy(self, state: State) -> bool:
        """Does the server answer with the certificate it wrote?"""
        folder = state.folder(PART)
        if not is_alive(folder / "vcenter.pid"):
            return False
        endpoints = state.endpoints(PART)
        return bool(endpoints) and _answers(endpoints["port"], folder / "ca.pem")

    def stop(self, state: State) -> None:
        """Stop the server, then the guests, which it would otherwise report as gone."""
        folder = state.folder(PART)
        stop_daemon(folder / "vcenter.pid")
        for files in running_guests(state):
            power_off(files)
        for name in ("disks", "scratch"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "ready.json").unlink(missing_ok=True)


def start_server(folder: Path) -> int:
    """Start the server on `folder`/inventory.json and return its port once it answers.

    Beside the inventory it writes `ca.pem`, `audit.jsonl`, `vcenter.log` and `vcenter.pid`; `stop_daemon` ends it.
    """
    ready, cert, log, pidfile = (folder / name for name in ("ready.json", "ca.pem", "vcenter.log", "vcenter.pid"))
    ready.unlink(missing_ok=True)
    argv: list[str | Path] = [binary(), "-inventory", folder / "inventory.json", "-cert", cert, "-ready", ready]
    argv += ["-audit", folder / "audit.jsonl"]
    # The hook is a module of this package.
    start_daemon(argv, log=log, pidfile=pidfile, env={**os.environ, "PYTHONPATH": PYTHON_PATH})
    wait_until(
        ready.exists,
        timeout_s=120,
        what="the lab's vCenter",
        give_up=lambda: "" if is_alive(pidfile) else f"it has ended: {tail(log)}",
    )
    port = int(json.loads(ready.read_text())["Port"])
    wait_until(lambda: _answers(port, cert), timeout_s=30, what=f"an answer of the vCenter on port {port}")
    return port


def wait_for_guest(state: State, name: str, timeout_s: float = 240) -> None:
    """Return when the guest `name` has booted since its last power-on."""
    files = guest_files(state, name)
    wait_until(
        lambda: files.console.exists() and BOOT_LINE.search(files.console.read_text(errors="replace")),
        timeout_s=timeout_s,
        what=f"the boot of {name}",
        give_up=lambda: "" if is_alive(files.pidfile) else f"its QEMU has ended: {tail(files.errors)}",
    )


def _answers(port: int, ca_file: Path) -> bool:
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/about", timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
