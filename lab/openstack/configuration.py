"""The services' configuration files."""

from __future__ import annotations

import configparser
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.openstack.packages import services
from lab.process import free_port
from lab.state import write_secret

STAND_INS = Path(__file__).parent / "stand_ins"
KEY_FOLDERS = ("fernet_tokens", "fernet_receipts", "credential")
REGION = "RegionOne"
APIS = ("keystone", "glance", "cinder", "placement", "nova", "neutron")
_PATHS: Mapping[str, str] = {"keystone": "/v3", "cinder": "/v3", "nova": "/v2.1"}


@dataclass(frozen=True)
class Layout:
    """Where the services of one lab are: folder, ports, and what they log in with."""

    folder: Path
    transport_url: str
    service_password: str
    database: Callable[[str], str]
    """Address of the database of that name."""
    ports: Mapping[str, int] = field(default_factory=lambda: {name: free_port() for name in APIS})
    public_ports: Mapping[str, int] = field(default_factory=lambda: {name: free_port() for name in APIS})

    @property
    def data(self) -> Path:
        """Images and volumes; the services' working folder."""
        return self.folder / "data"

    def config(self, service: str) -> Path:
        """A service's configuration file, named as the service insists."""
        return self.folder / "etc" / service / f"{'glance-api' if service == 'glance' else service}.conf"

    def url(self, service: str) -> str:
        """A service's internal URL, plain HTTP: by it the services find each other."""
        return f"http://127.0.0.1:{self.ports[service]}{_PATHS.get(service, '')}"

    def public_url(self, service: str) -> str:
        """A service's public URL, TLS: all others get it from the catalog."""
        return f"{self.public_root(service)}{_PATHS.get(service, '')}"

    def public_root(self, service: str) -> str:
        """What the service is to put before the links in its answers."""
        return f"https://127.0.0.1:{self.public_ports[service]}"


