"""Sources that nbdkit reads for us: it runs as a child on a private Unix socket, and we read it like any NBD server.

    Nbdkit (child, its stderr) ──▶ NbdkitSource (extents, readers) ──▶ explain: what nbdkit said → code and cure

Credentials reach nbdkit by the names of files. It ends with us, also when we are killed; if it dies it is started again
for the next connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mover.geometry import Extent
from mover.sources.base import Reader, ReadRequest
from mover.sources.nbd import NbdSource, NoSocket
from mtv.model.errors import DriftError, MtvError, PermanentError, TemporaryError

RETRY_FILTER = ("--filter=retry",)
RETRY_SETTINGS: Mapping[str, str] = {"retries": "3", "retry-delay": "1"}
"""A broken connection is opened again by nbdkit itself, within 7 s; what lasts longer we try again."""
_START_WITHIN_S = 30.0
_END_WITHIN_S = 10.0
_LOOK_EVERY_S = 2
_POLL_S = 0.02
_WORDS_WITHIN_S = 1.0
"""How long the words for a failure may come after it: they take another way."""
_WORDS_LAST_S = 90.0
_MOST_LINES = 50
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_ERROR = re.compile(r"nbdkit: .*?error: (.*)")


class Explanation(NamedTuple):
    """What words of nbdkit mean: a pattern to search for, the error's kind, code and cure."""

    pattern: str
    kind: type[PermanentError] | type[TemporaryError]
    code: str
    cure: str


_OF_NBDKIT = (
    Explanation(
        r"cannot open plugin|cannot open filter",
        PermanentError,
        "source-no-plugin",
        "install an nbdkit that has this plugin (and its filters) in the mover's image",
    ),
)


