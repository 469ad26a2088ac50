"""Credentials are files in the pod's folder; they are read when needed and never kept in an error or a log."""

from __future__ import annotations

from pathlib import Path

from mtv.model.errors import PermanentError


def read_credential(folder: Path, name: str) -> str:
    """The text of a credential file without its line's end. `PermanentError` (credentials-missing) names the file."""
    path = folder / name
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise PermanentError(
            f"credential file {path} cannot be read: {error.strerror}",
            cure="mount the Secret with user, password and ca.pem",
            code="credentials-missing",
        ) from error
