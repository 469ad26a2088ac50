"""Sources as people write them: one line of text each. `SCHEMES` is the whole list of what can be written.

    file:/disk.img                      a raw file or device
    vmdk:/disk.vmdk                     a VMDK: sparse, streamOptimized, or a descriptor with its extents beside it
    ova:/appliance.ova!disk1.vmdk       a disk inside an OVA
    nbd://host/export  nbd+unix:///?socket=/run/disk.sock  nbds://…
    https://host/disk.img               a raw image on a web server that serves ranges
    imageio:+/transfer.url              the oVirt image transfer whose URL is in that file, as it holds a secret;
                                        imageio:https://host:54322/images/TICKET works too, but others see it

Paths are taken as they stand, nothing in them is quoted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from mover.sources.window import generation_of
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskFile, DiskSource, DiskTarget, DiskTransfer, HttpRange, ImageioDisk, NbdUri


class UriOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is said beside the address. A scheme that cannot use an option refuses it."""

    checksum: str = ""
    header_file: str = ""
    thumbprint: str = ""
    insecure: bool = False


class NamedSource(NamedTuple):
    """A source, and the names by which a journal knows it. None of them holds a secret.

    `identity` and `generation` bind the journal; `size_bytes` is 0 where the source itself says it when opened.
    """

    source: DiskSource
    identity: str
    generation: str = ""
    size_bytes: int = 0

    def as_disk(self, disk_id: str, target: DiskTarget, *, size_bytes: int) -> DiskTransfer:
        """The copy of this source to a target, as a spec would name it."""
        return DiskTransfer(
            id=disk_id,
            size_bytes=size_bytes,
            source=self.source,
            target=target,
            identity=self.identity,
            generation=self.generation,
        )


def source_of(uri: str, options: UriOptions) -> NamedSource:
    """The source that `uri` means. Raises `PermanentError` (code spec) with the forms that are known."""
    scheme, colon, rest = uri.partition(":")
    reader = SCHEMES.get(scheme) if colon else None
    if reader is None:
        raise PermanentError(
            f"{scheme!r} is no kind of source" if colon else "the source does not say what kind it is",
            cure=f"begin it with one of {', '.join(f'{name}:' for name in SCHEMES)} (for a raw file: file:/path)",
            code="spec",
        )
    return reader(uri, rest, options)


def is_uri(text: str) -> bool:
    """Whether a text begins with the name of a scheme (and is not the path of a file)."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme in SCHEMES


def _file(uri: str, rest: str, options: UriOptions) -> NamedSource:
    _refuse_options(uri, options, allowed=("checksum",))
    path = _path(uri, rest)
    other = path.suffix.lower().lstrip(".")
    if other in ("vmdk", "qcow2", "vhd", "vhdx", "vdi", "ova", "gz") and not path.stem.endswith("-flat"):
        raise PermanentError(
            f"file: reads raw bytes, but {path.name} is called a {other}",
            cure={"vmdk": f"write vmdk:{path}", "ova": f"write ova:{path}!DISK"}.get(
                other, "serve it with qemu-nbd and give the NBD address, or convert it to raw"
            ),
            code="source-format",
        )
    source = DiskFile(path=str(path), format="raw", checksum=options.checksum)
    return NamedSource(source, f"file:{path}", _generation(path))


def _vmdk(uri: str, rest: str, options: UriOptions) -> NamedSource:
    _refuse_options(uri, options, allowed=("checksum",))
    path = _path(uri, rest)
    source = DiskFile(path=str(path), format="vmdk", checksum=options.checksum)
    return NamedSource(source, f"vmdk:{path}", _generation(path))


def _ova(uri: str, rest: str, options: UriOptions) -> NamedSource:
    from mover.sources.ova_index import find_disk

    _refuse_options(uri, options, allowed=())
    file, _, name = rest.rpartition("!") if "!" in rest else (rest, "", "")
    path = _path(uri, file)
    member, size = find_disk(path, name)
    return NamedSource(member, f"ova:{path}!{name}", _generation(path), size)


def _nbd(uri: str, _rest: str, options: UriOptions) -> NamedSource:
    _refuse_options(uri, options, allowed=())
    return NamedSource(NbdUri(uri=uri), uri)


def _http(uri: str, _rest: str, options: UriOptions) -> NamedSource:
    from mover.sources.http_range import name_of

    source = HttpRange(
        url=uri,
        format="raw",
        header_file=options.header_file,
        thumbprint=options.thumbprint,
        insecure=options.insecure,
        checksum=options.checksum,
    )
    # A query may be what tells two images apart, and may be secret: it is known by its hash.
    return NamedSource(source, f"{name_of(uri)} {hashlib.sha256(uri.encode()).hexdigest()[:16]}")


def _imageio(_uri: str, rest: str, options: UriOptions) -> NamedSource:
    from mover.control.imageio_ticket import location_of

    _refuse_options("imageio:", options, allowed=("thumbprint", "insecure"))
    url = rest
    if rest.startswith("+"):
        try:
            url = Path(rest[1:]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise PermanentError(f"imageio:{rest}: {error.strerror}", code="spec") from error
    where = location_of(url, thumbprint=options.thumbprint, insecure=options.insecure, ca_file=None)
    # Known by the ticket's hash: whether another ticket is for the same disk cannot be told.
    name = f"imageio:{where.endpoint.host} {hashlib.sha256(where.path.encode()).hexdigest()[:16]}"
    return NamedSource(ImageioDisk(url=url, thumbprint=options.thumbprint, insecure=options.insecure), name)


SchemeReader = Callable[[str, str, UriOptions], NamedSource]
"""Takes the whole URI, what follows its scheme, and the options."""
SCHEMES: Mapping[str, SchemeReader] = {
    "file": _file,
    "vmdk": _vmdk,
    "ova": _ova,
    "nbd": _nbd,
    "nbds": _nbd,
    "nbd+unix": _nbd,
    "nbds+unix": _nbd,
    "http": _http,
    "https": _http,
    "imageio": _imageio,
}


def _path(uri: str, rest: str) -> Path:
    text = rest.removeprefix("//") if rest.startswith("///") else rest
    if not text or text.startswith("//"):
        raise PermanentError(f"{uri} names no file", cure="write it like file:/path/of/the/disk", code="spec")
    return Path(text).absolute()


def _generation(path: Path) -> str:
    """Tells a file from what lay at its path before: whoever writes it, or puts another in its place, makes another
    generation, even one of the same size and modification time (`cp -p`). So does a change of its mode: copied anew.
    """
    try:
        info = path.stat()
    except OSError:
        return ""  # opening it says better what is wrong
    return generation_of(info) if path.is_file() else ""


def _refuse_options(uri: str, options: UriOptions, *, allowed: tuple[str, ...]) -> None:
    for name, value in msgspec.structs.asdict(options).items():
        if value and name not in allowed:
            raise PermanentError(
                f"--{name.replace('_', '-')} means nothing for a source of kind {uri.partition(':')[0]}:",
                cure="leave it out",
                code="spec",
            )
