"""Asynchronous clients of target clusters: one per connection and triggerer, shared by all pods that it watches."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from kubernetes_asyncio import client, config

from mtv.kubevirt.kubeconfig import Kubeconfig, place_of
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.orchestration.connections import AirflowConnections

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, client.ApiClient]] = WeakKeyDictionary()


async def core_api(connection_id: str) -> client.CoreV1Api:
    """Return the core API of the cluster behind a connection. Raises `PermanentError` for an unusable connection."""
    known = _clients.setdefault(asyncio.get_running_loop(), {})
    if connection_id not in known:
        connection = await sync_to_async(AirflowConnections().get, thread_sensitive=False)(connection_id)
        opened = await open_client(connection)
        # Another trigger may have opened one meanwhile: keep the first, so that all share it.
        if known.setdefault(connection_id, opened) is not opened:
            await opened.close()
    return client.CoreV1Api(known[connection_id])


async def forget(connection_id: str) -> None:
    """Close and forget a client, for instance when its credentials were refused: the next call reads them again."""
    known = _clients.setdefault(asyncio.get_running_loop(), {})
    if (opened := known.pop(connection_id, None)) is not None:
        await opened.close()


async def open_client(connection: Connection) -> client.ApiClient:
    """Return a client of the cluster that is the caller's to close. Raises `PermanentError`."""
    settings: Any = client.Configuration()
    path, context = place_of(connection)
    if connection.extra.get("in_cluster"):
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        return client.ApiClient(settings)
    kubeconfig = Kubeconfig(path)
    try:
        await config.load_kube_config_from_dict(kubeconfig.document, context=context, client_configuration=settings)
        return client.ApiClient(settings)  # has read its keys when it is made
    except config.ConfigException as error:
        raise PermanentError(
            f"connection {connection.conn_id}: the kubeconfig {str(path)!r} cannot be used: {error}",
            cure="set extra.kube_config_path to a kubeconfig that the triggerer can read",
            code="kubeconfig-invalid",
        ) from error
    finally:
        kubeconfig.close()
