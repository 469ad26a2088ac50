"""What can be known of Airflow's image without Docker: its entry point runs what compose and Airflow's chart ask."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

REPO = Path(__file__).parents[2]
DOCKERFILE = (REPO / "Dockerfile").read_text()
COMPOSE = YAML(typ="safe").load(REPO / "docker-compose.yaml")
CHARTS = {
    "api-server": (["bash", "-c", "exec airflow api-server"], ["api-server"]),
    "scheduler": (["bash", "-c", "exec airflow scheduler"], ["scheduler"]),
    "migration": (["bash", "-c", "exec \\\nairflow db migrate"], ["db", "migrate"]),
    "init": (["airflow", "db", "check-migrations", "--migration-wait-timeout=60"],
             ["db", "check-migrations", "--migration-wait-timeout=60"]),
    "values": (["bash", "-c", 'exec airflow "$@"', "--", "-r", "a b", ""], ["-r", "a b", ""]),
}  # fmt: skip
"""What containers of Airflow's chart are given as arguments, and what Airflow must be given then."""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with an `airflow` that prints its arguments and a `tini` that only runs what it is given."""
    for name, script in {
        "airflow": """import json, sys; print(json.dumps(sys.argv[1:]))""",
        "tini": """import os, sys; os.execvp(sys.argv[2], sys.argv[2:])""",
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env python3\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def instruction(name: str) -> list[str]:
    """The last instruction of that name, in its JSON form."""
    found: list[str] = json.loads(re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])
    return found


def copied() -> dict[str, str]:
    """Place in the image to place in this repository, of the files and folders that the build copies."""
    lines = [line.split()[1:] for line in DOCKERFILE.splitlines() if re.match(r"COPY (?!--from)", line)]
    return {target: source for *sources, target in lines for source in sources}


def here(word: str) -> str:
    """A file of the image as it lies here; every other word as it is."""
    return str(REPO / copied()[word]) if word in copied() else word


def run(programs: Path, command: list[str]) -> Any:
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    ended = subprocess.run(command, env=environ, check=True, capture_output=True, text=True, timeout=300)
    return json.loads(ended.stdout)


def started(programs: Path, arguments: list[str]) -> Any:
    """What Airflow is given when a container starts with these arguments."""
    return run(programs, [here(word) for word in (*instruction("ENTRYPOINT"), *arguments)])


@pytest.mark.parametrize(("arguments", "given"), CHARTS.values(), ids=CHARTS)
def test_a_container_of_the_chart_starts_what_the_chart_asks_for(
    programs: Path, arguments: list[str], given: list[str]
) -> None:
    assert started(programs, arguments) == given


@pytest.mark.parametrize("job", ["SchedulerJob", "TriggererJob", "DagProcessorJob"])
def test_a_probe_of_the_chart_asks_airflow(programs: Path, job: str) -> None:
    probe = f"CONNECTION_CHECK_MAX_COUNT=0 exec {here('/entrypoint')} \\\nairflow jobs check --job-type {job} --local"
    assert run(programs, ["sh", "-c", probe]) == ["jobs", "check", "--job-type", job, "--local"]


@pytest.mark.parametrize(
    "command", [service["command"] for name, service in COMPOSE["services"].items() if name != "postgres"], ids=str
)
def test_a_service_of_compose_starts_its_command_of_airflow(programs: Path, command: list[str]) -> None:
    assert started(programs, command) == command


def test_without_a_command_the_container_says_its_version(programs: Path) -> None:
    assert started(programs, instruction("CMD")) == ["version"]


def test_other_programs_of_the_image_run_as_they_are(programs: Path) -> None:
    assert started(programs, ["python", "-c", "print([1])"]) == [1]
    assert started(programs, ["sh", "-c", 'echo "[$0]"', "2"]) == [2]


def test_docker_is_shown_everything_that_it_copies() -> None:
    shown = [line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied().values():
        assert (REPO / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in shown), source


def test_the_entry_point_may_be_executed() -> None:
    assert os.access(here("/entrypoint"), os.X_OK)
