"""The exception tree. Every error says what went wrong, where, and how to mend it; its kind says if a retry helps.

MtvError
├── PermanentError        a retry of the same step gives the same answer
│   ├── PlanError         the plan file is wrong (file, row, column in the message)
│   ├── ConnectionRefused credentials, certificate or privilege refused by an endpoint
│   └── DriftError        the source differs from what was validated and approved
└── TemporaryError        the endpoint may answer next time
"""

from __future__ import annotations

NOT_UNDERSTOOD = (ValueError, RecursionError)
"""What msgspec raises for bytes that are no document of the type that was asked for: its own `DecodeError`, a
`UnicodeDecodeError` for text that is not UTF-8, `RecursionError` for brackets without end.
"""


class MtvError(Exception):
    """Base of all errors that mtv raises on purpose.

    `message` is one sentence for people, `cure` says what to do next (may be empty), `code` is stable for machines.
    `disk` and `offset` (bytes) say where on a VM's disks it happened, if it happened there.
    """

    retryable = False

    def __init__(
        self, message: str, *, cure: str = "", code: str = "", disk: str = "", offset: int | None = None
    ) -> None:
        super().__init__(f"{message} — {cure}" if cure else message)
        self.message = message
        self.cure = cure
        self.code = code or type(self).__name__
        self.disk = disk
        self.offset = offset


class PermanentError(MtvError):
    """A retry does not help until somebody changes something."""


class TemporaryError(MtvError):
    """A retry may help: a dropped connection, a busy endpoint, a pod that was evicted."""

    retryable = True


class PlanError(PermanentError):
    """A plan file is wrong."""


class ConnectionRefused(PermanentError):
    """An endpoint refused us: wrong password, unknown certificate, missing privilege."""


class DriftError(PermanentError):
    """The source is no longer what was validated and approved."""
