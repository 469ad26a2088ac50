"""Images of the lab's container runtime: directories of this machine, listed by name in the cluster's `images.json`.

The runtime reads the list, and each directory's `.image.json`, whenever a container starts, so a part can add or change
an image while the cluster runs. What `.image.json` may say is described in `cri/images.go`.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cache import cached
from lab.state import State
from mtv.model.errors import PermanentError

MOVER = "localhost/mtv-mover:1"
LAUNCHER = "localhost/virt-launcher:1"
HOST = "localhost/host:1"
"""This machine's own system directories, nothing added."""
BUSYBOX = "localhost/busybox:1"

_BUSYBOX_BINARY = Path("/bin/busybox")


def register(state: State, name: str, directory: Path) -> None:
    """Make the directory known to the runtime as image `name`; a name that is known gets the new directory."""
    table = images_file(state)
    with table.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        images = json.loads(table.read_text()) if table.exists() else {}
        images[name] = str(directory)
        draft = table.with_suffix(".tmp")
        draft.write_text(json.dumps(images, indent=2) + "\n")
        draft.replace(table)


def images_file(state: State) -> Path:
    """The list that the runtime reads."""
    return state.folder("cluster") / "images.json"


def write_manifest(
    directory: Path,
    *,
    over_host: bool = False,
    env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    copy: Mapping[str, Path] | None = None,
    bind: Mapping[str, Path] | None = None,
) -> None:
    """Write the directory's `.image.json`.

    `over_host` lays the directory over this machine's system directories; `copy` brings files or folders of this
    machine (values) to paths in the image (keys) as they are when a container starts; `bind` shows them read-only
    without a copy.
    """
    manifest = {
        "over_host": over_host,
        "env": dict(env or {}),
        "entrypoint": list(entrypoint),
        "copy": {path: str(source) for path, source in (copy or {}).items()},
        "bind": {path: str(source) for path, source in (bind or {}).items()},
    }
    (directory / ".image.json").write_text(json.dumps(manifest, indent=2) + "\n")


def host_image() -> Path:
    """An empty layer over this machine: every installed tool, nothing else."""
    return cached("image-host", sources=[], build=lambda folder: write_manifest(folder, over_host=True), extra_key="1")


def busybox_image() -> Path:
    """A few MB that stand alone: Debian's static busybox and its applets."""
    if not _BUSYBOX_BINARY.exists():
        raise PermanentError(f"{_BUSYBOX_BINARY} is missing", cure="apt-get install busybox-static")
    return cached("image-busybox", sources=[_BUSYBOX_BINARY], build=_fill_busybox, extra_key="1")


# The names that pods and tests use; busybox itself has many more.
_APPLETS = """
    sh ls cat echo env id sleep true false test head tail wc dd printf rm mkdir chmod chown touch mv cp ln ps kill grep
    sed awk date df du stat seq sha256sum tar gzip wget nc hostname uname which tr cut sort uniq yes sync tee xargs find
    base64 mktemp readlink basename dirname timeout
"""


def _fill_busybox(folder: Path) -> None:
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "root", "var", "usr"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o1777)
    (folder / "bin" / "busybox").write_bytes(_BUSYBOX_BINARY.read_bytes())
    (folder / "bin" / "busybox").chmod(0o755)
    for applet in _APPLETS.split():
        (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc" / "group").write_text("root:x:0:\n")
    write_manifest(folder)
