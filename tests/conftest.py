"""The lab for tests that need a running one: brought up part by part on demand, shared by all workers of a run.

MTV_LAB_STATE   use the lab in this folder instead of a fresh temporary one
MTV_LAB_KEEP    leave it running afterwards: with MTV_LAB_STATE the next run starts at once
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_STATE = pytest.StashKey[Path]()


class Lab:
    """Parts of the lab on demand. `lab.endpoints("cluster")` brings the cluster up if no worker did so yet."""

    def __init__(self, folder: Path) -> None:
        from lab.state import State

        self.state = State(folder)
        self._known: dict[str, dict[str, Any]] = {}

    def endpoints(self, part: str) -> dict[str, Any]:
        """The part's endpoints, as in the part's own documentation; raises if the part does not come up."""
        from lab import control

        if part not in self._known:
            control.up(self.state, [part])
            self._known[part] = self.state.endpoints(part)
        return self._known[part]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(request.config.stash[_STATE])


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a worker of xdist: the controller chose the folder
        config.stash[_STATE] = Path(config.workerinput["mtv_lab_state"])
    elif named := os.environ.get("MTV_LAB_STATE"):
        config.stash[_STATE] = Path(named).resolve()
    else:
        # Only a name yet, short because of Unix sockets below it: most runs need no lab and make no folder.
        config.stash[_STATE] = Path(tempfile.gettempdir()) / f"mtv-lab-{os.getpid()}"


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Tests of the shared lab go to two workers at most: those that move its guests, and all others.

    Guests are few and each is on in one place at a time; a namespace of one's own is enough for everybody else. Both
    groups come first, because they are the longest pieces of work that a worker can get.
    """
    places = {"guests": 0, "lab": 1}
    place: dict[pytest.Item, int] = {}
    for item in items:
        place[item] = len(places)
        if item.get_closest_marker("lab"):
            group = "guests" if item.path.parts[-2] in {"e2e", "steps"} else "lab"
            item.add_marker(pytest.mark.xdist_group(group))  # before xdist reads the marks
            place[item] = places[group]
    yield  # here the order is shuffled
    items.sort(key=lambda item: place[item])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["mtv_lab_state"] = str(node.config.stash[_STATE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the lab down in the process that ends last: the controller of the workers, or the only one."""
    folder = config.stash.get(_STATE, None)
    if folder is None or hasattr(config, "workerinput") or os.environ.get("MTV_LAB_KEEP") or not folder.is_dir():
        return
    from lab import control
    from lab.state import State

    control.down(State(folder))
    if not os.environ.get("MTV_LAB_STATE"):
        shutil.rmtree(folder)
