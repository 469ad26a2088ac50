"""QEMU's control socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class QmpError(Exception):
    """QEMU refused a command, or did not answer in time."""


def execute(path: Path, *commands: tuple[str, dict[str, Any]], timeout_s: float = 5) -> list[Any]:
    """Run commands one after the other and give their answers.

    Each answer is awaited before the connection is closed: QEMU silently drops what a client that leaves has asked for.
    """
    answers = []
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            with connection.makefile("rw") as lines:
                lines.readline()  # the greeting
                for name, arguments in (("qmp_capabilities", {}), *commands):
                    lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                    lines.flush()
                    answers.append(_answer(lines, name))
    except OSError as why:
        raise QmpError(f"QEMU's control socket: {why}") from why
    return answers[1:]


def _answer(lines: Any, name: str) -> Any:
    for _ in range(1000):  # events come in between
        line = lines.readline()
        if not line:
            raise QmpError(f"{name}: QEMU closed the connection")
        message = json.loads(line)
        if "error" in message:
            raise QmpError(f"{name}: {message['error'].get('desc')}")
        if "return" in message:
            return message["return"]
    raise QmpError(f"{name}: no answer among 1000 events")
