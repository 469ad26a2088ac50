"""A thin engine: logins, inventory, power and image transfers, in the words of oVirt's own SDK.

Real: requests are read and answers written by ovirtsdk4, disks are served by the real imageio daemon. Stand-in: the
engine itself, which keeps what it knows in memory and whose VMs run nothing.
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from http.server import ThreadingHTTPServer
from typing import Any

from lab.cluster.pki import Authority
from lab.ovirt.estate import Estate
from lab.ovirt.faults import Faults
from lab.ovirt.imageio import ImageioDaemon
from lab.ovirt.logins import Logins
from lab.ovirt.power import Power
from lab.ovirt.server import handler
from lab.ovirt.transfers import ImageTransfers, LabDisk

__all__ = ["USER", "LabDisk", "ThinEngine"]

USER = "admin@internal"


class ThinEngine:
    """An engine that runs in a thread of this process. Its fields may be changed while it runs."""

    def __init__(
        self, authority: Authority, imageio: ImageioDaemon | None, password: str, estate: Estate | None = None
    ) -> None:
        self.estate = estate or Estate()
        self.logins = Logins(USER)
        self.power = Power()
        self.faults = Faults()
        self.image_transfers = ImageTransfers(imageio)
        self.password = password
        self.ticket_timeout_s = 300
        self.calls: Counter[str] = Counter()
        """How often each action was asked for: login, create, extend, resume, finalize, cancel, start, stop …"""
        self.requests: list[str] = []
        """Every request below the API: method, path and query."""
        self.lock = threading.RLock()
        pair = authority.issue("engine", common_name="engine", hosts=["127.0.0.1", "localhost"])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="engine", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- its disks and their transfers

    @property
    def disks(self) -> dict[str, LabDisk]:
        """Where the bytes of disks are, by the disk's id."""
        return self.image_transfers.disks

    @property
    def locked(self) -> set[str]:
        """Disks that a transfer cannot be made of now."""
        return self.image_transfers.locked

    @property
    def transfers(self) -> dict[str, Any]:
        """All transfers that were ever made, by id."""
        return self.image_transfers.by_id

    # -- what tests do to it

    def forget_logins(self) -> None:
        """Every token has expired."""
        with self.lock:
            self.logins.forget()

    def expire_tickets(self) -> None:
        """Every ticket has expired; the transfers go on."""
        for transfer in list(self.transfers):
            if self.image_transfers.imageio is not None:
                self.image_transfers.imageio.extend_ticket(transfer, 0)

    def end_transfers(self, phase: Any) -> None:
        """The engine itself pauses or cancels all transfers that are under way."""
        with self.lock:
            self.image_transfers.end_all(phase)

    def delete_vm(self, name: str) -> None:
        """Somebody deletes a VM."""
        with self.lock:
            self.estate.remove_vm(self.estate.vm(name).id)
