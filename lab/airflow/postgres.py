"""A throw-away PostgreSQL server on loopback, run as the user `postgres` because it refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.process import free_port
from mtv.model.errors import PermanentError


def find_server() -> Path:
    """Return the folder of initdb and pg_ctl. Raises `PermanentError` naming the package."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    if found := shutil.which("initdb"):
        return Path(found).parent
    raise PermanentError("no PostgreSQL server on this machine", cure="apt-get install postgresql", code="NoPostgres")


@dataclass
class Postgres:
    """One server with its data in `folder`. Only the local machine may connect, without a password."""

    folder: Path
    port: int = 0

    def start(self) -> None:
        """Make the cluster and start it. As root, everything below runs as the user `postgres`."""
        self.port = self.port or free_port()
        tools = find_server()
        data = self.folder / "data"
        if not data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = pwd.getpwnam("postgres")
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._run(tools / "initdb", "-D", data, "-U", "airflow", "--auth=trust", "--no-sync")
        options = (
            f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories= -c max_connections=200 "
            "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        )
        log = self.folder / "postgres.log"
        self._run(tools / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start")

    def address(self, database: str, *, driver: str = "psycopg2") -> str:
        """Return a database's SQLAlchemy address."""
        return f"postgresql+{driver}://airflow@127.0.0.1:{self.port}/{database}"

    def dsn(self, database: str, *, driver: str = "psycopg2") -> str:
        """Create a database if it is missing and return its SQLAlchemy address."""
        tools = find_server()
        server = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow")
        query = f"select 1 from pg_database where datname = '{database}'"  # noqa: S608  our own name
        if self._run(tools / "psql", *server, "-At", "-c", query, "postgres").strip() != "1":
            self._run(tools / "createdb", *server, database)
        return self.address(database, driver=driver)

    def pid(self) -> int:
        """Return the server's process id."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop the server, at once unless `mode` is `fast`: then all is on disk. Nothing to do when it does not run."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._run(find_server() / "pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def _run(self, *argv: str | Path) -> str:
        command = [str(word) for word in argv]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            done = subprocess.run(
                command, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], cwd=self.folder, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
            )  # fmt: skip
        else:
            done = subprocess.run(
                command, cwd=self.folder, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
            )  # fmt: skip
        if done.returncode != 0:
            raise PermanentError(f"{Path(command[0]).name} failed: {done.stdout[-500:]}", code="LabPostgres")
        return done.stdout
