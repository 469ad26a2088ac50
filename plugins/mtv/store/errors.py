"""Refusals of the store. Each names who is in the way."""

from __future__ import annotations

from mtv.model.errors import PermanentError, TemporaryError


class RunRefused(PermanentError):
    """Another run of the same plan is active."""


class HeldByAnother(PermanentError):
    """Another run holds the VM."""


class AlreadyMigrated(PermanentError):
    """The VM lives on its target: no run takes it, and nothing that a run says late takes that back."""


class StaleHolder(PermanentError):
    """The caller no longer holds the VM, or the VM is in another phase than the caller believes."""


class StoreNewer(PermanentError):
    """A newer program has changed the store's tables: this one does not know what they mean now."""


class StoreOlder(PermanentError):
    """The store's tables are those of an older program, and nobody has brought them up to date."""


class StoreInUse(PermanentError):
    """The store's tables are not brought up to date while an older program's runs are active."""


class NotFound(PermanentError):
    """The store has no such plan or run."""


class StoreAway(TemporaryError):
    """The store does not answer for now. What it was told last may be kept or not."""


class NfcStreamsTaken(TemporaryError):
    """All NFC streams of `host` are held, `capacity` of them: the VM has to wait."""

    def __init__(self, message: str, *, cure: str, host: str, capacity: int) -> None:
        super().__init__(message, cure=cure)
        self.host = host
        self.capacity = capacity
