"""The sessions and leases of one transfer, opened when first needed and shared between the VM's disks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mover.halt import Halt
from mtv.model.transfer import ImageioDisk, OvirtDisk

if TYPE_CHECKING:
    from mover.control.endpoint import Endpoint
    from mover.control.imageio_ticket import ImageioTicket
    from mover.control.keystone import KeystoneScope, KeystoneSession
    from mover.control.nfc_lease import NfcLease
    from mover.control.ovirt_engine import OvirtEngine
    from mover.control.vsphere import VsphereSession


class Controls:
    """Hands out sessions and leases; `close` ends them all. Credential files lie in `credentials_dir`.

    `halt` ends the wait for a lease.
    """

    def __init__(self, credentials_dir: Path, halt: Halt | None = None) -> None:
        self.credentials_dir = credentials_dir
        self._halt = halt or Halt()
        self._lock = threading.Lock()
        self._sessions: dict[Endpoint, VsphereSession] = {}
        self._tokens: dict[KeystoneScope, KeystoneSession] = {}
        self._leases: dict[tuple[Endpoint, str], NfcLease] = {}
        self._engines: dict[Endpoint, OvirtEngine] = {}
        self._tickets: dict[OvirtDisk, ImageioTicket] = {}

    def ca_file(self) -> Path | None:
        """The authority that servers are known by; None: the system's."""
        path = self.credentials_dir / "ca.pem"
        return path if path.exists() else None

    def keystone(self, scope: KeystoneScope) -> KeystoneSession:
        """The login at an OpenStack's identity service."""
        from mover.control.keystone import KeystoneSession

        with self._lock:
            if scope not in self._tokens:
                self._tokens[scope] = KeystoneSession(scope, self.credentials_dir)
            return self._tokens[scope]

    def vsphere(self, host: str, port: int, thumbprint: str, insecure: bool) -> VsphereSession:
        """The session with a vCenter or ESXi host."""
        # Imported here: reading an OVA or NBD needs no pyVmomi, whose import takes a second.
        from mover.control.vsphere import VsphereSession

        endpoint = self._endpoint(host, port, thumbprint, insecure)
        with self._lock:
            if endpoint not in self._sessions:
                self._sessions[endpoint] = VsphereSession(endpoint, self.credentials_dir)
            return self._sessions[endpoint]

    def nfc_lease(self, session: VsphereSession, vm: str) -> NfcLease:
        """The export lease of a VM."""
        from mover.control.nfc_lease import NfcLease

        with self._lock:
            key = (session.endpoint, vm)
            if key not in self._leases:
                self._leases[key] = NfcLease(session, vm, self._halt)
            return self._leases[key]

    def imageio_ticket(self, where: ImageioDisk | OvirtDisk) -> ImageioTicket:
        """The right to read a disk of oVirt."""
        from mover.control.imageio_ticket import EngineTicket, GivenTicket, location_of
        from mover.control.ovirt_engine import OvirtEngine

        if isinstance(where, ImageioDisk):
            ca_file = self.ca_file()
            return GivenTicket(
                location_of(where.url, thumbprint=where.thumbprint, insecure=where.insecure, ca_file=ca_file)
            )
        endpoint = self._endpoint(where.host, where.port, where.thumbprint, where.insecure)
        with self._lock:
            if where not in self._tickets:
                engine = self._engines.setdefault(endpoint, OvirtEngine(endpoint, self.credentials_dir))
                self._tickets[where] = EngineTicket(engine, where)
            return self._tickets[where]

    def close(self, *, well: bool) -> None:
        """End all leases and tickets (completed if the transfer went well, else aborted), then all sessions."""
        for lease in self._leases.values():
            lease.close(well=well)
        for ticket in self._tickets.values():
            ticket.close(well=well)
        for session in self._sessions.values():
            session.close()
        for engine in self._engines.values():
            engine.close()

    def _endpoint(self, host: str, port: int, thumbprint: str, insecure: bool) -> Endpoint:
        from mover.control.endpoint import Endpoint

        return Endpoint(host=host, port=port, thumbprint=thumbprint, insecure=insecure, ca_file=self.ca_file())
