"""The client of the target cluster: the official Kubernetes client, narrowed to what mtv does.

Objects are plain dicts as the API serves them. Every call and every wait is bounded. Errors say which verb on which
resource was refused, and whether a retry helps:

- 401 and certificates nobody vouches for: `ConnectionRefused`
- 403, 400, 404 of a collection, 422: `PermanentError`
- 409 because the name is taken: `Conflict`, a `TemporaryError`; a 409 of a quota or object that others change in the
  same moment is tried again a few times
- 408, 410 (a long list that changed under the reader), 429, 5xx, timeouts, dropped connections (in the middle of TLS,
  too): `TemporaryError`
"""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Callable, Container, Mapping
from typing import Any, Self, TypeVar

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException

from mtv.kubevirt import labels
from mtv.kubevirt.kubeconfig import Kubeconfig, place_of
from mtv.kubevirt.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, Kind
from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
LOG_LIMIT_BYTES = 4 * 1024 * 1024
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 500
_MAX_PAGES = 200
_BUSY_PAUSES_S = (0.2, 0.5, 1, 2, 4)


class Conflict(TemporaryError):
    """There is an object of that name already."""


class _Busy(TemporaryError):
    """Somebody else changed what the request would change, e.g. the count of a quota, in the same moment."""


class Cluster:
    """A target cluster. Use it as a context manager, or call `close`.

    The connection's extra says where: `kube_config_path` (with `cluster_context` if not the current one), or
    `in_cluster`.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._kubeconfig, self._api = _client(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client's connections."""
        self._api.close()
        if self._kubeconfig is not None:
            self._kubeconfig.close()

    def check(self) -> str:
        """Return one line that says what answered. Raises `ConnectionRefused`."""
        version = self._json("GET", "/version", what="read the version of the cluster")
        return f"Kubernetes {version['gitVersion']}"

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return an object, or None when there is none."""
        try:
            return self._json("GET", kind.path(namespace, name), what=f"get {kind.plural}/{name} in {namespace or '-'}")
        except _NotFound:
            return None

    def exists(self, kind: Kind, name: str, namespace: str = "") -> bool:
        """Whether there is such an object. Only its metadata travels, so that a Secret's content is never read."""
        try:
            self._raw(
                "GET",
                kind.path(namespace, name),
                accept=_METADATA,
                what=f"look for {kind.plural}/{name} in {namespace}",
            )
        except _NotFound:
            return False
        return True

    def find(self, kind: Kind, namespace: str = "", having: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the objects that carry all labels of `having` (None: all of the namespace)."""
        return self._list(kind, namespace, having, accept="application/json")

    def names_of(self, kind: Kind, namespace: str, having: Mapping[str, str]) -> list[str]:
        """Return the names of such objects. Only metadata travels, as with `exists`."""
        return [item["metadata"]["name"] for item in self._list(kind, namespace, having, accept=_METADATA_LIST)]

    def _list(
        self, kind: Kind, namespace: str, having: Mapping[str, str] | None, *, accept: str
    ) -> list[dict[str, Any]]:
        query: dict[str, str] = {"limit": str(_PAGE)}
        if having is not None:
            query["labelSelector"] = labels.selector(dict(having))
        items: list[dict[str, Any]] = []
        for _ in range(_MAX_PAGES):
            page = self._json(
                "GET",
                kind.path(namespace),
                query=query,
                accept=accept,
                what=f"list {kind.plural} in {namespace or '-'}",
            )
            items += page["items"] or ()  # null when a list of metadata is empty
            token = page["metadata"].get("continue", "")
            if not token:
                return items
            query["continue"] = token
        raise PermanentError(f"more than {_PAGE * _MAX_PAGES} {kind.plural} in {namespace}", code="too-many-objects")

    def create(self, kind: Kind, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object; unknown fields are refused. Raises `Conflict` when the name is taken.

        With `dry_run` the API and its admission judge it as they would, and nothing is made.
        """
        metadata = body["metadata"]
        verb = "try to create" if dry_run else "create"
        return self._json(
            "POST",
            kind.path(metadata.get("namespace", "")),
            body=body,
            query={"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})},
            what=f"{verb} {kind.plural}/{metadata['name']} in {metadata.get('namespace', '-')}",
        )

    def merge(self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a JSON merge patch and return the object."""
        return self._json(
            "PATCH",
            kind.path(namespace, name),
            body=patch,
            content_type="application/merge-patch+json",
            what=f"patch {kind.plural}/{name} in {namespace}",
        )

    def annotate(self, kind: Kind, name: str, namespace: str, annotations: Mapping[str, str | None]) -> dict[str, Any]:
        """Set annotations; None removes one."""
        return self.merge(kind, name, namespace, {"metadata": {"annotations": dict(annotations)}})

    def delete(self, kind: Kind, name: str, namespace: str, *, grace_s: int | None = None, version: str = "") -> None:
        """Ask for an object's deletion; one that is gone already is fine.

        With `version`, only as it was read with that resource version: raises `TemporaryError` for a changed one.
        """
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if version:
            body["preconditions"] = {"resourceVersion": version}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._json(
                "DELETE", kind.path(namespace, name), body=body, what=f"delete {kind.plural}/{name} in {namespace}"
            )
        except _NotFound:
            return

    def remove_labelled(
        self,
        kind: Kind,
        namespace: str,
        having: Mapping[str, str],
        *,
        timeout_s: float,
        grace_s: int | None = None,
        only: Container[str] | None = None,
    ) -> list[str]:
        """Delete the objects that carry `having` and wait until they are gone; return their names.

        `only`: names to which that is limited, where others may carry the labels, too.

        `having` must name plan and VM (or plan and run): clean-up never reaches objects of another VM.
        Raises `TemporaryError` while one is still there, e.g. a pod on a node that does not answer.
        """
        if labels.PLAN not in having or not ({labels.VM, labels.RUN} & set(having)):
            raise ValueError(f"clean-up by {dict(having)} could reach objects of other VMs")

        def there() -> list[str]:
            return [name for name in self.names_of(kind, namespace, having) if only is None or name in only]

        names = there()
        for name in names:
            self.delete(kind, name, namespace, grace_s=grace_s)
        if names:
            self.wait(
                lambda: not there() or None,
                timeout_s=timeout_s,
                what=f"{kind.plural} {', '.join(names)} in {namespace} to be gone",
            )
        return names

    def ensure_namespace(self, name: str, *, for_pods: bool = True) -> None:
        """Make sure that the namespace exists and, unless told, takes pods; one that mtv makes is labelled as its own.

        Raises `TemporaryError` while it is being deleted.
        """
        existing = self.get(NAMESPACES, name)
        if existing is None:
            body = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {labels.OWNED_NAMESPACE: "true"}},
            }
            try:
                self.create(NAMESPACES, body)
            except Conflict:
                existing = self.get(NAMESPACES, name)
        if existing is not None and existing.get("status", {}).get("phase") == "Terminating":
            raise TemporaryError(f"namespace {name} is being deleted", code="namespace-terminating")
        if not for_pods:
            return
        self.wait(
            lambda: self.get(SERVICE_ACCOUNTS, "default", name),
            timeout_s=60,
            what=f"the service account `default` of namespace {name}",
        )

    def pod_log(self, name: str, namespace: str, container: str, *, limit_bytes: int = LOG_LIMIT_BYTES) -> str:
        """Return the end of a container's log (at most `limit_bytes`); empty while it has none.

        Read raw and decoded here: the client's own call returns the text of a Python bytes literal.
        """
        query = {"container": container, "tailLines": "20000"}
        try:
            raw = self._raw(
                "GET",
                f"{PODS.path(namespace, name)}/log",
                query=query,
                what=f"read the log of pod {name} in {namespace}",
            )
        except _NotFound:
            return ""
        except PermanentError as error:
            if error.code == "http-400":  # the container is still waiting to start
                return ""
            raise
        return raw[-limit_bytes:].decode("utf-8", errors="replace")

    def wait(self, check: Callable[[], T | None], *, timeout_s: float, what: str, interval_s: float = 0.5) -> T:
        """Call `check` until it returns something true; return that.

        A temporary error of `check` is waited out, too. Raises `TemporaryError` after `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        last = ""
        while True:
            try:
                found = check()
                last = ""
            except TemporaryError as error:
                found, last = None, f" ({error.message})"
            if found:
                return found
            if time.monotonic() >= end:
                raise TemporaryError(f"waited {timeout_s:g} s in vain for {what}{last}", code="wait-timeout")
            time.sleep(interval_s)

    def _json(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        return dict(json.loads(self._raw(method, path, **kwargs)))

    def _raw(self, method: str, path: str, **kwargs: Any) -> bytes:
        for pause_s in _BUSY_PAUSES_S:
            try:
                return self._once(method, path, **kwargs)
            except _Busy:
                # Spread, because those that met here would meet again.
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
        return self._once(method, path, **kwargs)

    def _once(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        try:
            response = self._api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=dict(body) if body is not None else None,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            )
            data = response[0].data if isinstance(response, tuple) else response.data
        except ApiException as error:
            raise _refusal(error, what) from error
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error, what) from error
        return bytes(data)


class _NotFound(PermanentError):
    """The API server answered 404."""


def _client(connection: Connection) -> tuple[Kubeconfig | None, Any]:
    """Return a client and what must stay open as long as it connects."""
    path, context = place_of(connection)
    kubeconfig = None if connection.extra.get("in_cluster") else Kubeconfig(path)
    try:
        if kubeconfig is None:
            configuration = kubernetes.client.Configuration()
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            return None, kubernetes.client.ApiClient(configuration)
        return kubeconfig, kubernetes.config.new_client_from_config_dict(
            kubeconfig.document, context=context, persist_config=False
        )
    except Exception as error:  # the client lets its parsers' errors through, of any kind
        if kubeconfig is not None:
            kubeconfig.close()
        raise PermanentError(
            f"connection {connection.conn_id}: the kubeconfig cannot be used: {error}", code="kubeconfig-invalid"
        ) from error


def _status(error: ApiException) -> Mapping[str, Any]:
    """Return the `Status` object of an answer; an empty one where somebody else answered, e.g. a proxy."""
    try:
        said = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _refusal(error: ApiException, what: str) -> MtvError:
    said, status = _status(error), int(error.status or 0)
    message = str(said.get("message") or error.reason or "no reason given")
    if status == 404:
        return _NotFound(f"cannot {what}: {message}", code="http-404")
    if status == 401:
        return ConnectionRefused(
            f"cannot {what}: the cluster does not know us", cure="renew the kubeconfig's credentials"
        )
    if status == 403:
        return PermanentError(
            f"not allowed to {what}: {message}",
            cure="grant the verb on the resource (deploy/ holds the role), or raise the quota it names",
            code="forbidden",
        )
    if status == 409:
        kind = Conflict if said.get("reason") == "AlreadyExists" else _Busy
        return kind(f"cannot {what}: {message}", code="conflict")
    if status in (408, 410, 429) or status >= 500:
        return TemporaryError(f"cannot {what}: HTTP {status}, {message}", code=f"http-{status}")
    return PermanentError(f"cannot {what}: HTTP {status}, {message}", code=f"http-{status}")


def _unreachable(error: urllib3.exceptions.HTTPError, what: str) -> MtvError:
    cause = getattr(error, "reason", None) or error
    # Other errors of TLS are those of a connection, e.g. of a load balancer that has no API server behind it just then.
    if isinstance(cause, urllib3.exceptions.SSLError) and any(
        isinstance(reason, ssl.SSLCertVerificationError) for reason in cause.args
    ):
        return ConnectionRefused(f"cannot {what}: {cause}", cure="the kubeconfig's certificate-authority does not fit")
    return TemporaryError(f"cannot {what}: {cause}", code="unreachable")
