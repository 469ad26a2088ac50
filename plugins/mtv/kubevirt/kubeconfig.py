"""A kubeconfig without copies of its keys on disk.

The Kubernetes clients hand certificates and keys to the TLS library as files. Those that stand inline in a kubeconfig
they write to the temporary folder, where a process that is killed leaves them. Here they lie in memory files of the
process instead, which end with it.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError

_INLINE = "-data"
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_NAME_ONE = "set extra.kube_config_path to a kubeconfig that can be read here, or extra.in_cluster"
_REFUSED = {
    "kube_config": "a kubeconfig inside the connection is not read: name a file with it in kube_config_path",
    "disable_verify_ssl": "certificates of clusters are always verified: name the authority in the kubeconfig",
}
"""Fields of Airflow's form that mean something which this does not do."""


def place_of(connection: Connection) -> tuple[Path, str | None]:
    """Return where a connection's kubeconfig lies and which of its contexts counts (None: the current one).

    Raises `PermanentError`: connection-unsupported for a field that would else be ignored in silence,
    kubeconfig-missing when none is named.
    """
    extra = connection.extra
    for name, cure in _REFUSED.items():
        if extra.get(name):
            raise PermanentError(
                f"connection {connection.conn_id}: {name} is not supported", cure=cure, code="connection-unsupported"
            )
    if not extra.get("kube_config_path") and not extra.get("in_cluster"):
        raise PermanentError(
            f"connection {connection.conn_id} names no kubeconfig", cure=_NAME_ONE, code="kubeconfig-missing"
        )
    return Path(extra.get("kube_config_path") or ""), extra.get("cluster_context") or None


class Kubeconfig:
    """`document` is the kubeconfig with absolute paths and nothing inline; valid until `close`, in this process."""

    def __init__(self, path: Path) -> None:
        """Raises `PermanentError` (code kubeconfig-missing or kubeconfig-invalid) that shows nothing of the content."""
        self.path = path
        self._memory: list[int] = []
        try:
            document = YAML(typ="safe", pure=True).load(path.read_bytes())
        except OSError as error:
            raise PermanentError(
                f"the kubeconfig {str(path)!r} cannot be read: {error.strerror}",
                cure=_NAME_ONE,
                code="kubeconfig-missing",
            ) from error
        except YAMLError:
            raise _invalid(path, "it is no YAML") from None  # the parser's message quotes the file
        if not isinstance(document, dict):
            raise _invalid(path, "it is no kubeconfig")
        self.document: dict[str, Any] = document
        try:
            for kind in ("cluster", "user"):
                for entry in document.get(f"{kind}s") or ():
                    self._without_inline(entry.get(kind) or {})
        except (AttributeError, TypeError, binascii.Error, ValueError):
            self.close()
            raise _invalid(path, "its clusters or users have another shape than expected") from None

    def close(self) -> None:
        """Forget the keys."""
        while self._memory:
            os.close(self._memory.pop())

    def _without_inline(self, settings: dict[str, Any]) -> None:
        for name in _FILES:
            if inline := settings.pop(f"{name}{_INLINE}", None):
                settings[name] = self._in_memory(base64.b64decode(inline, validate=True))
            elif name in settings:
                settings[name] = str(self.path.resolve().parent / settings[name])
        command = (settings.get("exec") or {}).get("command", "")
        if "/" in command:
            settings["exec"]["command"] = str(self.path.resolve().parent / command)

    def _in_memory(self, content: bytes) -> str:
        fd = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
        self._memory.append(fd)
        os.write(fd, content)
        return f"/proc/self/fd/{fd}"


def _invalid(path: Path, why: str) -> PermanentError:
    return PermanentError(
        f"the kubeconfig {str(path)!r} cannot be used: {why}", cure="check it with kubectl", code="kubeconfig-invalid"
    )
