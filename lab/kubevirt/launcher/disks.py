"""Disks of a VMI: which file or device is behind each, and the device that the guest sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .draft import Draft, NewImage, Unsupported
from .quantity import size_bytes

_CACHES = {  # KubeVirt's words: (bypasses the page cache, the guest sees a write cache)
    "none": (True, True),
    "writethrough": (False, False),
    "writeback": (False, True),
}


def claim_of(volume: dict[str, Any]) -> str:
    """Name of the claim behind a volume, "" if there is none. A DataVolume's claim has its name."""
    ephemeral = (volume.get("ephemeral") or {}).get("persistentVolumeClaim") or {}
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    return str(claim or (volume.get("dataVolume") or {}).get("name") or ephemeral.get("claimName") or "")


def path_of(volume_name: str, volume_mode: str, claims: Path, devices: Path) -> Path:
    """Where the pod shows a claim: by the claim's volume mode, never by what happens to exist at a path."""
    if volume_mode == "Block":
        return devices / volume_name
    if volume_mode == "Filesystem":
        return claims / volume_name / "disk.img"
    raise Unsupported(f"volume {volume_name}: volume mode {volume_mode!r} is neither Block nor Filesystem")


def add_disks(draft: Draft) -> None:
    """Controllers and disks, in the order of the spec."""
    volumes = {volume["name"]: volume for volume in draft.spec.get("volumes") or []}
    disks = draft.devices.get("disks") or []
    ordered = any(item.get("bootOrder") for item in disks + (draft.devices.get("interfaces") or []))
    draft.add("-boot", "strict=on")
    draft.device("qemu-xhci", {"id": "usb"})
    draft.device(draft.virtio("scsi"), {"id": "scsi0"})
    for index, disk in enumerate(disks):
        if disk["name"] not in volumes:
            raise Unsupported(f"disk {disk['name']} has no volume")
        # KubeVirt boots from the first disk when nobody says an order.
        boot_index = disk.get("bootOrder") or (1 if index == 0 and not ordered else None)
        _add_disk(draft, index, disk, volumes[disk["name"]], boot_index)


def _add_disk(draft: Draft, index: int, disk: dict[str, Any], volume: dict[str, Any], boot_index: int | None) -> None:
    name = disk["name"]
    kind = next((kind for kind in ("cdrom", "lun", "disk") if kind in disk), "disk")
    target = disk.get(kind) or {}
    read_only = kind == "cdrom" or bool(target.get("readonly"))
    cache = disk.get("cache") or ("none" if name in draft.host.direct_io else "writethrough")
    if cache not in _CACHES:
        raise Unsupported(f"disk {name}: cache {cache!r}")
    direct, write_cache = _CACHES[cache]
    _add_image(draft, index, volume, read_only=read_only, direct=direct, aio=disk.get("io"))
    if kind == "lun":
        draft.notes.append(f"disk {name}: a lun is shown as an ordinary SCSI disk, its commands are not passed through")
    size = (disk.get("blockSize") or {}).get("custom") or {}
    plain = kind == "cdrom" or target.get("bus") == "usb"  # these devices lack the finer properties
    draft.device(
        _model(draft, target.get("bus") or "sata", kind),  # sata is KubeVirt's default on amd64
        {
            "drive": f"disk{index}",
            "id": f"ua-{name}",
            "serial": disk.get("serial"),
            "bootindex": boot_index,
            "share-rw": True if disk.get("shareable") else None,
            "write-cache": None if plain else write_cache,
            "logical_block_size": size.get("logical"),
            "physical_block_size": size.get("physical"),
            "werror": None if plain else disk.get("errorPolicy"),
        },
    )


def _model(draft: Draft, bus: str, kind: str) -> str:
    medium = "cd" if kind == "cdrom" else "hd"
    if bus == "virtio" and kind != "cdrom":
        return draft.virtio("blk")
    if bus == "sata":
        used = sum(argument.startswith("ide-") for argument in draft.argv)
        if used == 6:  # ports of q35's AHCI controller
            raise Unsupported("more than six disks on bus sata")
        return f"ide-{medium},bus=ide.{used}"
    if bus == "scsi":
        return f"scsi-{medium},bus=scsi0.0"
    if bus == "usb":
        return "usb-storage,bus=usb.0"
    raise Unsupported(f"a {kind} on bus {bus}")


def _add_image(
    draft: Draft, index: int, volume: dict[str, Any], *, read_only: bool, direct: bool, aio: str | None
) -> None:
    """Block nodes ``file<index>`` (and ``base<index>``) below the format node ``disk<index>``."""
    name = volume["name"]
    common: dict[str, object] = {"cache.direct": direct, "discard": "unmap", "read-only": read_only}
    protocol = {**common, "aio": aio}
    top = {"node-name": f"disk{index}", "file": f"file{index}"}
    if volume.get("emptyDisk"):
        path = draft.places.empty_disks / f"{name}.qcow2"
        draft.images.append(NewImage(path, size_bytes=size_bytes(volume["emptyDisk"]["capacity"])))
        draft.blockdev({"driver": "file", "node-name": f"file{index}", "filename": path, **protocol})
        draft.blockdev({"driver": "qcow2", **top, **common})
        return
    if not claim_of(volume):
        kinds = ", ".join(sorted(key for key in volume if key != "name")) or "nothing"
        raise Unsupported(f"volume {name} is a {kinds}: only claims, DataVolumes, ephemeral and empty disks are known")
    mode = draft.volume_modes.get(name, "")
    path = path_of(name, mode, draft.places.claims, draft.places.devices)
    driver = "host_device" if mode == "Block" else "file"
    if not volume.get("ephemeral"):
        if (volume.get("persistentVolumeClaim") or {}).get("readOnly"):
            protocol["read-only"] = common["read-only"] = True
        draft.blockdev({"driver": driver, "node-name": f"file{index}", "filename": path, **protocol})
        draft.blockdev({"driver": "raw", **top, **common})
        return
    # Writes of the guest go to a qcow2 file in the pod's own folder and end with the pod; the claim is only read.
    overlay = draft.places.overlays / name / "disk.qcow2"
    draft.images.append(NewImage(overlay, backing=path))
    base = {"cache.direct": direct, "read-only": True}
    draft.blockdev({"driver": driver, "node-name": f"basefile{index}", "filename": path, **base, "aio": aio})
    draft.blockdev({"driver": "raw", "node-name": f"base{index}", "file": f"basefile{index}", **base})
    draft.blockdev({"driver": "file", "node-name": f"file{index}", "filename": overlay, **protocol})
    draft.blockdev({"driver": "qcow2", **top, "backing": f"base{index}", **common})
