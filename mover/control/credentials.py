"""Credentials are files in the pod's folder; they are read when needed and never kept in an error or a log."""

from __future__ import annotations

from pathlib import Path

from mtv.model.errors import PermanentError


def read_credential(folder: Path, name: str, *, cure: str = "mount the Secret with user, password and ca.pem") -> str:
    """The text of a credential file without its line's end. `PermanentError` (credentials-missing) names the file."""
    path = folder / name
    if name in ("", ".", "..") or "/" in name:
        raise PermanentError(
            f"{name!r} is not the name of a credential file",
            cure="name a file that lies in the folder of the credentials",
            code="credentials-missing",
        )
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        # The cause is not chained: a decoding error carries the bytes.
        raise PermanentError(
            f"credential file {path} cannot be read: {reason}", cure=cure, code="credentials-missing"
        ) from None
