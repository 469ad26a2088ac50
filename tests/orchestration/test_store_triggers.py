"""What waits in the triggerer outlives a store that does not answer for a while; the store is a real, locked file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mtv.model.transfer import Progress
from mtv.orchestration import trigger_store
from mtv.orchestration.pods.log import Told
from mtv.orchestration.pods.trigger import MoverPodTrigger
from mtv.orchestration.trigger_store import StoreTrigger
from mtv.store import Store, database


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the triggerer's store, which gives up waiting for a lock at once."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr(database, "_WAL_ATTEMPTS", 1)
    path = tmp_path / "store.sqlite"
    with Store.open(f"sqlite:///{path}") as store:
        store.upgrade()
        monkeypatch.setitem(trigger_store._stores, "", store)
        yield path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file for readers, too."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield


class Waiting(StoreTrigger):
    """Waits for a store that answers at all, and counts its looks."""

    fields = ()
    poll_s = 0.01
    looks = 0

    def is_over(self, store: Store) -> bool:
        self.looks += 1
        store.vms("p")
        return True


class Mistaken(Waiting):
    def is_over(self, store: Store) -> bool:
        raise LookupError("a fault of the program")


async def fired(trigger: StoreTrigger) -> None:
    async for _ in trigger.run():
        return


def test_a_store_that_is_locked_for_a_while_only_delays_who_waits(path: Path, capsys: pytest.CaptureFixture) -> None:
    async def wait(trigger: Waiting) -> None:
        with locked(path):
            waiting = asyncio.create_task(fired(trigger))
            while trigger.looks < 3:
                assert not waiting.done(), waiting.exception()
                await asyncio.sleep(0.01)
        await waiting

    asyncio.run(wait(Waiting()))
    said = capsys.readouterr().out
    assert said.count("the wait goes on") == 1
    assert "sqlite://" not in said


def test_a_store_that_stays_silent_sends_the_task_to_look_itself(
    path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_store, "_SILENCE_LIMIT_S", 0)
    with locked(path):
        asyncio.run(fired(Waiting()))
    assert "the task itself has a look" in capsys.readouterr().out


@pytest.mark.usefixtures("path")
def test_a_fault_of_the_program_is_not_waited_out() -> None:
    with pytest.raises(LookupError):
        asyncio.run(fired(Mistaken()))


def test_progress_that_cannot_be_kept_does_not_end_the_watch(path: Path, capsys: pytest.CaptureFixture) -> None:
    watch = MoverPodTrigger(
        connection_id="c", namespace="n", pod="web-1-transfer-1", uid="u", run="1", vm_id="vm-1", vm_name="web-1",
        step="transfer", poll_s=1,
    )  # fmt: skip
    with locked(path):
        asyncio.run(watch._pass_on(Told(lines=("hello",), progress=(Progress(disk="d0"),))))
    said = capsys.readouterr().out
    assert "progress is not kept" in said
    assert "sqlite://" not in said
