"""Kinds that the lab's cluster does not bring: CDI's StorageProfile and the network plumbing group's attachments.

Their definitions are cut down to what mtv reads of them; everything else is kept as it comes, as by the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab.process import wait_until
from mtv.kubevirt.cluster import Cluster, Conflict
from mtv.kubevirt.resources import ATTACHMENTS, STORAGE_PROFILES, Kind
from mtv.model.errors import PermanentError

DEFINITIONS = Kind("apis/apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
_MODES = {
    "type": "object",
    "properties": {
        "volumeMode": {"type": "string"},
        "accessModes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["accessModes"],
}
_PROFILE = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "status": {
            "type": "object",
            "properties": {
                "storageClass": {"type": "string"},
                "provisioner": {"type": "string"},
                "claimPropertySets": {"type": "array", "items": _MODES},
            },
        },
    },
}
_ATTACHMENT = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"config": {"type": "string"}}}},
}


@contextmanager
def extra_kinds(admin: Cluster) -> Iterator[None]:
    """Serve both kinds for the time of the block; what was there before stays."""
    made = [
        name
        for name in (
            _define(admin, STORAGE_PROFILES, "StorageProfile", "storageprofile", _PROFILE),
            _define(admin, ATTACHMENTS, "NetworkAttachmentDefinition", "network-attachment-definition", _ATTACHMENT),
        )
        if name
    ]
    try:
        for kind in (STORAGE_PROFILES, ATTACHMENTS):
            wait_until(lambda kind=kind: _is_served(admin, kind), timeout_s=300, what=kind.plural)  # type: ignore[misc]
        yield
    finally:
        for name in made:
            admin.delete(DEFINITIONS, name, "")


def _define(admin: Cluster, kind: Kind, what: str, singular: str, schema: dict[str, Any]) -> str:
    group, version = kind.root.split("/")[1:]
    name = f"{kind.plural}.{group}"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {"kind": what, "plural": kind.plural, "singular": singular, "listKind": f"{what}List"},
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }
    try:
        admin.create(DEFINITIONS, body)
    except Conflict:
        return ""
    return name


def _is_served(admin: Cluster, kind: Kind) -> bool:
    try:
        admin.find(kind, "default" if kind.namespaced else "")
    except PermanentError:
        return False
    return True
