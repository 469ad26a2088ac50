"""RabbitMQ on loopback, with its data below one folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lab.openstack.packages import broker
from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import write_secret

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
vm_memory_high_watermark.absolute = 1GB
default_user = mtv
default_pass = {password}
log.console = true
log.console.level = warning
log.file = false
"""


class Broker:
    """The broker of one lab. The mapper of Erlang's node names is started by us, so that it also ends with us."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._mapper_port = free_port()
        self._password = password

    @property
    def url(self) -> str:
        """The transport URL for the services' configuration; it holds the password."""
        return f"rabbit://mtv:{self._password}@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it; it answers some seconds later, see `wait`."""
        root = broker()
        folder = self.folder
        folder.mkdir(mode=0o700)
        write_secret(folder / "rabbitmq.conf", _CONFIGURATION.format(port=self.port, password=self._password))
        (folder / "plugins").write_text("[].")
        erlang = root / "usr" / "lib" / "erlang"
        [home] = (root / "usr" / "lib" / "rabbitmq" / "lib").glob("rabbitmq_server-*")
        [mapper] = erlang.glob("erts-*/bin/epmd")
        env = {
            **os.environ,
            "ERL_ROOTDIR": str(erlang),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "HOME": str(folder),  # Erlang keeps its cookie there
            "PATH": f"{erlang / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_HOME": str(home),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": "mtv@localhost",
            "RABBITMQ_PID_FILE": str(folder / "erlang-pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        argv: list[str | Path] = [mapper, "-port", str(self._mapper_port)]
        start_daemon(argv, log=folder / "epmd.log", pidfile=folder / "epmd.pid", env=env)
        start_daemon([home / "sbin" / "rabbitmq-server"], log=self._log, pidfile=self._pidfile, env=env, cwd=folder)

    def wait(self) -> None:
        """Return when it takes connections."""
        wait_until(
            self._answers,
            timeout_s=120,
            what="RabbitMQ",
            give_up=lambda: "" if is_alive(self._pidfile) else f"it has ended: {tail(self._log)}",
        )

    def alarms(self) -> str:
        """What its log says of alarms, "" for nothing: under one it takes no messages, and nobody is told."""
        said = (line for line in self._log.read_text(errors="replace").splitlines() if "alarm" in line.lower())
        return "\n".join(said)

    @property
    def _pidfile(self) -> Path:
        return self.folder / "rabbitmq.pid"

    @property
    def _log(self) -> Path:
        return self.folder / "rabbitmq.log"

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


def stop_broker(folder: Path) -> None:
    """Stop the broker of that folder, if there is one."""
    for name in ("rabbitmq", "epmd"):
        stop_daemon(folder / f"{name}.pid")
