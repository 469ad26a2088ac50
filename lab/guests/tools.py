"""Runs the small commands that images are made with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtv.model.errors import PermanentError


def run(
    argv: Sequence[str],
    *,
    what: str,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run `argv` (at most 300 s) and return what it printed; `what` completes the sentence "cannot …"."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise PermanentError(f"cannot {what}: {argv[0]} is missing", cure=f"install {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise PermanentError(f"cannot {what}: {argv[0]} did not end in 300 s") from error
    if done.returncode:
        raise PermanentError(f"cannot {what}: {done.stderr.strip()[-600:]}")
    return done.stdout
