"""The launcher's main loop: one instance from the node agent's word to the guest's end.

The node agent talks over a Unix socket in a folder that it shares with the pod, one JSON document per line:
    agent -> launcher   {"vmi": {...}, "volumeModes": {"root": "Block"}}      then, at the end, {"ack": true}
    launcher -> agent   {"state": "running", ...}, at last {"state": "shutdown"|"crashed", "how": ..., "code": ...}
The agent may go away and come back; it is told the present state again.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .command import command
from .draft import Draft, Places, Unsupported
from .guest import Guest
from .prepare import look_at_host, make_files, start_tpm

SOCKET = "launcher-sock"
SHARED = Path("/var/run/kubevirt/sockets")
PRIVATE = Path("/var/run/kubevirt-private")
_ACK_WITHIN_S = 5.0
_DEFAULT_GRACE_S = 30


def log(text: str) -> None:
    """One line for the pod's log."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


class Launcher:
    """Serves one VMI. ``run`` returns the exit status of the container."""

    def __init__(self, shared: Path = SHARED, private: Path = PRIVATE) -> None:
        self._private = private
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(shared / SOCKET)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._agents: dict[socket.socket, bytearray] = {}
        self._guest: Guest | None = None
        self._tpm: subprocess.Popen[bytes] | None = None
        self._grace_s = float(_DEFAULT_GRACE_S)
        self._state: dict[str, Any] | None = None
        self._stop_asked = False
        self._acknowledged = False
        self._exit_code = 0

    def ask_to_stop(self) -> None:
        """Called for SIGTERM: shut the guest down."""
        self._stop_asked = True

    def run(self, wakeup: socket.socket) -> int:
        """Wait for the VMI, run it, report its end. ``wakeup`` becomes readable when a signal has arrived."""
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(64))
        while self._state is None or self._state["state"] == "running":
            pause: float | None = None
            if self._stop_asked:
                if self._guest is None:
                    log("told to stop before there was a guest")
                    return 0
                pause = self._guest.shut_down(time.monotonic(), self._grace_s)
            self._serve(pause)
        end = time.monotonic() + _ACK_WITHIN_S  # the agent's word on the VMI comes before the pod's end
        while not self._acknowledged and (left := end - time.monotonic()) > 0:
            self._serve(left)
        return self._exit_code

    def _serve(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        self._agents[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(connection))
        if self._state is not None:
            self._send(connection, self._state)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 20)
        except OSError as why:
            log(f"node agent: {why}")
            data = b""
        if not data:
            self._drop(connection)
            return
        buffer = self._agents[connection]
        buffer += data
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            self._obey(json.loads(line))

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._agents[connection]
        connection.close()

    def _obey(self, message: dict[str, Any]) -> None:
        if message.get("ack"):
            self._acknowledged = True
        elif "vmi" in message and self._state is None:
            try:
                self._start(message["vmi"], message.get("volumeModes") or {})
            except (Unsupported, OSError, subprocess.SubprocessError) as why:
                log(f"cannot run this instance: {why}")
                self._exit_code = 1
                self._report({"state": "crashed", "how": "refused", "code": None, "message": str(why)})

    def _start(self, vmi: dict[str, Any], volume_modes: dict[str, str]) -> None:
        places = Places(run=self._private / vmi["metadata"]["uid"])
        places.run.mkdir(parents=True, exist_ok=True)
        host, why_no_kvm = look_at_host(vmi, volume_modes, places)
        draft = command(vmi, volume_modes=volume_modes, places=places, host=host)
        if not host.kvm:
            log(f"NO KVM ({why_no_kvm}): this guest is emulated by TCG, about ten times slower than real hardware")
        for note in draft.notes:
            log(f"note: {note}")
        make_files(draft)
        self._tpm = start_tpm(draft)
        self._grace_s = float(vmi["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S))
        log(" ".join(draft.argv))
        self._guest = Guest(draft, log)
        self._selector.register(self._guest.pidfd, selectors.EVENT_READ, self._ended)
        self._report(_running(self._guest, draft))

    def _ended(self) -> None:
        assert self._guest is not None  # noqa: S101  registered together with the guest
        self._selector.unregister(self._guest.pidfd)
        code, how = self._guest.wait(), self._guest.how
        if self._tpm is not None:
            self._tpm.terminate()
            self._tpm.wait(10)
        log(f"QEMU ended with {code} ({how})")
        well = code == 0 or how == "killed"
        self._exit_code = 0 if well else 1
        message = "" if well else f"QEMU ended with {code}"
        self._report({"state": "shutdown" if well else "crashed", "how": how, "code": code, "message": message})

    def _report(self, state: dict[str, Any]) -> None:
        self._state = state
        for connection in list(self._agents):
            self._send(connection, state)

    def _send(self, connection: socket.socket, state: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(state).encode() + b"\n")
        except OSError as why:
            log(f"node agent: {why}")
            self._drop(connection)


def _running(guest: Guest, draft: Draft) -> dict[str, Any]:
    accelerator = "kvm" if draft.host.kvm else "tcg"
    return {"state": "running", "pid": guest.pid, "accelerator": accelerator, "notes": draft.notes}


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)  # the agent may be another user, where the cluster runs without root
    listener.listen(2)
    return listener


def main() -> int:
    """Entry point of the container ``compute``."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    log(f"lab launcher, a stand-in for KubeVirt's virt-launcher (no libvirt): {' '.join(sys.argv[1:])}")
    launcher = Launcher()
    signal.signal(signal.SIGTERM, lambda *_: launcher.ask_to_stop())
    signal.set_wakeup_fd(writer.fileno())
    return launcher.run(reader)
