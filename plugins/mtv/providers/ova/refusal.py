"""Why an appliance is not taken."""

from __future__ import annotations

from mtv.model.errors import PermanentError


class Refused(PermanentError):
    """An appliance (or one file of it) that we do not read; the message says why, the caller says which."""

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message, cure=cure, code="ApplianceRefused")
