"""Wire types of a conversion and of the preflight before it: what the pod is asked, and what it found and did.

Kept as free of everything as `mtv.model.transfer`. Sizes are bytes, times are seconds, digests are lower-case hex.
"""

from __future__ import annotations

import re

import msgspec

from mtv.model.transfer import WORK_DIR, DiskSource, Failure

SCRIPT_NAME = re.compile(
    r"^(?P<order>[0-9]{1,9})_((?P<windows>win_firstboot)[A-Za-z0-9_.-]*\.ps1"
    r"|(?P<linux>linux_run|linux_firstboot)[A-Za-z0-9_.-]*\.sh)\Z"
)
"""How a user's script must be named (see `GuestScript`)."""
SCRIPT_NAME_CURE = "name it NN_linux_run_….sh, NN_linux_firstboot_….sh or NN_win_firstboot_….ps1"
ANY_FILE = "*"
"""As `LuksKey.file`: every file in the credentials directory is a key."""


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
    file in the credentials directory, or `*` for each file there. The key itself is never here.
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


class PreflightDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as its source has it, to be looked into before it is copied."""

    id: str
    size_bytes: int
    source: DiskSource


class PreflightSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one preflight pod looks into: the disks of a VM in boot order. The rest is as in `ConvertSpec`;
    `keys_dir` holds the LUKS keys, `credentials_dir` what the sources need.
    """

    plan: str
    run: str
    vm: str
    disks: tuple[PreflightDisk, ...]
    root_disk: str = ""
    luks_keys: tuple[LuksKey, ...] = ()
    keys_dir: str = "/run/mtv"
    credentials_dir: str = "/run/mtv"
    virtio_win: str = ""
    timeout_s: float = 1800.0


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
    `digests_left_out` counts those that did not fit there; the log has them all, too.
    `untouched` says of a failure that it came before anything was written to the disks.
    """

    ok: bool
    untouched: bool = False
    os_name: str = ""
    os_id: str = ""
    firmware: str = ""
    drivers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    accelerator: str = ""
    digests: dict[str, str] = {}
    digests_left_out: int = 0
    seconds: float = 0.0
    resumed_commit: bool = False
    notices: tuple[Notice, ...] = ()
    inspection: Inspection | None = None
    failure: Failure | None = None
