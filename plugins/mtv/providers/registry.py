"""Which provider answers for a connection. The SDKs are imported only when one is opened."""

from __future__ import annotations

import difflib
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

_CERTIFICATES = frozenset({"ca_file", "ca_pem", "thumbprint", "insecure"})
EXTRA_KEYS: dict[str, frozenset[str]] = {
    "vsphere": _CERTIFICATES,
    "ova": frozenset({"path", "volume"}),
    "ovirt": _CERTIFICATES | {"use_proxy"},
    "openstack": frozenset(
        {"project", "project_domain", "user_domain", "application_credential_id", "region", "interface"}
        | {"ca_file", "ca_pem", "insecure"}
    ),
}
"""What is read of a connection's extra, by its type."""


def open_provider(connection: Connection) -> Provider:
    """Return a provider for the connection, by its type; use it as a context manager.

    Nothing is contacted before it is entered. Raises `PermanentError` for a type that is no source platform, and for a
    key of extra that looks like a misspelt one: it would be ignored.
    """
    opener = _OPENERS.get(connection.conn_type)
    if opener is None:
        raise PermanentError(
            f"connection {connection.conn_id!r} has type {connection.conn_type!r}, which is not a source platform",
            cure=f"give it one of the types {', '.join(sorted(_OPENERS))}",
            code="SourceTypeUnknown",
        )
    _refuse_misspelt(connection)
    return opener(connection)


def _refuse_misspelt(connection: Connection) -> None:
    known = EXTRA_KEYS[connection.conn_type]
    for key in connection.extra:
        near = [] if key in known else difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.8)
        if near:
            raise PermanentError(
                f"connection {connection.conn_id!r}: extra has {key!r}, which nothing reads",
                cure=f"did you mean {near[0]!r}?",
                code="ConnectionKeyUnknown",
            )
