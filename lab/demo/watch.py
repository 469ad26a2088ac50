"""Live progress of a run: one bar per disk on a terminal, one line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mtv.store import ProgressRow, Store

POLL_S = 1.0


def watch(store: Store, run_id: str, *, finished: Callable[[], bool], console: Console, timeout_s: float) -> None:
    """Show steps and bytes until `finished()`; raises `TimeoutError` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    view = _Bars(console) if console.is_terminal else _Lines(console)
    with view:
        while True:
            done = finished()
            view.show(store, run_id)
            if done:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the wave is still running after {timeout_s:.0f} s")
            time.sleep(POLL_S)


def describe(row: ProgressRow) -> tuple[str, float]:
    """Return what a row says and how far it is (0 to 100)."""
    progress = row.progress
    if progress.percent is not None:
        return f"{row.step} · {progress.phase}", progress.percent
    total = max(progress.bytes_total, 1)
    done = min(100.0, 100 * progress.bytes_done / total)
    rate = f" · {progress.rate_bytes_per_s / 2**20:.0f} MiB/s" if progress.rate_bytes_per_s else ""
    eta = f" · {progress.eta_s:.0f} s left" if progress.eta_s else ""
    return f"{row.step} · {progress.phase} · {progress.bytes_done / 2**20:.0f} MiB{rate}{eta}", done


class _Lines:
    """For a log: a line when a VM enters a step, and when a disk's progress moved by a tenth."""

    def __init__(self, console: Console) -> None:
        self._console, self._said = console, dict[str, str]()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, store: Store, run_id: str) -> None:
        for step in store.steps(run_id):
            who = step.vm_id or "wave"
            self._say(
                f"step {step.id}", f"{who:<12} {step.step:<20} {step.state}{f': {step.error}' if step.error else ''}"
            )
        for row in store.progress(run_id):
            text, done = describe(row)
            tenth = f"{row.vm_id} {row.step} {row.progress.disk} {row.progress.phase} {done // 10}"
            if self._said.get(f"{row.vm_id} {row.progress.disk}") != tenth:
                self._said[f"{row.vm_id} {row.progress.disk}"] = tenth
                self._console.print(f"  {row.vm_id:<12} {row.progress.disk:<12} {text} ({done:.0f} %)", highlight=False)

    def _say(self, key: str, text: str) -> None:
        if self._said.get(key) != text:
            self._said[key] = text
            self._console.print(f"  {text}", highlight=False)


class _Bars:
    """For a terminal: one bar per VM and disk, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[vm]:<10}"),
            TextColumn("{task.fields[disk]:<10}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}"),
            console=console,
        )
        self._bars: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, store: Store, run_id: str) -> None:
        for step in store.steps(run_id):
            self._set(step.vm_id or "wave", "", f"{step.step} {step.state}", None)
        for row in store.progress(run_id):
            text, done = describe(row)
            self._set(row.vm_id, row.progress.disk, text, done)

    def _set(self, vm: str, disk: str, text: str, done: float | None) -> None:
        key = (vm, disk)
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(text, total=100, vm=vm, disk=disk)
        self._progress.update(self._bars[key], description=text, completed=done)
