"""How other programs reach the lab's cluster: kubeconfigs with client certificates, and a very small API client."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.cluster.pki import Authority, KeyPair
from lab.state import write_secret
from mtv.model.errors import PermanentError, TemporaryError

_TIMEOUT_S = 15


def write_kubeconfig(path: Path, *, server: str, authority: Authority, user: KeyPair) -> Path:
    """Write a kubeconfig (mode 0600) that names the files of its certificates and key.

    The official client writes what stands inside a kubeconfig to temporary files, and a killed process leaves them.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "mtv-lab",
        "clusters": [
            {
                "name": "mtv-lab",
                "cluster": {"server": server, "certificate-authority": str(authority.certificate)},
            }
        ],
        "contexts": [{"name": "mtv-lab", "context": {"cluster": "mtv-lab", "user": "user", "namespace": "default"}}],
        "users": [
            {
                "name": "user",
                "user": {
                    "client-certificate": str(user.certificate),
                    "client-key": str(user.key),
                },
            }
        ],
    }
    return write_secret(path, json.dumps(config, indent=2) + "\n")  # JSON is YAML


@dataclass(frozen=True)
class Api:
    """The few calls that bringing up the lab needs; everything else uses the official client."""

    server: str
    authority: Authority
    user: KeyPair

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at this path, None if there is none. TemporaryError if the server does not answer."""
        status, answer = self._call("GET", path)
        if status == http.client.NOT_FOUND:
            return None
        return self._checked("GET", path, status, answer)

    def create(self, path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create the object; one that is there already is fine (and is left as it is)."""
        status, answer = self._call("POST", path, manifest)
        if status == http.client.CONFLICT:
            return answer
        return self._checked("POST", path, status, answer)

    def is_ready(self) -> bool:
        """Does the API server say that it is ready? False as well if it does not answer."""
        try:
            status, _ = self._call("GET", "/readyz")
        except TemporaryError:
            return False
        return status == http.client.OK

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.user.certificate, self.user.key)
        where = urlsplit(self.server)
        connection = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=_TIMEOUT_S, context=context)
        try:
            connection.request(
                method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise TemporaryError(f"{self.server} does not answer: {error}", code="LabApiDown") from error
        finally:
            connection.close()
        if not response.headers.get_content_type().endswith("json"):
            return response.status, {"message": text.decode(errors="replace")}
        found: dict[str, Any] = json.loads(text)
        return response.status, found

    def _checked(self, method: str, path: str, status: int, answer: dict[str, Any]) -> dict[str, Any]:
        if status >= http.client.BAD_REQUEST:
            message = f"{method} {path}: {status} {answer.get('message', '')}"
            kind = TemporaryError if status >= http.client.INTERNAL_SERVER_ERROR else PermanentError
            raise kind(message, code="LabApiRefused")
        return answer
