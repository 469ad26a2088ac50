"""What `python -m lab status` and `logs` show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.control import PartStatus
from lab.process import tail
from lab.registry import PARTS, chosen
from lab.state import State

_COLOURS = {"up": "green", "down": "dim", "broken": "bold red"}


def print_status(parts: Sequence[PartStatus]) -> None:
    """A table: part, state, what is real, what is a stand-in, where to reach it and what is wrong."""
    table = Table(show_lines=True)
    for heading in ("part", "state", "real", "stand-in", "endpoints"):
        table.add_column(heading, overflow="fold")
    for part in parts:
        details = [f"{name}: {_short(value)}" for name, value in part.endpoints.items()]
        details += [f"! {problem}" for problem in part.problems]
        state = Text(part.state, style=_COLOURS[part.state])
        table.add_row(part.name, state, part.real, part.stand_in, Text("\n".join(details)))
    console = Console()
    if not console.is_terminal:
        console.width = 180  # a log or a pipe has no width of its own
    console.print(table)


def print_logs(state: State, names: Sequence[str], lines: int) -> None:
    """The last lines of every log of the parts, each below its path; a remark if there is none."""
    logs = [log for name in chosen(names) for log in PARTS[name].logs(state)]
    for log in logs:
        print(f"==> {log} <==\n{tail(log, lines)}\n")
    if not logs:
        print(f"no logs of {' or '.join(names) or 'any part'} in {state.dir}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
