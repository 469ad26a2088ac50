"""What `bench/mover.py` copies from, one server for each kind of source."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lab.cluster.pki import Authority
from lab.ovirt.imageio import ImageioDaemon

RATE_BITS = 2_400_000_000
"""300 MB/s, as nbdkit's rate filter counts."""
_TICKET_S = 3600


class Offer(NamedTuple):
    """A source that is served: `source` for the mover's spec, `address` for other programs, the server's process (0:
    none), and the folder with the authority's certificate.
    """

    source: dict[str, Any]
    address: str
    pid: int
    credentials: Path


Served = Callable[[Path, Path, bool], AbstractContextManager[Offer]]
"""Takes the source's file, a folder for its own files, and whether it is to be slow."""


@contextmanager
def nbd(source: Path, folder: Path, is_slow: bool) -> Iterator[Offer]:
    """An nbdkit server on a Unix socket."""
    socket, pidfile = folder / "nbd.sock", folder / "nbd.pid"
    for old in (socket, pidfile):
        old.unlink(missing_ok=True)
    slow = (["--filter=rate"], [f"rate={RATE_BITS}", "burstiness=0.2"]) if is_slow else ([], [])
    argv = ["nbdkit", "-f", "-r", "-U", socket, "-P", pidfile, *slow[0], "file", source, "cache=none", *slow[1]]
    process = subprocess.Popen(argv)
    try:
        for _ in range(1000):
            if pidfile.exists():
                break
            time.sleep(0.01)
        uri = f"nbd+unix:///?socket={socket}"
        yield Offer({"type": "nbd", "uri": uri}, uri, process.pid, folder)
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def raw_file(source: Path, folder: Path, _is_slow: bool) -> Iterator[Offer]:
    """The file itself."""
    yield Offer({"type": "file", "path": str(source), "format": "raw"}, str(source), 0, folder)


@contextmanager
def https(source: Path, folder: Path, is_slow: bool) -> Iterator[Offer]:
    """An image transfer of ovirt-imageio, read like an image of any web server."""
    with _imageio(source, folder, is_slow) as offer:
        yield offer._replace(source={"type": "http", "url": offer.address, "format": "raw"})


@contextmanager
def imageio_disk(source: Path, folder: Path, is_slow: bool) -> Iterator[Offer]:
    """An image transfer of ovirt-imageio, read by its own protocol."""
    with _imageio(source, folder, is_slow) as offer:
        yield offer


@contextmanager
def _imageio(source: Path, folder: Path, is_slow: bool) -> Iterator[Offer]:
    home = folder / f"imageio-{uuid.uuid4().hex[:8]}"
    home.mkdir()
    authority = Authority.create(home / "pki")
    (home / "ca.pem").write_text(authority.certificate.read_text())
    daemon = ImageioDaemon(home, authority)
    with nbd(source, folder, is_slow):
        daemon.start()
        try:
            ticket = str(uuid.uuid4())
            daemon.add_ticket(ticket, source.stat().st_size, folder / "nbd.sock", timeout_s=_TICKET_S)
            url = daemon.url_of(ticket)
            pid = int((home / "imageio.pid").read_text().split()[0])
            yield Offer({"type": "imageio", "url": url}, url, pid, home)
        finally:
            daemon.stop()
