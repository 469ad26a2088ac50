"""Boots a guest in QEMU and reads its serial console, always within a bound of time."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from lab.guests.hardware import Hardware, command
from mtv.model.errors import PermanentError, TemporaryError

BOOT_LINE = re.compile(
    r"^MTV-BOOT-OK (?P<hostname>\S+) disk-driver=(?P<disk>\S+) nic=(?P<nic>\S+) mac=(?P<mac>\S+)", re.M
)
PAYLOAD_LINE = re.compile(r"^MTV-PAYLOAD (?P<sha256>[0-9a-f]{64}) (?P<path>\S+)", re.M)
BOOTS_LINE = re.compile(r"^MTV-BOOTS (?P<count>\d+)", re.M)
ENCRYPTED_LINE = re.compile(r"^MTV-ENCRYPTED (?P<what>\S+)", re.M)
NO_ROOT_LINE = re.compile(r"ALERT!.*does not exist")
_TICK_S = 0.1


class Machine:
    """A guest in QEMU as a context manager: it starts on entry and is gone after exit.

    `console` holds all that the serial port said. Disks are raw files; see `hardware.command` for `discard_writes`.
    """

    def __init__(
        self,
        disks: Sequence[Path],
        hardware: Hardware,
        *,
        macs: Sequence[str] = ("00:50:56:00:00:01",),
        discard_writes: bool = False,
    ) -> None:
        self._disks, self._hardware, self._macs, self._discard = disks, hardware, macs, discard_writes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        # A socket's path has a limit of 107 characters, so the folder is a short one of our own.
        self._folder = tempfile.TemporaryDirectory(prefix="guest-")
        folder = Path(self._folder.name)
        self.console, self.control, self._errors = folder / "console", folder / "qmp", folder / "errors"
        self.console.touch()
        argv = command(
            self._disks, self._hardware, console=self.console, control=self.control, macs=self._macs,
            discard_writes=self._discard,
        )  # fmt: skip
        with self._errors.open("wb") as errors:
            try:
                self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
            except FileNotFoundError as error:
                self._folder.cleanup()
                raise PermanentError(f"{argv[0]} is missing", cure="apt-get install qemu-system-x86") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=30)
        self._folder.cleanup()

    @property
    def text(self) -> str:
        """The console so far."""
        return self.console.read_text(errors="replace").replace("\r", "")

    def wait_for(self, pattern: str | re.Pattern[str], *, timeout_s: float) -> re.Match[str]:
        """First match of `pattern` on the console; TemporaryError with the last lines if it does not come in time."""
        wanted = re.compile(pattern, re.M) if isinstance(pattern, str) else pattern
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self._ended()
            if found := wanted.search(self.text):
                return found
            if ended:
                raise PermanentError(
                    f"the guest ended before its console said {wanted.pattern!r}: {self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"the guest's console did not say {wanted.pattern!r} in {timeout_s:.0f} s: {self._last_words()}"
                )
            time.sleep(_TICK_S)

    def press_power_button(self) -> None:
        """Ask the guest to shut down, as VMware Tools or an operator at the case would."""
        press_power_button(self.control)

    def wait_until_off(self, *, timeout_s: float) -> None:
        """Return when the guest has powered itself off; TemporaryError if it does not."""
        deadline = time.monotonic() + timeout_s
        while not self._ended():
            if time.monotonic() > deadline:
                raise TemporaryError(f"the guest did not power off in {timeout_s:.0f} s: {self._last_words()}")
            time.sleep(_TICK_S)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _last_words(self) -> str:
        return (self._errors.read_text(errors="replace")[-300:] + self.text[-500:]).strip()


def press_power_button(control: Path) -> None:
    """Press the ACPI power button of the QEMU whose QMP socket is `control`."""
    command_qemu(control, "system_powerdown")


def command_qemu(control: Path, verb: str, *, timeout_s: float = 10) -> None:
    """Give QEMU one command by its QMP socket and await the answer.

    Each answer is awaited before the connection closes, else QEMU drops the command in silence.
    """
    try:
        # A socket's path may have 107 characters; through a descriptor of its folder it is short wherever it lies.
        folder = os.open(control.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(f"/proc/self/fd/{folder}/{control.name}")
                with connection.makefile("rw", encoding="utf-8") as stream:
                    stream.readline()  # greeting
                    for one in ("qmp_capabilities", verb):
                        stream.write(json.dumps({"execute": one}) + "\n")
                        stream.flush()
                        _read_answer(stream, one)
        finally:
            os.close(folder)
    except OSError as error:
        raise TemporaryError(f"QEMU's control socket {control} does not answer: {error}") from error


def _read_answer(stream: TextIO, verb: str) -> None:
    """Skip QEMU's events up to the answer of `verb`."""
    for _ in range(50):
        line = stream.readline()
        if not line:
            break
        answer = json.loads(line)
        if "return" in answer:
            return
        if "error" in answer:
            raise TemporaryError(f"QEMU refused {verb}: {answer['error'].get('desc', '')}")
    raise TemporaryError(f"QEMU gave no answer to {verb}")
