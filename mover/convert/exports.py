"""Sources as drives that the appliance can open: what is no NBD server is made one for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from mover.control.controls import Controls
from mover.nbd_server import NbdServer
from mover.sources.base import RandomSource
from mover.sources.open import open_source
from mtv.model.conversion import PreflightDisk
from mtv.model.errors import MtvError, PermanentError
from mtv.model.transfer import DiskTarget, DiskTransfer, NbdUri


class CannotLook(PermanentError):
    """A source that can only be read once from its start, which no inspection can use."""


@contextmanager
def exported(disks: Sequence[PreflightDisk], credentials_dir: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the NBD URIs of the disks, in their order; `folder` (of a short path) takes the sockets.

    Raises `CannotLook` for a stream. An error of a source while it was read is raised in place of what came of it.
    """
    with ExitStack() as stack:
        controls = Controls(credentials_dir)
        stack.callback(controls.close, well=True)
        uris: list[str] = []
        servers: list[NbdServer] = []
        for number, disk in enumerate(disks):
            if isinstance(disk.source, NbdUri):
                uris.append(disk.source.uri)
                continue
            source = stack.enter_context(closing(open_source(_as_transfer(disk), controls)))
            if not isinstance(source, RandomSource):
                raise CannotLook(f"disk {disk.id} comes as a stream", code="source-unsupported")
            server = stack.enter_context(NbdServer(source, folder / f"{number}.sock"))
            servers.append(server)
            uris.append(server.uri)
        try:
            yield tuple(uris)
        except MtvError as error:
            _raise_first(servers, error)
            raise
        _raise_first(servers, None)


def _raise_first(servers: Sequence[NbdServer], cause: MtvError | None) -> None:
    failure = next((server.failure for server in servers if server.failure), None)
    if failure is not None:
        raise failure from cause


def _as_transfer(disk: PreflightDisk) -> DiskTransfer:
    """The same disk as a copy would read it; nothing is written, so it has no target."""
    return DiskTransfer(
        id=disk.id,
        size_bytes=disk.size_bytes,
        source=disk.source,
        target=DiskTarget(path=""),
        identity="",
        generation="",
    )
