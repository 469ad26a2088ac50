"""An engine's refusals in our words: what failed, where, what to do, and whether a retry helps."""

from __future__ import annotations

import http

import ovirtsdk4

from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

UNREACHABLE, BUSY, GONE, FORBIDDEN, CONFLICT = "Unreachable", "EngineBusy", "ObjectGone", "PrivilegeMissing", "Conflict"
_BUSY_STATUS = (408, 429)


def translate(error: ovirtsdk4.Error, *, where: str, doing: str) -> MtvError:
    """Return the error to raise for what the SDK raised.

    `where` names host and connection, `doing` what was asked ("shut down web-1"). The SDK sets no status where no
    answer came, or none that it understood.
    """
    status = error.code
    said = f"{where}: cannot {doing}: {_words(error)}"
    if status is None:
        if isinstance(error, ovirtsdk4.AuthError):
            return ConnectionRefused(
                f"{where} refused the user name or password",
                cure="mend login (name@profile) and password of the connection",
                code="LoginRefused",
            )
        return TemporaryError(
            f"{where}: cannot {doing}: the connection broke before the whole answer was there",
            cure="see whether the engine is up, then try again",
            code=UNREACHABLE,
        )
    if status == http.HTTPStatus.UNAUTHORIZED:
        return TemporaryError(f"{where}: the session ended while it was to {doing}", code="SessionExpired")
    if status == http.HTTPStatus.FORBIDDEN:
        return ConnectionRefused(
            f"{where}: the user may not {doing}: {_words(error)}",
            cure="give the user ReadOnlyAdmin to read, UserVmManager and DiskOperator to migrate",
            code=FORBIDDEN,
        )
    if status == http.HTTPStatus.NOT_FOUND:
        return PermanentError(
            f"{where}: cannot {doing}: it no longer exists", cure="take the inventory again", code=GONE
        )
    if status == http.HTTPStatus.CONFLICT:
        return TemporaryError(said, cure="see the engine's events", code=CONFLICT)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY_STATUS:
        return TemporaryError(said, cure="see the engine's log", code=BUSY)
    return PermanentError(said, code="EngineRefused")


def _words(error: ovirtsdk4.Error) -> str:
    fault = error.fault
    told = [text.strip(" []") for text in (getattr(fault, "reason", None), getattr(fault, "detail", None)) if text]
    return ": ".join(told) or f"HTTP {error.code}"