class Nbdkit:
    """One child. `arguments` are filters, plugin and its settings; `what` names the disk in messages."""

    def __init__(self, what: str, arguments: Sequence[str], explanations: Sequence[Explanation]) -> None:
        self.what = what
        self._arguments = list(arguments)
        self._explanations = (*_OF_NBDKIT, *explanations)
        self._folder = Path(tempfile.mkdtemp(prefix="mtv-nbdkit-"))  # mode 0700: nobody else gets at the socket
        self._pidfile = self._folder / "nbdkit.pid"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._runner: threading.Thread | None = None
        self._start_failure: OSError | None = None
        self._errors: deque[tuple[float, str]] = deque(maxlen=_MOST_LINES)
        self._closed = False

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / "nbd.sock"

    @property
    def uri(self) -> str:
        """The NBD URI of its socket."""
        return f"nbd+unix:///?socket={self.socket}"

    def argv(self, lifeline: int) -> list[str]:
        """The command; `lifeline` is the read end of a pipe whose other end is ours alone.

        The kernel's signal at our end (--exit-with-parent) comes at once, but not to a child that had no time yet to
        ask for it; the pipe tells that one.
        """
        fixed = ["nbdkit", "--foreground", "--readonly", "--exit-with-parent", "--filter=exitwhen"]
        paths = ["--unix", str(self.socket), "--pidfile", str(self._pidfile)]
        return [
            *fixed,
            *paths,
            *self._arguments,
            f"exit-when-pipe-closed={lifeline}",
            f"exit-when-poll={_LOOK_EVERY_S}",
        ]

    def ensure_running(self) -> None:
        """Start it if it does not run (any more). Raises `MtvError`."""
        with self._lock:
            if self._closed:
                raise TemporaryError(f"{self.what}: closed", code="source-lost")
            if self._process is None or self._process.poll() is not None:
                self._start()

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn a failure over NBD into what nbdkit said about it, if it said anything."""
        try:
            yield
        except MtvError as error:
            raise self._explained(error) from None

    def close(self) -> None:
        """End it; never raises."""
        with self._lock:
            self._closed = True
            self._end()
        shutil.rmtree(self._folder, ignore_errors=True)  # it is in a temporary folder, and empty but for a socket

    def _start(self) -> None:
        self._end()  # of one that has died the thread may still be there
        for path in (self.socket, self._pidfile):
            path.unlink(missing_ok=True)
        self._process, self._start_failure = None, None
        # The kernel ends the child when the *thread* that started it ends, so it gets a thread that lives as long.
        self._runner = threading.Thread(target=self._run, name="nbdkit", daemon=True)
        self._runner.start()
        deadline = time.monotonic() + _START_WITHIN_S
        while not self._pidfile.exists():
            if not self._runner.is_alive():
                raise self._did_not_start()
            if time.monotonic() > deadline:
                self._end()
                raise TemporaryError(
                    f"{self.what}: nbdkit was not ready in {_START_WITHIN_S:.0f} s", code="source-nbdkit"
                )
            time.sleep(_POLL_S)

    def _did_not_start(self) -> MtvError:
        if self._start_failure is not None:
            reason = self._start_failure.strerror
            if self._start_failure.errno in _NO_ROOM:
                return TemporaryError(
                    f"{self.what}: nbdkit cannot be started now: {reason}",
                    cure="see the pod's limits of processes and memory; the copy resumes",
                    code="source-nbdkit",
                )
            return PermanentError(
                f"{self.what}: nbdkit cannot be started: {reason}", cure="install nbdkit", code="source-no-nbdkit"
            )
        return self._explained(PermanentError(f"{self.what}: nbdkit ended at once", code="source-nbdkit"))

    def _run(self) -> None:
        try:
            theirs, ours = os.pipe()
        except OSError as error:
            self._start_failure = error
            return
        try:
            self._process = subprocess.Popen(
                self.argv(theirs),
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C"},
            )
            with self._process as process:
                for line in process.stderr or ():
                    if match := _ERROR.match(line):
                        self._errors.append((time.monotonic(), match.group(1).strip()))
        except OSError as error:
            self._start_failure = error
        finally:
            os.close(theirs)
            os.close(ours)

    def _end(self) -> None:
        if self._runner is None:
            return
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        self._runner.join(_END_WITHIN_S)
        if self._runner.is_alive() and process is not None:
            process.kill()
            self._runner.join(_END_WITHIN_S)

    def _explained(self, error: MtvError) -> MtvError:
        if isinstance(error, DriftError):  # the disk's, not nbdkit's
            return error
        words = self._words()
        for said in reversed(words):
            for pattern, kind, code, cure in self._explanations:
                if re.search(pattern, said):
                    return kind(f"{self.what}: {said}", cure=cure, code=code)
        if isinstance(error, NoSocket):  # ours is away while nbdkit is started again, whatever else it complained of
            return TemporaryError(error.message, cure="the copy resumes when nbdkit runs again", code="source-lost")
        if not words:
            return error
        kept: type[PermanentError] | type[TemporaryError] = TemporaryError if error.retryable else PermanentError
        return kept(f"{self.what}: {words[-1]}", cure=error.cure, code=error.code)

    def _words(self) -> list[str]:
        """What nbdkit complained of lately; waited for a moment if it is nothing yet."""
        now = time.monotonic()
        while True:
            words = [said for when, said in list(self._errors) if when > now - _WORDS_LAST_S]
            if words or time.monotonic() > now + _WORDS_WITHIN_S:
                return words
            time.sleep(_POLL_S)


class NbdkitSource(NbdSource):
    """A disk behind an nbdkit of our own, which ends with it."""

    def __init__(self, child: Nbdkit) -> None:
        self._child = child
        try:
            child.ensure_running()
            with child.explaining():
                super().__init__(child.uri)
        except BaseException:
            child.close()
            raise

    def extents(self) -> list[Extent]:
        """What nbdkit does not call zero; all of it if it cannot say."""
        self._child.ensure_running()
        with self._child.explaining():
            return super().extents()

    def open_reader(self) -> Reader:
        """A connection, to a new child if the old one has died."""
        self._child.ensure_running()
        with self._child.explaining():
            return _NbdkitReader(super().open_reader(), self._child)

    def close(self) -> None:
        """End the child."""
        super().close()
        self._child.close()


class _NbdkitReader(Reader):
    def __init__(self, reader: Reader, child: Nbdkit) -> None:
        self._reader = reader
        self._child = child

    def begin(self, request: ReadRequest) -> None:
        with self._child.explaining():
            self._reader.begin(request)

    def complete(self, request: ReadRequest) -> None:
        with self._child.explaining():
            self._reader.complete(request)

    def close(self) -> None:
        self._reader.close()


def settings(**named: str) -> list[str]:
    """`key=value` words for a plugin; underscores become hyphens, empty values are left out."""
    return [f"{name.replace('_', '-')}={value}" for name, value in named.items() if value]


def secret_file(folder: Path, name: str) -> Path:
    """The absolute path of a credential file that can be read; `PermanentError` (credentials-missing) if it cannot."""
    path = (folder / name).absolute()
    if not os.access(path, os.R_OK):
        raise PermanentError(
            f"credential file {path} cannot be read", cure="mount the Secret with it", code="credentials-missing"
        )
    return path
