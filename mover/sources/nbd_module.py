"""Finds libnbd's Python module, which distributions ship for their own Python only and nobody ships as a wheel."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from mtv.model.errors import PermanentError

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
_CURE = "apt-get install python3-libnbd, and run the mover with the distribution's own Python version"


_one_at_a_time = threading.Lock()


def load_nbd(system_packages: Path = SYSTEM_PACKAGES) -> Any:
    """The module `nbd`. Inside a virtual environment only the two files of libnbd are taken from the system's folder,
    so that nothing else of it shadows the environment. Safe from several threads: the disks of a VM start together, and
    while one loads the module the others would find it half made.
    """
    with _one_at_a_time:
        return find_nbd(system_packages)


@lru_cache(maxsize=1)
def find_nbd(system_packages: Path) -> Any:
    """As `load_nbd`, for one thread."""
    try:
        return importlib.import_module("nbd")
    except ModuleNotFoundError:
        pass
    wrapper = system_packages / "nbd.py"
    compiled = sorted(system_packages.glob(f"libnbdmod.{sys.implementation.cache_tag}-*.so"))
    if not wrapper.exists():
        raise PermanentError("libnbd's Python module is not installed", cure=_CURE, code="libnbd-missing")
    if not compiled:
        built_for = ", ".join(path.name.split(".")[1] for path in system_packages.glob("libnbdmod.*.so")) or "nothing"
        raise PermanentError(
            f"libnbd's Python module is built for {built_for}, this is {sys.implementation.cache_tag}",
            cure=_CURE,
            code="libnbd-missing",
        )
    _load("libnbdmod", compiled[0])
    return _load("nbd", wrapper)


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PermanentError(f"{path} cannot be loaded", cure=_CURE, code="libnbd-missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise PermanentError(f"{path} does not load: {error}", cure=_CURE, code="libnbd-missing") from error
    return module
