"""Hooks behind the connection types: the form's Test button, and a provider session for whoever holds a hook."""

from __future__ import annotations

from typing import ClassVar

from airflow.sdk import BaseHook

from mtv.model.errors import MtvError
from mtv.orchestration.connections import from_airflow
from mtv.providers.base import Provider
from mtv.providers.registry import open_provider


class _SourceHook(BaseHook):
    """Common to all source platforms."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = ""

    def __init__(self, conn_id: str | None = None, **kwargs: object) -> None:
        super().__init__()
        self.conn_id = conn_id or str(kwargs.get(self.conn_name_attr) or self.default_conn_name)

    def get_conn(self) -> Provider:
        """Return a provider session that is not entered yet; use it as a context manager."""
        return open_provider(from_airflow(self.get_connection(self.conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Log in and say what answered. What went wrong is said in our own words, which hold no secret."""
        try:
            with self.get_conn() as provider:
                return True, provider.check()
        except MtvError as error:
            return False, str(error)


class VsphereHook(_SourceHook):
    """Connection type `vsphere`."""

    conn_type = "vsphere"
    conn_name_attr = "vsphere_conn_id"
    default_conn_name = "vsphere_default"
    hook_name = "VMware vSphere"


class OvirtHook(_SourceHook):
    """Connection type `ovirt`."""

    conn_type = "ovirt"
    conn_name_attr = "ovirt_conn_id"
    default_conn_name = "ovirt_default"
    hook_name = "oVirt / RHV"


class OvaHook(_SourceHook):
    """Connection type `ova`."""

    conn_type = "ova"
    conn_name_attr = "ova_conn_id"
    default_conn_name = "ova_default"
    hook_name = "OVA folder"


class OpenstackHook(_SourceHook):
    """Connection type `openstack`."""

    conn_type = "openstack"
    conn_name_attr = "openstack_conn_id"
    default_conn_name = "openstack_default"
    hook_name = "OpenStack"
