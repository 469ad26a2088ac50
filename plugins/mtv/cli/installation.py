"""What every command works with: settings, connections, the store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mtv.model.errors import PermanentError
from mtv.model.settings import Settings
from mtv.providers.connections import FileConnections

if TYPE_CHECKING:
    from mtv.store import Store


class Installation:
    """The installation that the environment names."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Installation:
        """Read the environment; nothing is opened yet."""
        return cls(Settings.from_environ(environ))

    @cached_property
    def connections(self) -> FileConnections:
        """Connections of MTV_CONNECTIONS_FILE. Raises `PermanentError` when it is not set."""
        if self.settings.connections_file is None:
            raise PermanentError(
                "no connections are known: MTV_CONNECTIONS_FILE is not set",
                cure="export it, naming a file of mode 0600 as `airflow connections export` writes it",
                code="ConnectionsFileMissing",
            )
        return FileConnections(self.settings.connections_file)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store that `mtv_store` names, else the default one, to write into it.

        An empty one gets its tables. One of another version is refused and stays as it is: whoever types a command here
        need not have the version that works on the store elsewhere.
        """
        with self.store_as_it_is() as store:
            if not store.is_made():
                store.upgrade()
            yield store

    @contextmanager
    def store_to_read(self) -> Iterator[Store | None]:
        """Open the store to look into it; None where there is none, and none is made. Refused as by `store`."""
        dsn = self._dsn()
        if dsn.startswith("sqlite:///") and not Path(dsn.removeprefix("sqlite:///")).exists():
            yield None  # opening would make folder and file
            return
        with self.store_as_it_is() as store:
            yield store if store.is_made() else None

    def no_store(self) -> str:
        """Say where there is no store."""
        dsn = self._dsn()
        if dsn.startswith("sqlite:///"):
            return f"there is no store in {Path(dsn.removeprefix('sqlite:///')).parent}"
        return "the database of the connection mtv_store is empty"

    @contextmanager
    def store_as_it_is(self) -> Iterator[Store]:
        """Open the store, whatever it holds."""
        from mtv.store import Store  # SQLAlchemy, which commands without a store need not pay for

        with Store.open(self._dsn()) as store:
            yield store

    def _dsn(self) -> str:
        from mtv.store import STORE_CONNECTION, default_dsn, dsn_of

        if self.settings.connections_file is not None and STORE_CONNECTION in self.connections.ids():
            return dsn_of(self.connections.get(STORE_CONNECTION))
        return default_dsn(self.settings.state_folder)
