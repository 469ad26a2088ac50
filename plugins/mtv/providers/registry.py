"""Which provider answers for a connection. The SDKs are imported only when one is opened."""

from __future__ import annotations

from collections.abc import Callable

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.providers.base import Provider


def _vsphere(connection: Connection) -> Provider:
    from mtv.providers.vmware.provider import VmwareProvider

    return VmwareProvider(connection)


def _ova(connection: Connection) -> Provider:
    from mtv.providers.ova.provider import OvaProvider

    return OvaProvider(connection)


def _ovirt(connection: Connection) -> Provider:
    from mtv.providers.ovirt.provider import OvirtProvider

    return OvirtProvider(connection)


def _openstack(connection: Connection) -> Provider:
    from mtv.providers.openstack.provider import OpenstackProvider

    return OpenstackProvider(connection)


_OPENERS: dict[str, Callable[[Connection], Provider]] = {
    "vsphere": _vsphere,
    "ova": _ova,
    "ovirt": _ovirt,
    "openstack": _openstack,
}


def open_provider(connection: Connection) -> Provider:
    """Return a provider for the connection, by its type; use it as a context manager.

    Nothing is contacted before it is entered. Raises `PermanentError` for a type that is no source platform.
    """
    opener = _OPENERS.get(connection.conn_type)
    if opener is None:
        raise PermanentError(
            f"connection {connection.conn_id!r} has type {connection.conn_type!r}, which is not a source platform",
            cure=f"give it one of the types {', '.join(sorted(_OPENERS))}",
            code="SourceTypeUnknown",
        )
    return opener(connection)
