"""Pods of the mover as plain manifests: what runs beside the target volumes, with which claims, files and rights.

Pure functions; the caller creates the pod first and then its Secret, owned by the pod, so that the Secret goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that a step wants to run. `secret_files` is mounted at /run/mtv; nothing in `pod` itself is secret.

    The pod waits for its Secret, which is created after it with an ownerReference to it. Look for a live pod with the
    same `mtv/*` labels before creating one: a worker that died must find its pod again.
    """

    namespace: str
    pod: dict[str, Any]
    secret_name: str
    secret_files: Mapping[str, str]
    connection_id: str

    @property
    def name(self) -> str:
        """Name of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which this pod is found again: plan, wave, VM, run and role."""
        return dict(self.pod["metadata"]["labels"])

    def __repr__(self) -> str:
        return f"PodRequest({self.namespace}/{self.name}, files={sorted(self.secret_files)})"
