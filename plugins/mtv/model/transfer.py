"""Wire types between the factory and the mover pod: the spec goes in as a file, the result comes out as JSON.

Kept free of everything but msgspec, because the pod's image holds only the mover.
Sizes are bytes, times are seconds, digests are lower-case hex.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

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
    """A flat VMDK read by ranged GETs of vCenter's `/folder` URL. Credential files: user, password, ca.pem."""

    host: str
    datacenter: str
    datastore: str
    path: str
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
    `checksum` ("sha256:<hex>" or "sha1:<hex>") is the manifest's, over the member's bytes as stored.
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

    `use_proxy` reads through the engine's proxy instead of the host. Credential files: user, password, ca.pem.
    """

    host: str
    disk: str
    snapshot: str = ""
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
    `esxi` says that `host` is an ESXi host and not a vCenter: larger reads are then made.
    """

    host: str
    vm: str
    file: str
    thumbprint: str
    snapshot: str = ""
    transports: str = ""
    libdir: str = "/opt/vmware-vix-disklib-distrib"
    esxi: bool = False


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
    """

    path: str
    block: bool = False
    preallocate: bool = False


class DiskTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """One disk to copy. `identity` and `generation` bind the journal to the source (see `SourceDisk`)."""

    id: str
    size_bytes: int
    source: DiskSource
    target: DiskTarget
    identity: str
    generation: str


class TransferSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one transfer pod does: all disks of one VM. `epoch` fences an older mover off the same volume.
    `verify_source`: every source is read a second time and compared (see `Proof.REREAD`).
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


class TransferResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a transfer pod, as its termination message and as `<work_dir>/transfer-result.json`.

    `disks_left_out` counts disks that did not fit into the termination message; the file has them all.
    """

    ok: bool
    disks: tuple[DiskResult, ...] = ()
    failure: Failure | None = None
    disks_left_out: int = 0


class ConvertDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One copied disk in boot order; `digest` is its root digest as the transfer proved it, kept beside the result."""

    id: str
    path: str
    block: bool
    size_bytes: int
    digest: str


class ConvertNic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network card as the source's guest agent reports it. `name` is the guest's own (ens192, eth0; empty: it is
    looked up in the guest's configuration), `addresses` are like 10.0.0.5/24, `gateways` at most one of a family.
    """

    mac: str
    name: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


class GuestScript(msgspec.Struct, frozen=True, kw_only=True):
    """A script of the user's. The name says where and when it runs, its leading number the order:
    `10_linux_run_x.sh` during the conversion, `20_linux_firstboot_x.sh` and `30_win_firstboot_x.ps1` at first boot.
    """

    name: str
    content: str


class LuksKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key for an encrypted device: `device` is its name (/dev/sda2), its UUID, or `all`; `file` the name of the key
    file in the credentials directory. The key itself is never here.
    """

    file: str
    device: str = "all"


class ConvertSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one conversion pod does: make the copied guest bootable on KubeVirt, in place, commit journalled.

    `nics` with addresses keep their names (Linux) or addresses (Windows). `virtio_win` is the virtio-win ISO or folder
    (empty: the pod's VIRTIO_WIN). `inspect` asks for the full inspection (applications, fstab) at the price of one more
    start of the appliance, which `nics`, `scripts` and Windows need anyway. `memory_mb` is the appliance's (0: its
    default of 2560), `timeout_s` bounds the whole conversion before its commit.
    """

    plan: str
    run: str
    vm: str
    epoch: int
    disks: tuple[ConvertDisk, ...]
    firmware: str = "bios"
    root_disk: str = ""
    work_dir: str = WORK_DIR
    nics: tuple[ConvertNic, ...] = ()
    scripts: tuple[GuestScript, ...] = ()
    luks_keys: tuple[LuksKey, ...] = ()
    credentials_dir: str = "/run/mtv"
    virtio_win: str = ""
    inspect: bool = False
    memory_mb: int = 0
    timeout_s: float = 4 * 3600.0


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A warning with a stable code, one sentence and the cure."""

    code: str
    message: str
    cure: str = ""


class GuestFilesystem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A filesystem that the guest mounts. Sizes are bytes; `inodes_free` is -1 where the filesystem has no inodes."""

    device: str
    mountpoint: str
    type: str = ""
    size_bytes: int = 0
    free_bytes: int = 0
    inodes_free: int = -1


class Inspection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is on the disks. `complete` says that the filesystems were mounted and looked through: then `applications`
    ("name version"), `fstab_by_path` (entries that name a device by its bus) and `drive_letters` (C → /dev/sda2) hold.
    """

    root: str = ""
    type: str = ""
    distro: str = ""
    version: str = ""
    product: str = ""
    variant: str = ""
    os_id: str = ""
    arch: str = ""
    hostname: str = ""
    firmware: str = ""
    boot_loader: str = ""
    filesystems: tuple[GuestFilesystem, ...] = ()
    applications: tuple[str, ...] = ()
    fstab_by_path: tuple[str, ...] = ()
    drive_letters: dict[str, str] = {}
    complete: bool = False
    applications_left_out: int = 0


class PreflightResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a conversion of these disks can succeed, as far as reading them can tell; nothing was written."""

    ok: bool
    inspection: Inspection | None = None
    notices: tuple[Notice, ...] = ()
    accelerator: str = ""
    seconds: float = 0.0
    failure: Failure | None = None


class ConvertResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What virt-v2v found and did. `digests` are of the disks after the commit, by disk id.
    `accelerator` is kvm or tcg, as probed by a real launch. `warnings` are sentences for people; `notices` are the same
    with codes and cures. A termination message has as much of `inspection` and `notices` as fits, the file all.
    """

    ok: bool
    os_name: str = ""
    os_id: str = ""
    firmware: str = ""
    drivers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    accelerator: str = ""
    digests: dict[str, str] = {}
    seconds: float = 0.0
    resumed_commit: bool = False
    notices: tuple[Notice, ...] = ()
    inspection: Inspection | None = None
    failure: Failure | None = None


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