def write_configuration(layout: Layout) -> None:
    """Write all files; they hold passwords, so each is for its owner alone."""
    venv = services()
    for name, sections in _files(layout, venv).items():
        parser = configparser.RawConfigParser(default_section="")
        parser.read_dict(sections)
        text = io.StringIO()
        parser.write(text)
        layout.config(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(layout.config(name), text.getvalue())
    nova = layout.config("nova").parent / "api-paste.ini"  # looked for beside the configuration only
    nova.write_bytes((venv / "etc" / "nova" / "api-paste.ini").read_bytes())


def service_environment() -> dict[str, str]:
    """Environment of the services' processes."""
    return {
        **os.environ,
        "PATH": f"{services() / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(STAND_INS),
        "PYTHONWARNINGS": "ignore",
    }


def _login(layout: Layout) -> dict[str, object]:
    return {
        "auth_url": layout.url("keystone"),
        "auth_type": "password",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "project_name": "service",
        "username": "services",
        "password": layout.service_password,
        "region_name": REGION,
    }


def _files(layout: Layout, venv: Path) -> dict[str, dict[str, dict[str, object]]]:
    data, login = layout.data, _login(layout)
    inside: dict[str, object] = {**login, "valid_interfaces": "internal"}
    own_token: dict[str, object] = {**login, "send_service_user_token": "true"}
    let_in: dict[str, dict[str, object]] = {
        "keystone_authtoken": {
            **login,
            "www_authenticate_uri": layout.public_url("keystone"),
            "service_token_roles_required": "true",
            "token_cache_time": 2,  # so that a token that was revoked is soon refused
        },
        "oslo_messaging_notifications": {"driver": "noop"},
    }
    messages: dict[str, object] = {"transport_url": layout.transport_url}

    def database(name: str) -> dict[str, object]:
        return {"connection": layout.database(name)}

    def locks(name: str) -> dict[str, object]:
        return {"lock_path": str(data / f"{name}-locks")}

    return {
        "keystone": {
            "DEFAULT": {"public_endpoint": layout.public_root("keystone")},
            "database": database("keystone"),
            **{name: {"key_repository": str(layout.folder / name)} for name in KEY_FOLDERS},
            "identity": {"password_hash_rounds": 4},
            # Else one token costs 150 sessions with the database, each of which also gives up the processor.
            "cache": {"enabled": "true", "backend": "oslo_cache.dict"},
        },
        "glance": {
            "DEFAULT": {"enabled_backends": "files:file", "public_endpoint": layout.public_root("glance")},
            "glance_store": {"default_backend": "files"},
            "files": {"filesystem_store_datadir": str(data / "images")},
            "os_glance_staging_store": {"filesystem_store_datadir": str(data / "staging")},
            "os_glance_tasks_store": {"filesystem_store_datadir": str(data / "tasks")},
            "paste_deploy": {"flavor": "keystone", "config_file": str(venv / "etc/glance/glance-api-paste.ini")},
            "database": database("glance"),
            **let_in,
        },
        "cinder": {
            "DEFAULT": {
                **messages,
                "enabled_backends": "gold,silver",
                # Else a scheduler that missed what a backend said at first hears no more for a minute.
                "backend_stats_polling_interval": 5,
                "periodic_interval": 5,
                "periodic_fuzzy_delay": 0,
                "auth_strategy": "keystone",
                "glance_api_servers": layout.url("glance"),
                "state_path": str(data / "cinder"),
                "image_conversion_dir": str(data / "cinder" / "conversion"),
                "api_paste_config": str(venv / "etc/cinder/api-paste.ini"),
                "resource_query_filters_file": str(venv / "etc/cinder/resource_filters.json"),
                "my_ip": "127.0.0.1",
                "public_endpoint": layout.public_root("cinder"),
                "allowed_direct_url_schemes": "",
            },
            **{
                name: {
                    "volume_driver": "cinder_standin.files.FilesDriver",
                    "volume_backend_name": name,
                    "files_dir": str(data / "volumes" / name),
                }
                for name in ("gold", "silver")
            },
            "oslo_concurrency": locks("cinder"),
            "database": database("cinder"),
            "service_user": own_token,
            **let_in,
        },
        "placement": {
            "DEFAULT": {},
            "api": {"auth_strategy": "keystone"},
            "placement_database": database("placement"),
            **let_in,
        },
        "nova": {
            "DEFAULT": {
                **messages,
                "compute_driver": "nova_standin.driver.StandInDriver",
                "state_path": str(data / "nova"),
                "instances_path": str(data / "nova" / "instances"),
                "my_ip": "127.0.0.1",
                "host": "compute-1",
                "periodic_fuzzy_delay": 0,  # else hosts are looked for after up to a minute
            },
            "api": {
                "compute_link_prefix": layout.public_root("nova"),
                "glance_link_prefix": layout.public_root("glance"),
            },
            "wsgi": {"api_paste_config": str(venv / "etc/nova/api-paste.ini")},
            "api_database": database("nova_api"),
            "database": database("nova"),
            "glance": {"api_servers": layout.url("glance")},
            "placement": inside,
            "cinder": {**login, "catalog_info": "volumev3::internalURL"},
            "neutron": inside,
            "service_user": own_token,
            "vnc": {"enabled": "false"},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
            "oslo_concurrency": locks("nova"),
            **let_in,
        },
        "neutron": {
            "DEFAULT": {
                **messages,
                "core_plugin": "ml2",
                "network_link_prefix": layout.public_root("neutron"),
                "service_plugins": "",
                "auth_strategy": "keystone",
                "api_paste_config": str(venv / "etc/neutron/api-paste.ini"),
                "state_path": str(data / "neutron"),
                "notify_nova_on_port_status_changes": "false",
                "notify_nova_on_port_data_changes": "false",
                "dhcp_agent_notification": "false",
                "rpc_workers": 0,
            },
            "ml2": {"type_drivers": "local,flat,vlan", "tenant_network_types": "local", "mechanism_drivers": "standin"},
            "oslo_concurrency": locks("neutron"),
            "database": database("neutron"),
            **let_in,
        },
    }
