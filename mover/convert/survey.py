"""The inspection report of a guest whose filesystems are mounted, and what in it makes a conversion hopeless."""

from __future__ import annotations

from typing import Any

from mtv.model.conversion import GuestFilesystem, Inspection
from mtv.model.transfer import Failure

_MIB = 1 << 20
_MIN_INODES = 100
_MAX_APPLICATIONS = 10_000
_EFI_SYSTEM = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_BOOT_LOADERS = (
    ("grub2", ("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg", "/boot/efi/EFI/*/grub.cfg")),
    ("grub", ("/boot/grub/menu.lst", "/boot/grub/grub.conf")),
    ("systemd-boot", ("/boot/loader/loader.conf", "/efi/loader/loader.conf", "/boot/efi/loader/loader.conf")),
    ("windows", ("/bootmgr", "/Windows/Boot/EFI/bootmgfw.efi", "/ntldr")),
)


def survey(guest: Any, root: str) -> Inspection:
    """Look through the guest that `guest` (a libguestfs handle) has mounted; `root` is its root device."""
    points: dict[str, str] = guest.inspect_get_mountpoints(root)
    mounted = set(guest.mountpoints().values())
    kind = guest.inspect_get_type(root)
    major, minor = guest.inspect_get_major_version(root), guest.inspect_get_minor_version(root)
    applications = guest.inspect_list_applications2(root)[:_MAX_APPLICATIONS]
    return Inspection(
        root=root,
        type=kind,
        distro=guest.inspect_get_distro(root),
        version=f"{major}.{minor}",
        product=guest.inspect_get_product_name(root),
        variant=guest.inspect_get_product_variant(root),
        os_id=guest.inspect_get_osinfo(root),
        arch=guest.inspect_get_arch(root),
        hostname=guest.inspect_get_hostname(root),
        firmware="efi" if _has_efi_partition(guest) else "bios",
        boot_loader=_boot_loader(guest),
        filesystems=tuple(_filesystem(guest, points[p], p) for p in sorted(points) if p in mounted),
        applications=tuple(_application(application) for application in applications),
        fstab_by_path=_fstab_by_path(guest) if kind == "linux" else (),
        drive_letters=dict(guest.inspect_get_drive_mappings(root)) if kind == "windows" else {},
        complete=True,
    )


def shortage(inspection: Inspection) -> Failure | None:
    """The filesystem that is too full for virt-v2v, by virt-v2v's own limits."""
    has_boot = any(filesystem.mountpoint == "/boot" for filesystem in inspection.filesystems)
    for filesystem in inspection.filesystems:
        needed = _needed_mib(filesystem.mountpoint, windows=inspection.type == "windows", has_boot=has_boot)
        if filesystem.free_bytes < needed * _MIB:
            return Failure(
                code="guest-disk-full",
                message=f"the guest's filesystem {filesystem.mountpoint} is too full to convert:"
                f" {filesystem.free_bytes / _MIB:.1f} MiB free, {needed} MiB needed",
                cure="free space inside the guest and run the VM again",
            )
        if 0 <= filesystem.inodes_free < _MIN_INODES:
            return Failure(
                code="guest-inodes-full",
                message=f"the guest's filesystem {filesystem.mountpoint} has {filesystem.inodes_free} free inodes,"
                f" {_MIN_INODES} are needed",
                cure="remove files inside the guest and run the VM again",
            )
    return None


def _needed_mib(mountpoint: str, *, windows: bool, has_boot: bool) -> int:
    if windows and mountpoint == "/":
        return 100
    if mountpoint == "/boot" or (mountpoint == "/" and not has_boot):
        return 50
    return 20 if mountpoint == "/" else 10


def _filesystem(guest: Any, device: str, mountpoint: str) -> GuestFilesystem:
    numbers = guest.statvfs(mountpoint)
    return GuestFilesystem(
        device=device,
        mountpoint=mountpoint,
        type=guest.vfs_type(device),
        size_bytes=numbers["blocks"] * numbers["bsize"],
        free_bytes=numbers["bfree"] * numbers["bsize"],
        # btrfs and the like make inodes as they need them and report none at all
        inodes_free=numbers["favail"] if numbers["files"] else -1,
    )


def _application(application: dict[str, Any]) -> str:
    version = "-".join(part for part in (application["app2_version"], application["app2_release"]) if part)
    return f"{application['app2_name']} {version}".strip()


def _fstab_by_path(guest: Any) -> tuple[str, ...]:
    if not guest.is_file("/etc/fstab", followsymlinks=True):
        return ()
    lines = (line.strip() for line in bytes(guest.read_file("/etc/fstab")).decode(errors="replace").splitlines())
    return tuple(line for line in lines if line.startswith("/dev/disk/by-path/"))


def _boot_loader(guest: Any) -> str:
    for name, patterns in _BOOT_LOADERS:
        if any(guest.glob_expand(pattern) for pattern in patterns):
            return name
    return ""


def _has_efi_partition(guest: Any) -> bool:
    for partition in guest.list_partitions():
        disk, number = guest.part_to_dev(partition), guest.part_to_partnum(partition)
        if guest.part_get_parttype(disk) == "gpt" and guest.part_get_gpt_type(disk, number).upper() == _EFI_SYSTEM:
            return True
    return False
