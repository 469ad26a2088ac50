"""Connections from a file: what airflow exports, safely kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.providers.connections import FileConnections
from mtv.providers.registry import open_provider


def write(path, entries, mode=0o600):
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    path.chmod(mode)
    return FileConnections(path)


def test_an_exported_connection_is_read(tmp_path):
    entry = {
        "conn_type": "vsphere",
        "description": None,
        "host": "vc.example.test",
        "login": "u",
        "password": "p",
        "schema": "",
        "port": 8443,
        "extra": '{"thumbprint": "aa"}',
    }
    connection = write(tmp_path / "c.json", {"vc": entry}).get("vc")
    assert connection == Connection(
        conn_id="vc",
        conn_type="vsphere",
        host="vc.example.test",
        login="u",
        password="p",
        port=8443,
        extra={"thumbprint": "aa"},
    )


def test_extra_may_be_an_object(tmp_path):
    connections = write(tmp_path / "c.json", {"o": {"conn_type": "ova", "extra": {"path": "/srv"}}})
    assert connections.get("o").extra == {"path": "/srv"}
    assert connections.ids() == ["o"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_open_is_refused(tmp_path, mode):
    with pytest.raises(PermanentError, match="chmod 600"):
        write(tmp_path / "c.json", {"vc": {"conn_type": "vsphere"}}, mode).get("vc")


def test_a_secret_on_a_read_only_mount_has_the_mode_of_its_mount(tmp_path):
    write(tmp_path / "c.json", {"vc": {"conn_type": "vsphere"}}, 0o444)
    script = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c '
from pathlib import Path
from mtv.providers.connections import FileConnections
print(FileConnections(Path("c.json")).ids())'"""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    said = subprocess.run(
        ["unshare", *as_root, "--mount", "sh", "-c", f"{script.replace('c.json', str(tmp_path / 'c.json'))}",
         "sh", str(tmp_path), sys.executable],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert said.stdout == "['vc']\n", said.stderr


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"vc": {"conn_type": "vsphere", "pasword": "canary"}}, "pasword"),
        ({"vc": {"conn_type": ""}}, "no conn_type"),
        ({"vc": "vsphere://u:canary@h"}, "object"),
        ({"vc": {"conn_type": "vsphere", "port": "canary"}}, "port"),
        ({"vc": {"conn_type": "vsphere", "password": ["canary"]}}, "password"),
        ({"vc": {"conn_type": "vsphere", "extra": "{canary"}}, "extra"),
        (["canary"], "one object"),
        ('{"vc": {"password": "canary"', "not JSON"),
    ],
)
def test_a_malformed_file_is_explained_without_showing_secrets(tmp_path, entries, said):
    with pytest.raises(PermanentError, match=said) as caught:
        write(tmp_path / "c.json", entries).get("vc")
    assert "canary" not in str(caught.value)


def test_an_unknown_connection_names_the_known_ones(tmp_path):
    with pytest.raises(PermanentError, match="it holds: a, b"):
        write(tmp_path / "c.json", {"b": {"conn_type": "ova"}, "a": {"conn_type": "ova"}}).get("c")


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(PermanentError, match="MTV_CONNECTIONS_FILE"):
        FileConnections(tmp_path / "none.json").get("vc")


def test_a_type_that_is_no_source_is_refused():
    with pytest.raises(PermanentError, match="ova, ovirt, vsphere"):
        open_provider(Connection(conn_id="k", conn_type="kubernetes"))


@pytest.mark.parametrize(
    ("conn_type", "key", "meant"),
    [
        ("vsphere", "ca-file", "ca_file"),
        ("vsphere", "Insecure", "insecure"),
        ("ovirt", "thumprint", "thumbprint"),
        ("openstack", "application_credentials_id", "application_credential_id"),
        ("ova", "volumes", "volume"),
    ],
)
def test_a_key_of_extra_that_looks_misspelt_is_refused(conn_type, key, meant):
    with pytest.raises(PermanentError, match="which nothing reads") as caught:
        open_provider(Connection(conn_id="c", conn_type=conn_type, host="h", extra={key: "x"}))
    assert caught.value.cure == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("conn_type", "key", "value", "cure"),
    [
        ("vsphere", "insecure", "true", "write true or false, without quotes"),
        ("ovirt", "use_proxy", 1, "write true or false, without quotes"),
        ("ovirt", "ca_file", ["/etc/ca.pem"], "write a text, in quotes"),
        ("vsphere", "thumbprint", 17, "write a text, in quotes"),
        ("ova", "path", {"a": 1}, "write a text, in quotes"),
    ],
)
def test_a_value_of_extra_that_is_of_the_wrong_kind_is_refused(conn_type, key, value, cure):
    with pytest.raises(PermanentError, match=rf"extra\.{key} is ") as caught:
        open_provider(Connection(conn_id="c", conn_type=conn_type, host="h", login="u", extra={key: value}))
    assert caught.value.cure == cure


def test_the_volume_of_a_folder_of_appliances_is_an_object():
    extra = {"path": "/srv/ova", "volume": {"nfs": {"server": "s", "path": "/srv/ova"}}}
    open_provider(Connection(conn_id="c", conn_type="ova", extra=extra))


def test_what_a_form_left_empty_is_no_value_of_the_wrong_kind():
    extra = {"insecure": None, "ca_file": "", "thumbprint": None}
    open_provider(Connection(conn_id="c", conn_type="vsphere", host="h", login="u", extra=extra))


def test_a_host_that_is_written_as_a_url_is_told_so():
    where = {"host": "https://vcenter.invalid/sdk", "login": "u", "password": "p"}
    with (
        pytest.raises(PermanentError, match="does not resolve") as caught,
        open_provider(Connection(conn_id="c", conn_type="vsphere", **where)),
    ):
        pass
    assert caught.value.cure == "write the host's name alone, without https:// and path"


def test_a_connection_that_is_nearly_called_so_is_suggested(tmp_path):
    file = tmp_path / "connections.json"
    file.write_text('{"rhv-1": {"conn_type": "ovirt"}, "vcenter": {"conn_type": "vsphere"}}')
    file.chmod(0o600)
    with pytest.raises(PermanentError) as caught:
        FileConnections(file).get("RHV1")
    assert caught.value.cure == "did you mean 'rhv-1'? It holds: rhv-1, vcenter"


def test_a_key_of_extra_that_others_put_there_does_no_harm():
    extra = {"path": "/srv/ova", "owner": "team storage"}
    open_provider(Connection(conn_id="c", conn_type="ova", extra=extra))


def test_an_authority_that_is_no_certificate_is_refused_with_what_to_set():
    connection = Connection(conn_id="vc", conn_type="vsphere", host="127.0.0.1", port=1, extra={"ca_pem": "no PEM"})
    with pytest.raises(PermanentError, match="not a PEM certificate") as caught, open_provider(connection):
        pass
    assert "extra.ca_file" in caught.value.cure
