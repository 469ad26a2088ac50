"""Debian packages that are only unpacked into the lab's cache: nothing is installed and no service is started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mtv.model.errors import PermanentError, TemporaryError


def unpack(packages: Sequence[str], out: Path) -> None:
    """Download the packages and unpack them over each other into `out`, without what they depend on."""
    out.mkdir(parents=True, exist_ok=True)
    # apt's own sandbox user cannot write to a private folder; as it only warns then, say that we know.
    run(
        ["apt-get", "download", "-o", "APT::Sandbox::User=root", *packages],
        what=f"fetch {', '.join(packages)}",
        cwd=out,
    )
    archives = sorted(out.glob("*.deb"))
    if len(archives) != len(packages):
        raise PermanentError(f"apt-get download left {len(archives)} archives of {', '.join(packages)}")
    for archive in archives:
        run(["dpkg-deb", "-x", str(archive), str(out)], what=f"unpack {archive.name}")
        archive.unlink()
    if (out / "usr" / "lib").is_dir() and not (out / "lib").exists():
        (out / "lib").symlink_to("usr/lib")  # since Debian 13 packages hold the merged /usr only


def run(argv: list[str], *, what: str, cwd: Path | None = None) -> str:
    """Run one of the distribution's tools and give its output, in English. Errors say what could not be done."""
    env = {**os.environ, "LC_ALL": "C"}  # with C.UTF-8 the variable LANGUAGE would still translate
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise PermanentError(f"cannot {what}: {argv[0]} is missing", cure="the lab needs Debian or Ubuntu") from error
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(f"cannot {what}: no answer in 300 s", cure="check the package mirror") from error
    if done.returncode:
        raise TemporaryError(f"cannot {what}: {done.stderr.strip()[-400:]}", cure="run `apt-get update` and try again")
    return done.stdout
