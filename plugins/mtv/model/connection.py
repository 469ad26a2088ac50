"""How to reach an endpoint. Secrets stay inside `Connection` and never appear in its repr."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint and its credentials, in the shape of `airflow connections export`.

    `conn_type` is the provider (`vsphere`, `ova`, `ovirt`, `openstack`), `kubernetes` for a target cluster,
    or the database kind of `mtv_store`. `extra` holds what is special to the type:

    - vsphere: `ca_file` (PEM path) or `ca_pem`, `thumbprint` (sha256 hex), `insecure` (bool, default false)
    - ovirt: as vsphere, and `use_proxy` (bool): pods read disks through the engine's proxy. `login` is name@profile
    - ova: `path` (folder as the worker sees it), `volume` (a Kubernetes volume source, as pods see the same folder)
    - openstack: `host` is Keystone's URL; `project`, `project_domain`, `user_domain` (both `Default`), `region`,
      `interface` (`public`), `application_credential_id` (the password is its secret then), `ca_file`, `ca_pem`,
      `insecure`
    - kubernetes: `kube_config_path`, `namespace`, `in_cluster`
    """

    conn_id: str
    conn_type: str
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = ""
    schema: str = ""
    extra: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Connection({self.conn_id!r}, type={self.conn_type!r}, host={self.host!r})"

    __str__ = __repr__


class Connections(Protocol):
    """Where connections come from: Airflow, or a 0600 file for the command line."""

    def get(self, conn_id: str) -> Connection:
        """Return the connection. Raises `PermanentError` naming `conn_id` when there is none."""
        ...
