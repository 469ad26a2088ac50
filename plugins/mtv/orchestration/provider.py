"""What Airflow asks of a provider distribution: our connection types with their forms. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": ["string", "null"]}
_FLAG = {"type": ["boolean", "null"]}


def get_provider_info() -> dict[str, Any]:
    """Return the connection types of the source platforms. Found by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "mtv",
        "name": "MTV migration factory",
        "description": "Batch migration of virtual machines to KubeVirt",
        "versions": ["0.1.0"],
        "connection-types": [_vsphere(), _ovirt(), _openstack(), _ova()],
    }


def _vsphere() -> dict[str, Any]:
    return {
        "connection-type": "vsphere",
        "hook-class-name": "mtv.orchestration.hooks.VsphereHook",
        "hook-name": "VMware vSphere",
        "conn-fields": _certificates(),
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "extra"],
            "relabeling": {"host": "vCenter or ESXi host", "login": "User", "port": "Port (443)"},
            "placeholders": {"host": "vcenter.example.org", "login": "migration@vsphere.local", "port": "443"},
        },
    }


def _ovirt() -> dict[str, Any]:
    return {
        "connection-type": "ovirt",
        "hook-class-name": "mtv.orchestration.hooks.OvirtHook",
        "hook-name": "oVirt / RHV",
        "conn-fields": {
            **_certificates(),
            "use_proxy": _field("Read disks through the engine's proxy", _FLAG),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "extra"],
            "relabeling": {"host": "Engine", "login": "User (name@profile)", "port": "Port (443)"},
            "placeholders": {"host": "engine.example.org", "login": "migration@internal", "port": "443"},
        },
    }


def _ova() -> dict[str, Any]:
    return {
        "connection-type": "ova",
        "hook-class-name": "mtv.orchestration.hooks.OvaHook",
        "hook-name": "OVA folder",
        "conn-fields": {
            "path": _field("Folder as the workers see it", _TEXT),
            "volume": _field("Kubernetes volume source of the same folder (JSON)", _TEXT),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "port", "login", "password", "schema", "extra"],
            "placeholders": {
                "path": "/srv/ova",
                "volume": '{"nfs": {"server": "files.example.org", "path": "/srv/ova"}}',
            },
        },
    }


def _openstack() -> dict[str, Any]:
    return {
        "connection-type": "openstack",
        "hook-class-name": "mtv.orchestration.hooks.OpenstackHook",
        "hook-name": "OpenStack",
        "conn-fields": {
            "project": _field("Project", _TEXT),
            "project_domain": _field("Domain of the project (Default)", _TEXT),
            "user_domain": _field("Domain of the user (Default)", _TEXT),
            "application_credential_id": _field("Application credential id (instead of a user)", _TEXT),
            "region": _field("Region", _TEXT),
            "interface": _field("Interface of the service catalog (public)", _TEXT),
            "ca_file": _field("CA file (PEM path on the workers)", _TEXT),
            "ca_pem": _field("CA certificate (PEM text)", _TEXT),
            "insecure": _field("Do not verify the certificate", _FLAG),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port", "extra"],
            "relabeling": {
                "host": "Keystone URL",
                "login": "User",
                "password": "Password, or secret of the application credential",
            },
            "placeholders": {"host": "https://keystone.example.org:5000/v3", "login": "migration"},
        },
    }


def _certificates() -> dict[str, Any]:
    """Return the fields that say whom to trust."""
    return {
        "ca_file": _field("CA file (PEM path on the workers)", _TEXT),
        "ca_pem": _field("CA certificate (PEM text)", _TEXT),
        "thumbprint": _field("Certificate thumbprint (SHA-256)", _TEXT),
        "insecure": _field("Do not verify the certificate", _FLAG),
    }


def _field(label: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "schema": schema}
