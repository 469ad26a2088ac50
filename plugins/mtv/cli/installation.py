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
        """Open the store that `mtv_store` names, else the default one, and bring it up to date."""
        from mtv.store import Store  # SQLAlchemy, which commands without a store need not pay for

        with Store.open(self._dsn()) as store:
            store.upgrade()
            yield store

    def has_store(self) -> bool:
        """Whether there is a store to look into; looking at a plan must not make one."""
        dsn = self._dsn()
        return not dsn.startswith("sqlite:///") or Path(dsn.removeprefix("sqlite:///")).exists()

    def _dsn(self) -> str:
        from mtv.store import STORE_CONNECTION, default_dsn, dsn_of

        if self.settings.connections_file is not None and STORE_CONNECTION in self.connections.ids():
            return dsn_of(self.connections.get(STORE_CONNECTION))
        return default_dsn(self.settings.state_folder)
