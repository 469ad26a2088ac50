"""oVirt for tests of the mover: the real ovirt-imageio daemon before real NBD servers, and the lab's thin engine."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, LabDisk, ThinEngine
from lab.ovirt.imageio import ImageioDaemon
from mover.measure import digest_of_path
from mtv.model.transfer import ImageioDisk, OvirtDisk, Proof
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 40 * MIB + 4096
AREAS = [(0, 9 * MIB), (13 * MIB + 512, 70000), (13 * MIB + 150000, 4096), (SIZE - 5000, 5000)]
PASSWORD = "canary-Passw0rd"


class Ovirt(msgspec.Struct):
    """A daemon and an engine, a disk, and a folder with the credential files of a pod."""

    engine: ThinEngine
    daemon: ImageioDaemon
    original: Path
    secrets: Path

    def transfer(self, socket: Path, *, timeout_s: int = 300, dirty: bool = False) -> ImageioDisk:
        """A transfer that somebody made: its URL."""
        ticket = str(uuid.uuid4())
        self.daemon.add_ticket(ticket, SIZE, socket, timeout_s=timeout_s, dirty=dirty)
        return ImageioDisk(url=self.daemon.url_of(ticket))

    def disk(self, socket: Path, name: str = "d1") -> OvirtDisk:
        """A disk of the engine."""
        self.engine.disks[name] = LabDisk(SIZE, socket)
        return OvirtDisk(host="127.0.0.1", port=self.engine.port, disk=name)


@contextmanager
def ovirt_servers(folder: Path) -> Iterator[Ovirt]:
    """A daemon and an engine with their files in `folder`; they end with the block."""
    authority = Authority.create(folder / "pki")
    (folder / "secrets").mkdir()
    for name, text in (("user", USER), ("password", PASSWORD), ("ca.pem", authority.certificate.read_text())):
        (folder / "secrets" / name).write_text(text)
    daemon = ImageioDaemon(folder, authority)
    engine = ThinEngine(authority, daemon, PASSWORD)
    original = moving.make_disk(folder / "original.img", SIZE, AREAS)
    daemon.start()
    try:
        engine.start()
        yield Ovirt(engine, daemon, original, folder / "secrets")
        engine.stop()
    finally:
        daemon.stop()


@contextmanager
def served(folder: Path, original: Path, *arguments: str) -> Iterator[Path]:
    """The socket of an NBD server with the disk."""
    filters = [argument for argument in arguments if argument.startswith("--filter")]
    rest = [argument for argument in arguments if not argument.startswith("--filter")]
    with moving.nbdkit(folder, *filters, "file", str(original), *rest) as uri:
        yield Path(uri.partition("socket=")[2])


def copy(
    ovirt: Ovirt, folder: Path, source: ImageioDisk | OvirtDisk, *, epoch: int = 1, limit_bytes_per_s: int = 0
) -> moving.Ran:
    """Copy the disk from this source into `folder`."""
    spec = moving.spec_of(folder / "w", moving.disk_of(source, SIZE, folder / "t"), epoch=epoch)
    changes = {"credentials_dir": str(ovirt.secrets), "limit_bytes_per_s": limit_bytes_per_s}
    ran = moving.run(msgspec.structs.replace(spec, **changes))
    said = json.dumps(ran.lines)
    assert PASSWORD not in said
    assert not re.search(r"/images/[0-9a-f]", said)
    return ran


def assert_arrived(ovirt: Ovirt, folder: Path, ran: moving.Ran, original: Path | None = None) -> None:
    """The disk is there, and proven against the server's own checksum."""
    assert ran.result.ok, ran.lines
    done = ran.result.disks[0]
    assert moving.same_bytes(original or ovirt.original, folder / "t", SIZE)
    assert done.digest == digest_of_path(original or ovirt.original)
    assert done.proof is Proof.SOURCE_CHECKED
    assert done.source_digest.startswith("blake2b-4MiB:")


def failure_code(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    return ran.result.failure.code
