"""Secrets that were planted, in every form in which one could leak, and where files and rows are looked through."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import sqlalchemy
from cryptography.fernet import Fernet, InvalidToken

MOST_BYTES = 1 << 20
"""Larger files of a volume are disks."""


class Secrets:
    """Looks for secrets as they are, quoted for a URL, and inside Base64 (`Authorization: Basic` holds one so)."""

    def __init__(self, plain: Iterable[bytes]) -> None:
        self.forms = tuple({form for secret in plain for form in forms_of(secret)})

    def in_bytes(self, content: bytes) -> bool:
        """Whether any form of any secret is in there."""
        return any(form in content for form in self.forms)


def forms_of(secret: bytes) -> Iterator[bytes]:
    """Yield what to look for. Base64 has three ways to write a text, by its distance from the beginning."""
    yield secret
    text = secret.decode()
    yield from (quote(text, safe="").encode(), quote_plus(text).encode())
    for before in range(3):
        encoded = base64.b64encode(b"." * before + secret)
        whole = (before + len(secret)) * 8 // 6  # a digit that also holds bits of what follows is left out
        digits = encoded[(before * 8 + 5) // 6 : whole]
        yield digits
        yield digits.replace(b"+", b"-").replace(b"/", b"_")


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the plain files of a folder; what goes meanwhile holds nothing any more."""
    for where, _, names in os.walk(folder, onerror=_unless_gone):
        for name in names:
            path = Path(where, name)
            if not path.is_symlink() and path.is_file():
                yield path


def content_of(path: Path) -> bytes:
    """Return a file's bytes; nothing of one that has gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def small_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the files that are no disks, with their content."""
    for path in files_below(folder):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        if size <= MOST_BYTES:
            yield path, content_of(path)


class Rows:
    """The rows of a database. What Airflow has encrypted is there in clear, too, with its key."""

    def __init__(self, dsn: str, fernet: Fernet | None = None) -> None:
        self._dsn, self._fernet = dsn, fernet

    @contextmanager
    def opened(self) -> Iterator[sqlalchemy.Connection]:
        """A connection whose every question sees what is there now."""
        engine = sqlalchemy.create_engine(self._dsn, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def tables(self, connection: sqlalchemy.Connection) -> dict[str, sqlalchemy.Table]:
        """All tables by name."""
        metadata = sqlalchemy.MetaData()
        metadata.reflect(connection)
        return dict(metadata.tables)

    def texts(self, connection: sqlalchemy.Connection, table: sqlalchemy.Table) -> Iterator[bytes]:
        """Yield every value of every row."""
        for row in connection.execute(sqlalchemy.select(table)):
            for value in row:
                text = value if isinstance(value, bytes) else str(value).encode()
                yield text
                yield self._decrypted(text)

    def _decrypted(self, text: bytes) -> bytes:
        if self._fernet is None:
            return b""
        try:
            return self._fernet.decrypt(text)
        except (InvalidToken, TypeError):
            return b""


def fernet_of(config: Path) -> Fernet:
    """Return the key that an `airflow.cfg` names."""
    (line,) = [line for line in config.read_text().splitlines() if line.startswith("fernet_key")]
    return Fernet(line.partition("=")[2].strip())


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
