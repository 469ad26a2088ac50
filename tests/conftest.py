"""The lab for tests that need a running one: brought up part by part on demand, shared by all workers of a run.

MTV_LAB_STATE   use the lab in this folder instead of a fresh temporary one
MTV_LAB_KEEP    leave it running afterwards: with MTV_LAB_STATE the next run starts at once
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from lab.state import PYTHON_PATH, State
from tests.traces import traces

if TYPE_CHECKING:
    from mtv.store import Store

# How long an example takes is the machine's business.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_STATE = pytest.StashKey[Path]()


class Lab:
    """Parts of the lab on demand. `lab.endpoints("cluster")` brings the cluster up if no worker did so yet."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self._known: dict[str, dict[str, Any]] = {}

    def endpoints(self, part: str) -> dict[str, Any]:
        """The part's endpoints, as in the part's own documentation; raises if the part does not come up."""
        from lab import control

        if part not in self._known:
            with _priority(0):  # every test uses it, whoever is the first
                control.up(self.state, [part])
            self._known[part] = self.state.endpoints(part)
        return self._known[part]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite."""
    from mtv.store import Store  # here: most tests need no database

    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as opened:
        opened.upgrade()
        yield opened


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


def pytest_sessionstart(session: pytest.Session) -> None:
    """Only now, so that it ends after the workers; pytest's summary is the last thing that is said all the same."""
    if not hasattr(session.config, "workerinput") and not os.environ.get("MTV_LAB_KEEP"):
        session.config.pluginmanager.register(_LastUse(session.config.stash[_STATE]))


_GROUPS = {
    "openstack": ("tests/openstack/",),
    "guests": ("tests/e2e/", "tests/steps/test_on_the_lab.py"),
    "lab": (
        "tests/kubevirt/test_cluster.py",
        "tests/kubevirt/test_encrypted_guests.py",
        "tests/kubevirt/test_leases.py",
        "tests/kubevirt/test_metrics_of_pods.py",
        "tests/kubevirt/test_target_facts.py",
        "tests/lab/test_cluster_contract.py",
        "tests/lab_kubevirt/",
        "tests/orchestration/test_live",
        "tests/orchestration/test_pods_in_a_cluster.py",
        "tests/steps/test_encrypted_guest_on_the_lab.py",
    ),
}
"""Tests of the shared lab, which one worker each runs: those that move its guests, and the others beside them.

Guests are few and each is on in one place at a time; a namespace of one's own is enough for everybody else.
"""


_UNHURRIED = 10
"""The niceness of all other tests: the guests' tests are a chain, which decides how long the whole run takes."""

_CAP_SYS_NICE = 23


def _may_change_priority() -> bool:
    capabilities = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return capabilities is not None and bool(int(capabilities[1], 16) >> _CAP_SYS_NICE & 1)


_MAY_CHANGE_PRIORITY = _may_change_priority()


@contextmanager
def _priority(niceness: int) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, at a priority, if it may be taken back afterwards."""
    if not _MAY_CHANGE_PRIORITY:
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with _priority(0 if scope_of(item.nodeid) in _GROUPS else _UNHURRIED):
        return (yield)


_USERS = {("airflow",): ("guests",), (): ("guests", "lab", "openstack")}
"""Parts of the shared lab (none named: all) to the groups whose tests use them."""


def scope_of(nodeid: str) -> str:
    """Return what one worker runs as a whole: a group of the shared lab, else the test's file."""
    for group, starts in _GROUPS.items():
        if nodeid.startswith(starts):
            return group
    return nodeid.partition("::")[0]


class _LastUse:
    """Stops parts of the shared lab after the last test that uses them: Airflow and a cluster never idle for free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = traces(folder)
        self._left: dict[str, set[str]] = {}
        self._stops = ThreadPoolExecutor(1)
        self._stopped: list[Future[None]] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Every worker has collected the same tests."""
        self._expect(ids)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect(item.nodeid for item in session.items)

    def _expect(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self._left.setdefault(scope_of(nodeid), set()).add(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        group = scope_of(nodeid)
        self._left[group].discard(nodeid)
        for parts, users in _USERS.items():
            if group in users and not any(self._left.get(user) for user in users):
                self._stopped.append(self._stops.submit(_take_down, self._folder, *parts))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take down what is up, in the process that ends last, and look whether the machine is as it was."""
        self._stops.shutdown()
        if not self._folder.is_dir():
            return
        try:
            for stopped in self._stopped:
                stopped.result()
        finally:
            _take_down(self._folder)
        left = {
            what for kind, found in traces(self._folder).items() for what in found if what not in self._before[kind]
        }
        if left:
            print(f"\nthe lab has left on this machine: {left}", file=sys.stderr)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not os.environ.get("MTV_LAB_STATE"):
            shutil.rmtree(self._folder)


def _take_down(folder: Path, *parts: str) -> None:
    """Stop parts of the shared lab (none named: all), in a process of its own.

    In this one pytest may just be making errors of the warnings of whatever is imported.
    """
    argv = [sys.executable, "-m", "lab", "down", "--state", folder, *parts]
    subprocess.run(argv, env={**os.environ, "PYTHONPATH": PYTHON_PATH}, check=True)


@pytest.hookimpl(trylast=True)  # after the order was shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups come first: they are the longest pieces of work that a worker can get.

    Raises `pytest.UsageError` for a test of the shared lab that no group has: the lab may be stopped before it runs.
    """
    first = list(_GROUPS)
    stray = {item.path.name for item in items if "lab" in item.fixturenames and scope_of(item.nodeid) not in first}
    if stray:
        raise pytest.UsageError(f"add to a group of the shared lab in tests/conftest.py: {', '.join(sorted(stray))}")
    items.sort(key=lambda item: first.index(scope) if (scope := scope_of(item.nodeid)) in first else len(first))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return Scheduler(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["mtv_lab_state"] = str(node.config.stash[_STATE])
