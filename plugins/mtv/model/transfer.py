"""Wire types between the factory and the mover pod: the spec goes in as a file, the result comes out as JSON.

Kept free of everything but msgspec, because the pod's image holds only the mover.
Sizes are bytes, times are seconds, digests are lower-case hex.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mtv.model.errors import MtvError

SPEC_PATH = "/run/mtv/spec.json"
"""Where the pod finds its spec; credential files lie beside it."""
WORK_DIR = "/work"
"""Mount point of the VM's work volume: journal, overlay, full results."""
TERMINATION_LOG = "/dev/termination-log"
"""Where a pod leaves its result (at most 4096 bytes)."""


class Verify(StrEnum):
    """How much of the target is read back and compared after the copy. SAMPLED: one block in 16, and the last."""

    FULL = "full"
    SAMPLED = "sampled"
    OFF = "off"


class Proof(StrEnum):
    """What a disk's digest proves. AS_READ: target = bytes as read. SOURCE_CHECKED: the source's own checksum agrees
    too (OVA manifest, imageio, Glance). REREAD: a second, independent read of the source agrees too.
    NONE: the target was not read back in full. Each says more than AS_READ; of the two others SOURCE_CHECKED is named.
    """

    NONE = "none"
    AS_READ = "as read"
    SOURCE_CHECKED = "source-checked"
    REREAD = "re-read"


