"""The sessions and leases of one transfer, opened when first needed and shared between the VM's disks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mover.control.endpoint import Endpoint

if TYPE_CHECKING:
    from mover.control.keystone import KeystoneScope, KeystoneSession
    from mover.control.nfc_lease import NfcLease
    from mover.control.vsphere import VsphereSession


class Controls:
    """Hands out sessions and leases; `close` ends them all. Credential files lie in `credentials_dir`."""

    def __init__(self, credentials_dir: Path) -> None:
        self.credentials_dir = credentials_dir
        self._lock = threading.Lock()
        self._sessions: dict[Endpoint, VsphereSession] = {}
        self._tokens: dict[KeystoneScope, KeystoneSession] = {}
        self._leases: dict[tuple[Endpoint, str], NfcLease] = {}

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

        endpoint = Endpoint(
            host=host,
            port=port,
            thumbprint=thumbprint,
            insecure=insecure,
            ca_file=self.ca_file(),
        )
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
                self._leases[key] = NfcLease(session, vm)
            return self._leases[key]

    def close(self, *, well: bool) -> None:
        """End all leases (completed if the transfer went well, else aborted), then all sessions."""
        for lease in self._leases.values():
            lease.close(well=well)
        for session in self._sessions.values():
            session.close()
