"""A throw-away PostgreSQL server for tests: own folder, own socket, gone afterwards. As root it runs as `postgres`."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

_START_TIMEOUT_S = 60


def _program(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: apt-get install postgresql")
    return found


class PostgresServer:
    """A running server. `new_database` makes an empty database and returns its DSN."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    def dsn(self, database: str) -> str:
        """Return the DSN of a database of this server."""
        return f"postgresql+psycopg2://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Make an empty database and return its DSN."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        engine = create_engine(self.dsn("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
        finally:
            engine.dispose()
        return self.dsn(name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own, yield it, stop it and remove the folder."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="mtv-pg-"))
    try:
        if user:
            shutil.chown(folder, user, user)
        data = folder / "data"
        subprocess.run(
            [_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, user=user, group=user, extra_groups=[] if user else None, cwd="/",
        )  # fmt: skip
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
        argv = [_program("postgres"), "-D", str(data), *(f"--{key}={value}" for key, value in options.items())]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                argv, stdout=log, stderr=log, user=user, group=user, extra_groups=[] if user else None, cwd="/"
            )
        try:
            _wait(server, folder)
            yield PostgresServer(folder)
        finally:
            server.send_signal(signal.SIGINT)  # "fast": ends sessions, then stops
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder)


def _wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        ready = subprocess.run(
            [_program("pg_isready"), "-q", "-h", folder, "-U", "postgres"], check=False, stdout=subprocess.DEVNULL
        )
        if ready.returncode == 0:
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")
