"""A flat VMDK on an ESXi host, read over ssh by nbdkit's ssh plugin.

The VM is off, or the file is the base of a snapshot. There are no extents over ssh: everything is read, zeros are found
by looking. The host's key must be in `known_hosts`; an unknown or changed key is refused.
"""

from __future__ import annotations

from pathlib import Path

from mover.control.credentials import read_credential
from mover.sources.nbdkit import (
    RETRY_FILTER,
    RETRY_SETTINGS,
    Explanation,
    Nbdkit,
    NbdkitSource,
    secret_file,
    settings,
)
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.transfer import EsxiSsh

CONNECT_TIMEOUT_S = 30
_KEY, _PASSWORD, _KNOWN_HOSTS = "id", "password", "known_hosts"
EXPLANATIONS = (
    Explanation(
        "authentication methods failed|[Aa]uthentication failed|[Aa]ccess denied|permission denied by user",
        ConnectionRefused,
        "source-login",
        "check user and key or password, and that the host permits ssh logins with them",
    ),
    Explanation(
        "host key is unknown|host key for server changed|host key for this server was not found|known_hosts",
        ConnectionRefused,
        "source-host-key",
        "put the host's present key into known_hosts, after you have seen for yourself that it is the host's",
    ),
    Explanation(
        "No such file",
        PermanentError,
        "source-missing",
        "name the -flat.vmdk below /vmfs/volumes; if it has moved, read the inventory again",
    ),
    Explanation(
        "Permission denied",
        ConnectionRefused,
        "source-privilege",
        "log in as a user who may read the datastore's files",
    ),
    Explanation(
        "Device or resource busy|locked",
        PermanentError,
        "source-locked",
        "power the VM off, or read the base of a snapshot: a running VM locks its disk",
    ),
    Explanation(
        "failed to connect|Connection refused|[Tt]imeout|Socket error|disconnected",
        TemporaryError,
        "source-lost",
        "check host, port, network policy and that the host's ssh service runs; the copy resumes",
    ),
)


def open_esxi_ssh(where: EsxiSsh, credentials_dir: Path) -> NbdkitSource:
    """The open source. Logs in with the key in `id` if there is one, else with the password."""
    return NbdkitSource(Nbdkit(f"{where.host}:{where.path}", arguments(where, credentials_dir), EXPLANATIONS))


def arguments(where: EsxiSsh, credentials_dir: Path) -> list[str]:
    """Filters, plugin and settings for nbdkit; secrets only by the names of their files."""
    login: dict[str, str] = {}
    if (credentials_dir / _KEY).exists():
        login["identity"] = _literally(secret_file(credentials_dir, _KEY))
    else:
        login["password"] = f"+{secret_file(credentials_dir, _PASSWORD)}"
    return [
        *RETRY_FILTER,
        "ssh",
        *settings(
            host=where.host,
            port=str(where.port),
            path=where.path,
            user=read_credential(credentials_dir, "user"),
            known_hosts=_literally(secret_file(credentials_dir, _KNOWN_HOSTS)),
            timeout=str(CONNECT_TIMEOUT_S),
            **login,
            **RETRY_SETTINGS,
        ),
        "config=",  # whoever runs us may have ssh settings of their own
    ]


def _literally(path: Path) -> str:
    """libssh expands % in the names of files."""
    return str(path).replace("%", "%%")
