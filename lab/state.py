"""Where a running lab keeps what it knows: one folder per part, `endpoints.json` for readers, secrets beside it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
PYTHON_PATH = os.pathsep.join([str(REPO), str(REPO / "plugins")])
"""For processes that are to import from this clone, whichever other one the environment has installed."""


_LONGEST = 52
"""Unix sockets have at most 107 bytes of path, and the kubelet's lie deep below the state folder."""


def default_state_folder() -> Path:
    """`$MTV_LAB_STATE`, else `var/lab` in the repository; below ~/.cache when the repository's own path is too long."""
    if named := os.environ.get("MTV_LAB_STATE"):
        return Path(named).resolve()
    inside = REPO / "var" / "lab"
    if len(str(inside)) <= _LONGEST:
        return inside
    return Path.home() / ".cache" / "mtv" / f"lab-{hashlib.sha256(str(REPO).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class State:
    """The folder of one lab. Keep its path short: Unix sockets below it may have at most 107 bytes."""

    dir: Path

    def folder(self, part: str) -> Path:
        """The part's own folder (mode 0700), made when it is missing."""
        path = self.dir / part
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def endpoints(self, part: str) -> dict[str, Any]:
        """What the part offers; empty when it is not up. Secrets are not in here: only the paths of their files."""
        try:
            found: dict[str, Any] = json.loads((self.dir / part / "endpoints.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def save_endpoints(self, part: str, endpoints: dict[str, Any]) -> None:
        """Publish the endpoints in one step: readers see the old ones or the new ones, never a part of them."""
        target = self.folder(part) / "endpoints.json"
        draft = target.with_suffix(f".tmp{os.getpid()}")
        draft.write_text(json.dumps(endpoints, indent=2) + "\n")
        draft.replace(target)

    def forget(self, part: str) -> None:
        """Say that the part is not up. Its folder stays, for its logs."""
        (self.dir / part / "endpoints.json").unlink(missing_ok=True)


def write_secret(path: Path, content: str | bytes) -> Path:
    """Write a file that only its owner may read (0600 from its first moment on)."""
    data = content.encode() if isinstance(content, str) else content
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)
    return path
