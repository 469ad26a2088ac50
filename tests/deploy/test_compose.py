"""What can be known of the compose file without Docker: its secrets fit it, and Airflow knows every setting."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

REPO = Path(__file__).parents[2]
NO_LONGER_THERE = {"AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"}
"""Airflow 3.3 collects no usage data; other versions do, and the setting stays for them."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's folder after `deploy/make-secrets`."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copytree(REPO / "deploy", folder / "deploy")
    shutil.copy(REPO / "docker-compose.yaml", folder)
    make_secrets(folder)
    return folder


@pytest.fixture(scope="module")
def compose(installation: Path) -> Any:
    return YAML(typ="safe").load(installation / "docker-compose.yaml")


def make_secrets(folder: Path) -> None:
    subprocess.run([folder / "deploy" / "make-secrets"], capture_output=True, check=True, timeout=300)


def secret(folder: Path, name: str) -> Path:
    return folder / "var" / "secrets" / name


def mounted(service: Any) -> dict[str, str]:
    """Place in the container to place on the host, or name of a volume."""
    pairs = [volume.split(":")[:2] for volume in service.get("volumes", ())]
    return {inside: outside for outside, inside in pairs}


def test_every_file_that_the_services_are_given_is_made(installation: Path, compose: Any) -> None:
    assert all((installation / entry["file"]).is_file() for entry in compose["secrets"].values())
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        own = [path for path in mounted(service).values() if path.startswith("./var/")]
        assert all((installation / path).exists() for path in own)


def test_containers_may_read_the_secrets_and_other_users_of_the_host_may_not(installation: Path) -> None:
    folder = installation / "var" / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o444 for path in folder.iterdir()} == {0o444}
    # Only the API server's file of passwords is opened for writing.
    assert [path.name for path in folder.iterdir() if path.is_file() and path.stat().st_mode & 0o222] == ["users.json"]


def test_the_file_of_passwords_is_where_the_api_server_looks_and_no_other_service_has_it(compose: Any) -> None:
    place = compose["x-airflow"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]
    assert [name for name, service in compose["services"].items() if place in mounted(service)] == ["api-server"]
    shared = set(mounted(compose["x-airflow"]))
    assert set(mounted(compose["services"]["api-server"])) == shared | {place}


def test_both_databases_are_reached_with_the_servers_password(installation: Path) -> None:
    password = secret(installation, "postgres_password").read_text()
    store = json.loads(secret(installation, "connections.json").read_text())["mtv_store"]
    assert len(password) >= 32
    assert store["password"] == password
    assert f":{password}@" in secret(installation, "airflow_dsn").read_text()


def test_what_was_made_once_stays(installation: Path) -> None:
    before = {path.name: path.read_bytes() for path in (installation / "var" / "secrets").glob("*") if path.is_file()}
    make_secrets(installation)
    assert before == {name: secret(installation, name).read_bytes() for name in before}


def test_airflow_knows_every_setting(compose: Any) -> None:
    known = YAML(typ="safe").load((files("airflow") / "config_templates" / "config.yml").read_text())
    settings = [name for name in compose["x-airflow"]["environment"] if name.startswith("AIRFLOW__")]
    settings += re.findall(r"\bAIRFLOW__\w+", (REPO / "Dockerfile").read_text())
    for name in set(settings) - NO_LONGER_THERE:
        _, section, option = name.lower().split("__")
        options = known[section]["options"]
        plain = option.removesuffix("_cmd")
        assert option in options or (plain in options and options[plain].get("sensitive")), name


def test_docker_reads_the_file(installation: Path) -> None:
    if shutil.which("docker") is None or not docker_compose(installation, "version").startswith("Docker Compose"):
        pytest.skip("Docker Compose is not installed")
    docker_compose(installation, "config", "--quiet", check=True)


def docker_compose(folder: Path, *words: str, check: bool = False) -> str:
    """Run it on the folder's `docker-compose.yaml`."""
    command = ["docker", "compose", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=check, timeout=300).stdout
