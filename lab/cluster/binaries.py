"""The cluster's two Go programs. Needs only the standard library: they are built while everything else is installed."""

from __future__ import annotations

from pathlib import Path

from lab.cache import cached
from lab.gotool import go_binary

VERSION = "v1.34.4"
_MODULE = Path(__file__).parent
_PACKAGE = "k8s.io/component-base/version"
_STAMP = {
    "gitVersion": VERSION,
    "gitMajor": "1",
    "gitMinor": "34",
    "gitTreeState": "clean",
    "gitCommit": "none",
    "buildDate": "1970-01-01T00:00:00Z",
}


def binaries() -> Path:
    """The folder with `labkube`, `kubectl`, and beside them `labinit`: the runtime looks for it there."""
    stamp = " ".join(f"-X {_PACKAGE}.{key}={value}" for key, value in _STAMP.items())
    labkube = go_binary(_MODULE, name="labkube", ldflags=stamp)
    labinit = go_binary(_MODULE, name="labinit", package="./labinit")

    def build(folder: Path) -> None:
        for binary in (labkube, labinit):
            (folder / binary.name).hardlink_to(binary)
        (folder / "kubectl").symlink_to("labkube")

    return cached("cluster-bin", sources=[], build=build, extra_key=f"{labkube}\n{labinit}")
