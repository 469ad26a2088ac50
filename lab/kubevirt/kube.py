"""A thin client for the API server: any object as plain JSON, server-side apply, watches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from mtv.model.errors import PermanentError, TemporaryError

_MANAGER = "mtv-lab"
_GROUPS = {  # kind: (path of its API, plural)
    "APIService": ("/apis/apiregistration.k8s.io/v1", "apiservices"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "Event": ("/api/v1", "events"),
    "KubeVirt": ("/apis/kubevirt.io/v1", "kubevirts"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "MutatingWebhookConfiguration": ("/apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Pod": ("/api/v1", "pods"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ValidatingWebhookConfiguration": ("/apis/admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"),
    "VirtualMachine": ("/apis/kubevirt.io/v1", "virtualmachines"),
    "VirtualMachineInstance": ("/apis/kubevirt.io/v1", "virtualmachineinstances"),
}


class Refused(PermanentError):
    """The API server answered with an error; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, code=f"Kubernetes{status}")
        self.status = status


class Unreachable(TemporaryError):
    """The API server did not answer."""


def path_of(kind: str, name: str = "", namespace: str = "") -> str:
    """URL path of an object or, without a name, of the collection."""
    api, plural = _GROUPS[kind]
    words = [api, f"namespaces/{namespace}" if namespace else "", plural, name]
    return "/".join(word for word in words if word)


class Kube:
    """One connection to an API server, safe to share between threads."""

    def __init__(self, kubeconfig: Path, *, timeout_s: float = 30) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings, persist_config=False)
        self._settings = settings
        self._pool: urllib3.PoolManager = client.ApiClient(settings).rest_client.pool_manager
        self._timeout_s = timeout_s

    def get(self, path: str) -> dict[str, Any] | None:
        """An object or a list; None if there is none."""
        try:
            return self._call("GET", path)
        except Refused as why:
            if why.status == 404:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST to a collection."""
        return self._call("POST", path, json.dumps(body), "application/json")

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object, or call a subresource that wants PUT."""
        return self._call("PUT", path, json.dumps(body), "application/json")

    def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """JSON merge patch."""
        return self._call("PATCH", path, json.dumps(body), "application/merge-patch+json")

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply; the last word on a field is ours."""
        metadata = manifest["metadata"]
        path = path_of(manifest["kind"], metadata["name"], metadata.get("namespace", ""))
        query = f"?fieldManager={_MANAGER}&force=true"
        return self._call("PATCH", path + query, json.dumps(manifest), "application/apply-patch+yaml")

    def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """Delete an object; no error if there is none."""
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        try:
            self._call("DELETE", path, json.dumps(body), "application/json")
        except Refused as why:
            if why.status != 404:
                raise

    def text(self, path: str) -> str:
        """A body that is no JSON, such as a pod's log."""
        return self._answer("GET", path).data.decode(errors="replace")

    def watch(self, path: str, resource_version: str, *, seconds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Changes of a collection as (type, object) for at most ``seconds``; the server may end it earlier."""
        query = f"?watch=1&resourceVersion={resource_version}&timeoutSeconds={seconds}&allowWatchBookmarks=true"
        timeout = urllib3.Timeout(connect=self._timeout_s, read=seconds + 10)
        answer = self._request("GET", path + query, None, {}, timeout=timeout, preload_content=False)
        try:
            buffer = b""
            for chunk in answer.stream(1 << 16):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except urllib3.exceptions.HTTPError as why:
            raise Unreachable(f"watch of {path} broke: {why}") from why
        finally:
            answer.close()

    def _call(self, method: str, path: str, body: str | None = None, content_type: str = "") -> dict[str, Any]:
        answer = self._answer(method, path, body, content_type)
        found: dict[str, Any] = json.loads(answer.data) if answer.data else {}
        return found

    def _answer(
        self, method: str, path: str, body: str | None = None, content_type: str = ""
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": content_type} if content_type else {}
        answer = self._request(method, path, body, headers, timeout=urllib3.Timeout(self._timeout_s))
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {_words(answer)}", answer.status)
        return answer

    def _request(
        self, method: str, path: str, body: str | None, headers: dict[str, str], **options: Any
    ) -> urllib3.BaseHTTPResponse:
        for credential in self._settings.auth_settings().values():  # none where the client is a certificate
            headers[credential["key"]] = credential["value"]
        url = self._settings.host + path
        try:
            return self._pool.request(method, url, body=body, headers=headers, retries=False, **options)
        except urllib3.exceptions.HTTPError as why:
            raise Unreachable(f"{method} {path}: {type(why).__name__}") from why


def _words(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(answer.data)["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
