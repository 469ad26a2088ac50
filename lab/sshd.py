"""A real ssh server on loopback with users and keys of its own, as ESXi has one for its datastores.

Real: OpenSSH's server, from Debian's package, which is unpacked but not installed (that would open the machine's port
22). Stand-in: the files it serves; ESXi's own shell is not there, only sftp. It runs in a mount namespace, where
/etc/passwd and /etc/shadow know nobody but its one user.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

from lab.cache import cached
from lab.debs import unpack
from lab.process import free_port, is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import write_secret

USER = "root"
_PACKAGES = ("openssh-server", "libwrap0")
_PASSWD = f"{USER}:x:0:0::/nonexistent:/bin/sh\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
_NEWER_PARTS = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
"""Programs that later versions have split off (Debian 13), and the options that say where they are."""
_CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""
_NAMESPACE = """\
mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/shadow /etc/shadow &&
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec {server} -D -e -f {folder}/sshd_config"""


class SshServer:
    """A server below one folder, where it leaves `known_hosts` and `id` (a key that it accepts)."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._pidfile = folder / "sshd.pid"
        for key in ("host_key", "id"):
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / key)])
        (folder / "id.pub").rename(folder / "authorized_keys")
        host_key = (folder / "host_key.pub").read_text().strip()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        (folder / "passwd").write_text(_PASSWD)
        hashed = _run(["openssl", "passwd", "-6", "-stdin"], text=password)
        write_secret(folder / "shadow", f"{USER}:{hashed}:19000:0:99999:7:::\n")

    def start(self) -> None:
        """Start it and return when it answers."""
        package = cached("sshd", sources=[], build=lambda out: unpack(_PACKAGES, out), extra_key=" ".join(_PACKAGES))
        configuration = _CONFIGURATION.format(port=self.port, folder=self.folder)
        for option, part in _NEWER_PARTS.items():  # sshd looks for them where its package would have put them
            if (program := package / "usr" / "lib" / "openssh" / part).exists():
                configuration += f"{option} {program}\n"
        (self.folder / "sshd_config").write_text(configuration)
        libraries = sorted({str(path.parent) for path in package.rglob("*.so.*")})
        script = _NAMESPACE.format(folder=shlex.quote(str(self.folder)), server=package / "usr" / "sbin" / "sshd")
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
        start_daemon(
            ["unshare", *user, "--mount", "sh", "-c", script],
            log=self.folder / "sshd.log",
            pidfile=self._pidfile,
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)},
        )
        wait_until(
            self._answers,
            timeout_s=30,
            what="sshd",
            give_up=lambda: "" if is_alive(self._pidfile) else f"it has ended: {tail(self.folder / 'sshd.log')}",
        )

    def stop(self) -> None:
        """Stop it and its sessions."""
        stop_daemon(self._pidfile)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def _run(argv: list[str], *, text: str = "") -> str:
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
