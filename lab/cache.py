"""Things that are slow to make and the same every time: built once per version of their sources, kept below `~/.cache`.

<cache>/<name>-<key>/     the finished thing; the key is the hash of its sources
<cache>/.building/        drafts and locks: a crash in the middle never leaves a half-made thing under its name
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_UNUSED_AFTER_S = 14 * 24 * 3600


def cache_folder() -> Path:
    """`$MTV_CACHE`, else `~/.cache/mtv`."""
    return Path(os.environ.get("MTV_CACHE") or Path.home() / ".cache" / "mtv").resolve()


def cached(name: str, *, sources: Sequence[Path], build: Callable[[Path], None], extra_key: str = "") -> Path:
    """The folder that `build(folder)` filled for exactly these sources; built now if it is not there yet.

    `sources` are files or whole folders; `extra_key` is anything else that changes the result (a version, flags).
    Several processes may ask at once: one builds, the others wait. What `build` raises is passed on.
    """
    key = source_hash(sources, extra_key)[:20]
    final = cache_folder() / f"{name}-{key}"
    if _use(final):
        return final
    drafts = cache_folder() / ".building"
    drafts.mkdir(parents=True, exist_ok=True)
    with _lock(drafts / f"{name}-{key}.lock", name):
        if _use(final):
            return final
        draft = drafts / f"{name}-{key}"
        shutil.rmtree(draft, ignore_errors=True)  # what a crashed build left; if it stays, mkdir says so
        draft.mkdir()
        with say_going_on(f"building {name} (only once for this version)"):
            build(draft)
        draft.rename(final)
        _drop_unused(name, keep=final)
    return final


def source_hash(sources: Sequence[Path], extra_key: str = "") -> str:
    """SHA-256 over names, contents and executable bits of the files; independent of where the repository lies."""
    digest = hashlib.sha256(extra_key.encode())
    for source in sources:
        for path in sorted(_files(source)):
            relative = path.relative_to(source.parent)
            executable = bool(path.stat().st_mode & 0o100)
            digest.update(f"\0{relative}\0{executable}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as data:
                digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def say(text: str) -> None:
    """One line for the person who waits, on stderr: stdout is for results."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def say_going_on(what: str, every_s: float = 20) -> Iterator[None]:
    """Say that something slow starts, that it still goes on, and how long it took."""
    started, done = time.monotonic(), threading.Event()

    def remind() -> None:
        while not done.wait(every_s):
            say(f"still {what}, {time.monotonic() - started:.0f} s so far")

    say(what)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
    say(f"done {what}: {time.monotonic() - started:.1f} s")


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _use(folder: Path) -> bool:
    """Is it there? Then note that it was used."""
    if not folder.is_dir():
        return False
    os.utime(folder)
    return True


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with say_going_on(f"waiting for another process that builds {name}", every_s=120):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _drop_unused(name: str, *, keep: Path) -> None:
    """Delete older versions that nobody used for two weeks."""
    for old in cache_folder().glob(f"{name}-*"):
        is_version = len(old.name) == len(keep.name)  # `disk-…` must not drop `disk-big-…`
        if old != keep and is_version and time.time() - old.stat().st_mtime > _UNUSED_AFTER_S:
            shutil.rmtree(old)
