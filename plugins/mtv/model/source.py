"""A source VM as every provider delivers it: the values that steps, the target VM and the report need.

The provider's full attribute document (the rule language of validation, named as Forklift's inventory names them)
travels beside it in `SourceVm.document`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class PowerState(StrEnum):
    """Whether a VM runs."""

    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"


class Firmware(StrEnum):
    """How the guest boots."""

    BIOS = "bios"
    EFI = "efi"


class SourceDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual disk. `index` is the provider's order (0 is the boot candidate); `bus` is scsi, sata, ide or nvme.

    `identity` names the disk for ever (vSphere: instance UUID + device key + base vmdk path; OVA: file + member);
    `generation` changes whenever its bytes may have (vSphere: change id, else config version + last power-on;
    OVA: content digest of the manifest, else size + mtime). A copy resumes only within one generation.
    `storage` is the key looked up in the storage map (vSphere: datastore name; OVA: disk id, else `default`).
    `locator` is what the provider needs to open the disk again (ids only, no secrets).
    """

    id: str
    index: int
    size_bytes: int
    bus: str
    identity: str
    generation: str
    storage: str
    locator: dict[str, Any] = {}
    serial: str = ""
    shared: bool = False
    allocated_bytes: int | None = None


class SourceNic(msgspec.Struct, frozen=True, kw_only=True):
    """One network card. `network` is the key looked up in the network map; `mac` is lower case with colons."""

    index: int
    network: str
    mac: str
    model: str = "virtio"
    connected: bool = True


class SourceVm(msgspec.Struct, frozen=True, kw_only=True):
    """One VM on the source. `id` is the provider's own (moref; OVA path + VM name), `memory_bytes` of RAM."""

    provider: str
    id: str
    name: str
    uuid: str
    power: PowerState
    cpu_count: int
    cores_per_socket: int
    memory_bytes: int
    firmware: Firmware
    secure_boot: bool = False
    tpm: bool = False
    guest_os: str = ""
    is_template: bool = False
    host: str = ""
    disks: tuple[SourceDisk, ...] = ()
    nics: tuple[SourceNic, ...] = ()
    document: dict[str, Any] = {}
