"""The connection types: their forms and their Test buttons."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def manager():
    from airflow.providers_manager import ProvidersManager

    return ProvidersManager()


@pytest.mark.parametrize("conn_type", ["vsphere", "ovirt", "openstack", "ova"])
def test_airflow_finds_the_connection_type_and_its_hook(conn_type):
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    hook = ProvidersManagerTaskRuntime().hooks[conn_type]
    assert hook is not None
    assert hook.package_name == "mtv"
    assert hook.connection_testable is True


@pytest.mark.parametrize("conn_type", ["vsphere", "ovirt"])
def test_the_form_asks_for_certificates_and_hides_what_it_does_not_need(manager, conn_type):
    from mtv.orchestration.provider import get_provider_info

    (known,) = (each for each in get_provider_info()["connection-types"] if each["connection-type"] == conn_type)
    assert {"ca_file", "ca_pem", "thumbprint", "insecure"} <= set(known["conn-fields"])
    behaviour = manager.field_behaviours[conn_type]
    assert "password" not in behaviour["hidden_fields"]
    assert {"schema", "extra"} <= set(behaviour["hidden_fields"])


def test_the_forms_have_a_field_for_every_key_that_is_read():
    from mtv.orchestration.provider import get_provider_info
    from mtv.providers.registry import EXTRA_KEYS

    forms = {each["connection-type"]: set(each["conn-fields"]) for each in get_provider_info()["connection-types"]}
    assert forms == EXTRA_KEYS


def connection(**fields):
    known = {"conn_id": "c", "conn_type": "", "host": "", "port": None, "login": "", "password": "", "schema": ""}
    return SimpleNamespace(**{**known, **fields, "extra_dejson": fields.get("extra", {})})


def hook_for(kind: str, found, monkeypatch):
    from mtv.orchestration import hooks

    hook = getattr(hooks, kind)("c")
    monkeypatch.setattr(type(hook), "get_connection", classmethod(lambda cls, conn_id: found))
    return hook


@pytest.mark.parametrize(("conn_type", "hook"), [("vsphere", "VsphereHook"), ("ovirt", "OvirtHook")])
def test_the_test_button_of_an_unreachable_source_says_so_without_the_password(monkeypatch, conn_type, hook):
    found = connection(conn_type=conn_type, host="127.0.0.1", port=1, login="u", password="canary-password")
    ok, message = hook_for(hook, found, monkeypatch).test_connection()
    assert ok is False
    assert "127.0.0.1" in message
    assert "canary" not in message


def test_the_test_button_of_an_ova_folder_answers(tmp_path, monkeypatch):
    found = connection(conn_type="ova", extra={"path": str(tmp_path)})
    assert hook_for("OvaHook", found, monkeypatch).test_connection()[0] is True
    gone = connection(conn_type="ova", extra={"path": str(tmp_path / "nowhere")})
    ok, message = hook_for("OvaHook", gone, monkeypatch).test_connection()
    assert ok is False
    assert "nowhere" in message


def test_a_volume_typed_into_the_form_as_json_becomes_a_volume():
    from mtv.orchestration.connections import from_airflow

    typed = connection(conn_type="ova", extra={"path": "/srv", "volume": json.dumps({"nfs": {"server": "s"}})})
    assert from_airflow(typed).extra["volume"] == {"nfs": {"server": "s"}}


def test_a_volume_that_is_no_json_is_refused_by_name():
    from mtv.model.errors import PermanentError
    from mtv.orchestration.connections import from_airflow

    with pytest.raises(PermanentError, match="volume"):
        from_airflow(connection(conn_type="ova", extra={"volume": "{nfs"}))
