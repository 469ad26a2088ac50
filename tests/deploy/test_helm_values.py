"""The values for Airflow's chart fit the image and Airflow: what the chart expects and the image lacks is off."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

REPO = Path(__file__).parents[2]
NO_LONGER_THERE = {("usage_data_collection", "enabled")}
"""Airflow 3.3 collects no usage data; other versions do, and the setting stays for them."""


@pytest.fixture(scope="module")
def values() -> Any:
    return YAML(typ="safe").load(REPO / "deploy" / "helm-values.yaml")


def test_airflow_knows_every_setting(values: Any) -> None:
    known = YAML(typ="safe").load((files("airflow") / "config_templates" / "config.yml").read_text())
    settings = {(section, option) for section, options in values["config"].items() for option in options}
    assert [pair for pair in settings - NO_LONGER_THERE if pair[1] not in known[pair[0]]["options"]] == []


def test_the_chart_is_told_the_version_that_the_image_holds(values: Any) -> None:
    pins = (REPO / "requirements.txt").read_text()
    assert re.search(rf"^apache-airflow=={re.escape(values['airflowVersion'])}$", pins, re.MULTILINE)


def test_the_auth_manager_is_one_that_the_image_has(values: Any) -> None:
    """The chart's own default is that of a provider that is not installed."""
    module, _ = values["config"]["core"]["auth_manager"].rsplit(".", 1)
    assert find_spec(module) is not None
    assert values["createUserJob"]["enabled"] is False  # `airflow users` comes with that provider


def test_no_sidecar_wants_a_script_of_airflows_own_image(values: Any) -> None:
    for component in ("scheduler", "dagProcessor", "triggerer"):
        assert values[component]["logGroomerSidecar"]["enabled"] is False


def test_every_mounted_volume_is_defined_and_the_users_passwords_lie_on_one_that_can_be_written(values: Any) -> None:
    mounts = {mount["mountPath"]: mount for mount in values["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in values["volumes"]}
    folder = str(Path(values["config"]["core"]["simple_auth_manager_passwords_file"]).parent)
    assert not mounts[folder].get("readOnly")


def test_what_the_values_name_is_made_by_the_commands_of_the_guide(values: Any) -> None:
    guide = (REPO / "docs" / "install.md").read_text()
    keys = {"fernetKey": "fernet-key", "apiSecretKey": "api-secret-key", "jwt": "jwt-secret"}
    for field, key in keys.items():
        name = values[f"{field}SecretName"]
        assert re.search(rf"create secret generic {name} [^`]*--from-file={key}=", guide), key
    assert f"create secret generic {values['data']['metadataSecretName']} -n mtv --from-file=connection=" in guide
    for volume in values["volumes"]:
        kind, source = next((kind, source) for kind, source in volume.items() if kind != "name")
        name = source.get("name") or source.get("secretName") or source.get("claimName")
        said = {"configMap": "create configmap", "secret": "create secret generic", "persistentVolumeClaim": "claim"}
        assert re.search(rf"{said[kind]} `?{name}\b", guide), name
