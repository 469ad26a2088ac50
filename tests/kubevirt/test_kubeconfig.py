"""A kubeconfig whose keys stay in memory."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.kubevirt.kubeconfig import Kubeconfig, place_of
from mtv.model.connection import Connection
from mtv.model.errors import PermanentError


def written(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    document = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}]}
    path.write_text(json.dumps(document))
    return path


def test_inline_keys_become_memory_files_that_end_with_it(tmp_path: Path) -> None:
    key = base64.b64encode(b"the key").decode()
    kubeconfig = Kubeconfig(written(tmp_path, {"client-key-data": key, "token": "t"}))
    user = kubeconfig.document["users"][0]["user"]
    assert set(user) == {"client-key", "token"}
    assert Path(user["client-key"]).read_bytes() == b"the key"
    assert Path(user["client-key"]).is_file(), "clients ask that before they use one"
    kubeconfig.close()
    assert not Path(user["client-key"]).exists()
    kubeconfig.close()


def test_relative_paths_are_beside_the_kubeconfig(tmp_path: Path) -> None:
    user = {"client-certificate": "pki/u.crt", "tokenFile": "/abs/token", "exec": {"command": "bin/login"}}
    kubeconfig = Kubeconfig(written(tmp_path, user, **{"certificate-authority": "ca.crt"}))
    assert kubeconfig.document["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    found = kubeconfig.document["users"][0]["user"]
    assert found["client-certificate"] == str(tmp_path / "pki/u.crt")
    assert found["tokenFile"] == "/abs/token"
    assert found["exec"]["command"] == str(tmp_path / "bin/login")


def test_a_command_on_the_path_stays_one(tmp_path: Path) -> None:
    kubeconfig = Kubeconfig(written(tmp_path, {"exec": {"command": "login"}}))
    assert kubeconfig.document["users"][0]["user"]["exec"]["command"] == "login"


@given(st.sampled_from(["users: 7", "users: [7]", "users: [{user: 7}]", "a: [", "canary-key: : :", "- canary-key", ""]))
def test_what_is_no_kubeconfig_is_refused_without_showing_it(text: str) -> None:
    path = Path(f"/proc/self/fd/{(fd := os.memfd_create('config'))}")
    try:
        path.write_text(text)
        with pytest.raises(PermanentError) as caught:
            Kubeconfig(path)
    finally:
        os.close(fd)
    assert caught.value.code == "kubeconfig-invalid"
    assert "canary-key" not in str(caught.value)


def test_a_key_that_is_no_base64_is_refused_without_showing_it(tmp_path: Path) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(PermanentError) as caught:
        Kubeconfig(written(tmp_path, {"client-key-data": "canary!"}, **{"certificate-authority-data": "QQ=="}))
    assert "canary" not in str(caught.value)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def target(**extra: Any) -> Connection:
    return Connection(conn_id="ocp-east", conn_type="kubernetes", extra=extra)


def test_path_and_context_are_read_from_the_fields_of_airflows_form() -> None:
    assert place_of(target(kube_config_path="/etc/k", cluster_context="east")) == (Path("/etc/k"), "east")
    assert place_of(target(kube_config_path="/etc/k", cluster_context="", namespace="n")) == (Path("/etc/k"), None)


def test_a_connection_without_a_kubeconfig_is_asked_for_one_unless_it_is_that_of_the_pod() -> None:
    with pytest.raises(PermanentError, match=r"ocp-east names no kubeconfig — set extra\.kube_config_path"):
        place_of(target())
    assert place_of(target(in_cluster=True)) == (Path(), None)


@pytest.mark.parametrize("field", ["kube_config", "disable_verify_ssl"])
def test_a_field_of_the_form_that_would_do_nothing_is_refused_with_what_to_do(field: str) -> None:
    with pytest.raises(PermanentError, match=f"ocp-east: {field} is not supported") as refused:
        place_of(target(**{field: "canary", "kube_config_path": "/etc/k"}))
    assert "canary" not in str(refused.value)
    assert refused.value.cure
