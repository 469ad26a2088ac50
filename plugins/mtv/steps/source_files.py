"""How pods see the files of an OVA folder: mounted in one place, whatever the worker calls it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from mtv.kubevirt import pods
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import NAMESPACES
from mtv.kubevirt.target_facts import POD_SECURITY
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskSource, OvaMember
from mtv.steps.context import VmContext


def as_the_pod_sees(connection: Connection, disk_source: DiskSource) -> DiskSource:
    """Return where the pod finds the bytes, with every piece of a file that is split."""
    if not isinstance(disk_source, OvaMember):
        return disk_source
    folder = str(connection.extra.get("path", ""))

    def seen(path: str) -> str:
        return str(PurePosixPath(pods.SOURCE_DIR) / PurePosixPath(path).relative_to(folder))

    chunks = tuple(msgspec.structs.replace(chunk, path=seen(chunk.path)) for chunk in disk_source.chunks)
    return msgspec.structs.replace(disk_source, path=seen(disk_source.path), chunks=chunks)


def require_allowed(ctx: VmContext, cluster: Cluster) -> None:
    """Refuse, before anything is done, a folder that pods of the target namespace may not mount.

    Its `restricted` Pod Security level knows claims, but no NFS server and no folder of a node.
    """
    connection = ctx.connections.get(ctx.vm.source)
    mounted = connection.extra.get("volume")
    if not isinstance(mounted, dict) or "persistentVolumeClaim" in mounted:
        return
    namespace = cluster.get(NAMESPACES, ctx.namespace) or {"metadata": {}}
    if (namespace["metadata"].get("labels") or {}).get(POD_SECURITY) == "restricted":
        raise PermanentError(
            f"{ctx.vm.name}: namespace {ctx.namespace} is restricted, its pods may mount no {'/'.join(mounted)} volume",
            cure=f"put the share behind a claim and name that in extra.volume of connection {connection.conn_id}",
            code="ova-volume-forbidden",
        )


def volume(connection: Connection, sources: Iterable[DiskSource]) -> dict[str, object] | None:
    """Return the volume by which pods see the folder; None when no source lies in one."""
    if not any(isinstance(disk_source, OvaMember) for disk_source in sources):
        return None
    found = connection.extra.get("volume")
    if not isinstance(found, dict) or not found:
        raise PermanentError(
            f"connection {connection.conn_id}: pods cannot see the folder of its OVA files",
            cure='set extra.volume to a Kubernetes volume source, e.g. {"nfs": {"server": "…", "path": "…"}}',
            code="ova-volume-missing",
        )
    return dict(found)
