"""A command of the services' own, run to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.openstack.configuration import Layout, service_environment
from lab.openstack.packages import services
from mtv.model.errors import PermanentError, TemporaryError


def run_command(layout: Layout, program: str, *arguments: str | Path, what: str, timeout_s: float) -> None:
    """Run a program of the services' environment in their working folder.

    `what` completes the sentence "cannot …". PermanentError with the program's last words, TemporaryError when it does
    not end in time.
    """
    argv: Sequence[str] = [str(services() / "bin" / program), *map(str, arguments)]
    try:
        done = subprocess.run(
            argv,
            cwd=layout.data,
            env=service_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(f"cannot {what}: {program} did not end in {timeout_s:g} s", code="LabTimeout") from error
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()[-2000:]
        raise PermanentError(f"cannot {what}: {said}", code="LabNoOpenStack")