class VsphereDatastore(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vsphere-datastore"):
    """A flat VMDK read by ranged GETs of vCenter's `/folder` URL. Credential files: user, password, ca.pem.

    `vm` (a moref) and `disk_key` say whose disk it is, and `snapshot` (a moref, "" for a VM that is off) at what point
    in time; only a delta asks vCenter for that.
    """

    host: str
    datacenter: str
    datastore: str
    path: str
    vm: str = ""
    disk_key: int = 0
    snapshot: str = ""
    port: int = 443
    thumbprint: str = ""
    insecure: bool = False


class VsphereNfc(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vsphere-nfc"):
    """A disk read through an export lease (streamOptimized VMDK). `disk_key` is the VirtualDevice key."""

    host: str
    vm: str
    disk_key: int
    port: int = 443
    thumbprint: str = ""
    insecure: bool = False


class FileRange(msgspec.Struct, frozen=True, kw_only=True):
    """`length` bytes at `offset` of a local file, with the manifest's checksum over them ("" if it has none)."""

    path: str
    offset: int
    length: int
    checksum: str = ""


class OvaMember(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ova"):
    """A disk file inside an OVA (or beside an OVF): `length` bytes at `offset` of `path`, never unpacked.

    `format` is vmdk (any subformat found in the file) or raw; `compression` is "" or gzip.
    `checksum` ("sha256:<hex>", sha512 or sha1) is the manifest's, over the member's bytes as stored.
    `chunks` are the pieces that follow the first one, in order, when the OVF splits the file (`chunkSize`);
    compression is then over the whole, checksums are per piece.
    """

    path: str
    offset: int
    length: int
    format: str = "vmdk"
    compression: str = ""
    checksum: str = ""
    chunks: tuple[FileRange, ...] = ()


class DiskFile(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """A disk in a local file or device. `format` is said, never guessed: raw, or vmdk (sparse, streamOptimized, or a
    descriptor whose extents lie beside it). `checksum` ("sha256:<hex>") is over the file's bytes.
    """

    path: str
    format: str
    checksum: str = ""


class HttpRange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="http"):
    """A disk image on a web server that serves ranges. `format` is said, never guessed, and must be raw.

    `header_file` names a credential file with one line `Name: value` (`Authorization: Bearer …`, `X-Auth-Token: …`);
    it is read again when the server refuses it. `checksum` ("sha256:<hex>") is over the whole image.
    An authority may be given as the credential file ca.pem. `insecure` also allows credentials over plain HTTP.
    """

    url: str
    format: str
    header_file: str = ""
    thumbprint: str = ""
    insecure: bool = False
    checksum: str = ""


class GlanceImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="glance"):
    """A raw image in Glance. `endpoint` is the image service's URL, `auth_url` Keystone's (with or without `/v3`).

    Credential files: user and password, or application-credential-id and application-credential-secret; ca.pem.
    `auth_thumbprint` is for Keystone what `thumbprint` is for Glance. `insecure` also allows plain HTTP.
    """

    endpoint: str
    image: str
    auth_url: str
    project: str = ""
    project_domain: str = "Default"
    user_domain: str = "Default"
    thumbprint: str = ""
    auth_thumbprint: str = ""
    insecure: bool = False


class NbdUri(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="nbd"):
    """Any NBD server, e.g. `nbd+unix:///?socket=/run/x` or `nbd://host:10809/export`."""

    uri: str


class ImageioDisk(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="imageio"):
    """A disk behind the URL of an oVirt image transfer that somebody else made and ends.

    `https://host:54322/images/<ticket>`: who knows it may read the disk, so it is a secret. Credential file: ca.pem.
    """

    url: str
    thumbprint: str = ""
    insecure: bool = False

    def __repr__(self) -> str:
        return "ImageioDisk(url=...)"


class OvirtDisk(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ovirt"):
    """A disk (or one of its snapshots) that the mover asks an oVirt engine for. `disk` and `snapshot` are their ids.

    `backup` is the id of a backup of the VM that somebody made and ends: the disk is read as it was then, and what
    changed since the backup's checkpoint can be told. `use_proxy` reads through the engine's proxy instead of the host.
    Credential files: user, password, ca.pem.
    """

    host: str
    disk: str
    snapshot: str = ""
    backup: str = ""
    port: int = 443
    use_proxy: bool = False
    thumbprint: str = ""
    insecure: bool = False


class EsxiSsh(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="esxi-ssh"):
    """A flat VMDK read over ssh from an ESXi host, e.g. `/vmfs/volumes/ds/web-1/web-1-flat.vmdk`.

    Credential files: user, known_hosts, and id (a private key without passphrase) or password.
    """

    host: str
    path: str
    port: int = 22


class Vddk(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vddk"):
    """A disk read with VMware's VDDK library, which the user supplies in `libdir`. Credential files: user, password.

    `vm` is a moref (vm-42), `file` is "[datastore] folder/name.vmdk", `snapshot` a moref or "", `transports` a
    colon-separated list or "" for the library's own choice. `thumbprint` is the certificate's SHA-1 as VDDK wants it.
    `esxi` says that `host` is an ESXi host and not a vCenter: larger reads are then made. `disk_key` is the
    VirtualDevice key, which only a delta needs.
    """

    host: str
    vm: str
    file: str
    thumbprint: str
    snapshot: str = ""
    transports: str = ""
    libdir: str = "/opt/vmware-vix-disklib-distrib"
    esxi: bool = False
    port: int = 443
    disk_key: int = 0


DiskSource = (
    VsphereDatastore
    | VsphereNfc
    | OvaMember
    | DiskFile
    | NbdUri
    | HttpRange
    | GlanceImage
    | ImageioDisk
    | OvirtDisk
    | EsxiSsh
    | Vddk
)


class DiskTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes go: a file on a filesystem claim (sparse, or all its space reserved before the copy with
    `preallocate`) or a block device.

    `volume` names a device for good: a name that no other volume ever bears, such as the claim's uid. A device itself
    has nothing that tells it from another; without a name, all that is on it is read back by each later attempt.
    """

    path: str
    block: bool = False
    preallocate: bool = False
    volume: str = ""


class LimitWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A bandwidth limit for a part of each day: `{"from": "08:00", "to": "18:00", "rate": 50000000}` (bytes per second,
    0: none). A window that ends before it starts runs over midnight.
    """

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    bytes_per_s: int = msgspec.field(name="rate")


class DiskTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """One disk to copy. `identity` and `generation` bind the journal to the source (see `SourceDisk`).

    A delta names the `base_generation` that the target holds and what differs from it: `dirty` as (offset, length), or
    `dirty_context`, what the source calls its own record of that:

    - NBD: the metadata context of a dirty bitmap, such as `qemu:dirty-bitmap:NAME`
    - imageio: `dirty`, for a transfer of a backup that starts from a checkpoint
    - vSphere: the disk's change id in the snapshot that was copied, such as `52 3c ec 11 …/4`

    Where the journal is of neither generation, the whole disk is copied.
    """

    id: str
    size_bytes: int
    source: DiskSource
    target: DiskTarget
    identity: str
    generation: str
    base_generation: str = ""
    dirty: tuple[tuple[int, int], ...] | None = None
    dirty_context: str = ""


class TransferSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one transfer pod does: all disks of one VM. `epoch` fences an older mover off the same volume.

    `verify_source`: every source is read a second time and compared (see `Proof.REREAD`). `limit_bytes_per_s` (0: none)
    and the windows in `limits` bound what all disks together read from their sources. The windows' clock is
    `limits_utc_offset_min` minutes ahead of UTC, and changes to that of each (Unix second, minutes) of
    `limits_offset_changes`; a file `limit` in the work directory overrides both while the transfer runs.
    `connections` is how many connections to sources the disks may hold together; no more disks are copied at once.
    """

    plan: str
    run: str
    vm: str
    epoch: int
    disks: tuple[DiskTransfer, ...]
    verify: Verify = Verify.FULL
    verify_source: bool = False
    work_dir: str = WORK_DIR
    credentials_dir: str = "/run/mtv"
    limit_bytes_per_s: int = 0
    limits: tuple[LimitWindow, ...] = ()
    limits_utc_offset_min: int = 0
    limits_offset_changes: tuple[tuple[int, int], ...] = ()
    connections: int = 8


class DiskResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one disk. `bytes_read` from the source in this attempt, `bytes_resumed` proven by an earlier one,
    `bytes_data` is allocated data on the source, `digest` the sparse-invariant root digest of the bytes as read.
    `verify` is how the target was verified (None: by a mover that did not say), `reread` whether a second read of the
    source agreed.
    """

    id: str
    size_bytes: int
    bytes_data: int = 0
    bytes_read: int = 0
    bytes_resumed: int = 0
    digest: str = ""
    proof: Proof = Proof.NONE
    source_digest: str = ""
    verify: Verify | None = None
    reread: bool = False
    seconds: float = 0.0


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a pod ended badly: a stable `code`, one sentence, the cure, and whether a retry helps."""

    code: str
    message: str
    cure: str = ""
    retryable: bool = False
    disk: str = ""
    offset: int | None = None

    @classmethod
    def of(cls, error: MtvError, *, disk: str = "") -> Failure:
        """Return the wire form of an error; `disk` where the error itself names none."""
        return cls(
            code=error.code,
            message=error.message,
            cure=error.cure,
            retryable=error.retryable,
            disk=error.disk or disk,
            offset=error.offset,
        )


class TransferResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a transfer pod, as its termination message and as `<work_dir>/transfer-result.json`.

    `disks_left_out` counts disks that did not fit into the termination message; the file and the log have them all.
    """

    ok: bool
    disks: tuple[DiskResult, ...] = ()
    failure: Failure | None = None
    disks_left_out: int = 0


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One progress line of a pod's log: `{"event":"progress", ...}`, one per disk every 2 s.

    `phase` is scan, copy, verify, reread, overlay, inspect, convert, commit or done. A phase that cannot count bytes
    gives `percent` instead.
    """

    event: str = "progress"
    disk: str = ""
    phase: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_per_s: float = 0.0
    eta_s: float | None = None
    percent: float | None = None
