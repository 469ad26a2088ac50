"""Image transfers: made, served by the real imageio daemon, extended, paused, ended."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

from ovirtsdk4 import types

from lab.ovirt.imageio import ImageioDaemon

_Phase = types.ImageTransferPhase
_ENDED = (_Phase.FINISHED_SUCCESS, _Phase.FINISHED_FAILURE, _Phase.CANCELLED)


class LabDisk(NamedTuple):
    """The bytes of a disk: their number, and the Unix socket of the NBD server that serves them."""

    size_bytes: int
    nbd_socket: Path


class ImageTransfers:
    """All transfers of an engine, by id. Without a daemon none can be made."""

    def __init__(self, imageio: ImageioDaemon | None) -> None:
        self.imageio = imageio
        self.disks: dict[str, LabDisk] = {}
        self.locked: set[str] = set()
        self.by_id: dict[str, Any] = {}

    def create(self, wanted: Any) -> Any:
        """A new transfer, initializing; None if the disk is locked, by a test or by another transfer."""
        disk = (wanted.disk or wanted.snapshot).id
        if disk in self.locked or any(_is_of(other, disk) for other in self.by_id.values()):
            return None
        transfer = types.ImageTransfer(
            id=str(uuid.uuid4()),
            disk=types.Disk(id=disk),
            backup=wanted.backup,
            phase=_Phase.INITIALIZING,
            direction=wanted.direction,
            format=wanted.format,
            inactivity_timeout=wanted.inactivity_timeout,
            timeout_policy=wanted.timeout_policy,
        )
        transfer.transfer_url = self._daemon.url_of(transfer.id)
        transfer.proxy_url = transfer.transfer_url.replace("127.0.0.1", "localhost")  # the same daemon, by another name
        self.by_id[transfer.id] = transfer
        return transfer

    def serve_if_due(self, transfer: Any, timeout_s: int) -> None:
        """Put the ticket of a transfer that begins onto the host."""
        if transfer.phase in (_Phase.INITIALIZING, _Phase.RESUMING):
            disk = self.disks[transfer.disk.id]
            self._daemon.add_ticket(
                transfer.id,
                disk.size_bytes,
                disk.nbd_socket,
                timeout_s=timeout_s,
                dirty=transfer.backup is not None,
            )
            transfer.phase = _Phase.TRANSFERRING

    def act(self, transfer: Any, action: str, timeout_s: int) -> bool:
        """Whether the action is possible in the transfer's phase; if so it is done."""
        if action == "extend" and transfer.phase == _Phase.TRANSFERRING:
            return self._daemon.extend_ticket(transfer.id, timeout_s)
        if action == "resume" and transfer.phase in (_Phase.PAUSED_SYSTEM, _Phase.PAUSED_USER):
            transfer.phase = _Phase.RESUMING
            return True
        ends = {"finalize": _Phase.FINISHED_SUCCESS, "cancel": _Phase.CANCELLED}
        if action in ends and transfer.phase not in _ENDED:
            self._daemon.remove_ticket(transfer.id)
            transfer.phase = ends[action]
            return True
        return False

    def end_all(self, phase: Any) -> None:
        """The engine itself pauses or cancels all transfers that are under way."""
        for transfer in self.by_id.values():
            if transfer.phase == _Phase.TRANSFERRING:
                self._daemon.remove_ticket(transfer.id)
                transfer.phase = phase

    @property
    def _daemon(self) -> ImageioDaemon:
        if self.imageio is None:
            raise LookupError("this engine has no imageio daemon")
        return self.imageio


def _is_of(transfer: Any, disk: str) -> bool:
    return bool(transfer.disk.id == disk and transfer.phase not in _ENDED)
