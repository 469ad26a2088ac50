"""Ends a program together with everything that it started."""

from __future__ import annotations

import os
import signal


def kill_group(leader: int) -> None:
    """Kill the process group of a program that was started in a session of its own."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has just ended by itself
