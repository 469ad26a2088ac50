"""The lock on the work volume: one mover at a time, and an older one never writes after a newer one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mover.failure import VolumeHeld
from mover.worklock import work_lock
from mtv.model.errors import TemporaryError


def test_a_second_mover_of_the_same_or_an_older_epoch_is_refused(tmp_path: Path) -> None:
    with work_lock(tmp_path, 3) as lock:
        for epoch in (3, 2):
            with pytest.raises(VolumeHeld), work_lock(tmp_path, epoch):
                pass
        lock.check()


def test_the_lock_is_free_after_its_holder(tmp_path: Path) -> None:
    for epoch in (1, 1, 2):
        with work_lock(tmp_path, epoch) as lock:
            lock.check()


def test_an_older_epoch_is_refused_even_when_nobody_holds_the_lock(tmp_path: Path) -> None:
    with work_lock(tmp_path, 5):
        pass
    with pytest.raises(VolumeHeld, match="epoch 5"), work_lock(tmp_path, 4):
        pass


def test_a_newer_epoch_gets_the_lock_when_the_older_holder_lets_go(tmp_path: Path) -> None:
    entered = threading.Event()

    def newer() -> None:
        with work_lock(tmp_path, 2, takeover_wait_s=60) as lock:
            lock.check()
            entered.set()

    with work_lock(tmp_path, 1) as old:
        thread = threading.Thread(target=newer)
        thread.start()
        while True:
            try:
                old.check()
            except VolumeHeld:
                break
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_a_holder_that_does_not_answer_is_fenced_off(tmp_path: Path) -> None:
    with work_lock(tmp_path, 1) as frozen, work_lock(tmp_path, 2, takeover_wait_s=0) as newer:
        newer.check()
        with pytest.raises(VolumeHeld):
            frozen.check()
        with pytest.raises(VolumeHeld), work_lock(tmp_path, 1):
            pass
        newer.check()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["stat", "pread"])
def test_a_lock_that_cannot_be_looked_at_is_an_error_of_the_work_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with work_lock(tmp_path, 1) as lock:
        with monkeypatch.context() as broken:
            broken.setattr(*(Path, "stat") if call == "stat" else (os, "pread"), failing(number))
            with pytest.raises(TemporaryError) as caught:
                lock.check()
        assert caught.value.code == "work-volume-io"
        lock.check()


def test_a_lock_file_that_was_replaced_is_lost_though_its_server_knows_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with work_lock(tmp_path, 1) as frozen, work_lock(tmp_path, 2, takeover_wait_s=0):
        monkeypatch.setattr(os, "pread", failing(errno.ESTALE))
        with pytest.raises(VolumeHeld):
            frozen.check()


def failing(number: int) -> Callable[..., object]:
    def fail(*_arguments: object, **_options: object) -> object:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_removed_lock_file_stops_its_holder(tmp_path: Path) -> None:
    with work_lock(tmp_path, 1) as lock:
        (tmp_path / "lock").unlink()
        with pytest.raises(VolumeHeld):
            lock.check()
