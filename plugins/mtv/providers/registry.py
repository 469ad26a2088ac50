"""Which provider answers for a connection. The SDKs are imported only when one is opened."""

from __future__ import annotations

from collections.abc import Callable

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.near_names import nearest
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
_SWITCHES = frozenset({"insecure", "use_proxy"})
"""Those that are true or false."""
_OBJECTS = frozenset({"volume"})
"""Those of which the steps that need them say what is wrong in them. All others are texts."""


def open_provider(connection: Connection) -> Provider:
    """Return a provider for the connection, by its type; use it as a context manager.

    Nothing is contacted before it is entered. Raises `PermanentError` for a type that is no source platform, for a
    key of extra that looks like a misspelt one (it would be ignored), and for a value of the wrong kind.
    """
    opener = _OPENERS.get(connection.conn_type)
    if opener is None:
        raise PermanentError(
            f"connection {connection.conn_id!r} has type {connection.conn_type!r}, which is not a source platform",
            cure=f"give it one of the types {', '.join(sorted(_OPENERS))}",
            code="SourceTypeUnknown",
        )
    _refuse_misspelt(connection)
    _refuse_wrong_kinds(connection)
    return opener(connection)


def _refuse_misspelt(connection: Connection) -> None:
    known = EXTRA_KEYS[connection.conn_type]
    for key in connection.extra:
        near = None if key in known else nearest(key, known)
        if near is not None:
            raise PermanentError(
                f"connection {connection.conn_id!r}: extra has {key!r}, which nothing reads",
                cure=f"did you mean {near!r}?",
                code="ConnectionKeyUnknown",
            )


def _refuse_wrong_kinds(connection: Connection) -> None:
    """A switch that is a text, such as "true", would count as off; a text that is a list would end in a traceback."""
    for key in sorted((EXTRA_KEYS[connection.conn_type] & connection.extra.keys()) - _OBJECTS):
        value = connection.extra[key]
        if value is None or value == "" or isinstance(value, bool if key in _SWITCHES else str):
            continue
        raise PermanentError(
            f"connection {connection.conn_id!r}: extra.{key} is {value!r}",
            cure="write true or false, without quotes" if key in _SWITCHES else "write a text, in quotes",
            code="ConnectionMalformed",
        )
