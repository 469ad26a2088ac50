"""Run movers and kill them: `python killed_movers.py`, then lines `SECONDS SPEC` on standard input.

For each line a mover is forked that runs `mtv-mover transfer --spec SPEC` and is killed with SIGKILL after so many
seconds (never, if negative). One line comes back: the exit code, or minus the signal. Forking a process that has
loaded everything costs a tenth of starting one, and the movers are killed in their work instead of in their imports.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import mover.ledger
from mover import transfer
from mover.cli import main


def run(seconds: float, spec: str) -> int:
    """Fork a mover, perhaps kill it, and return how it ended."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os._exit(main(["transfer", "--spec", spec]))
    if seconds >= 0:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    assert transfer
    mover.ledger.CHECKPOINT_BYTES = 1  # every block is one: more to be torn
    for line in sys.stdin:
        delay, path = line.split(" ", 1)
        print(run(float(delay), path.strip()), flush=True)
