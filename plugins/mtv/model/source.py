"""A source VM as every provider delivers it: the values that steps, the target VM and the report need.

The provider's full attribute document (the rule language of validation, named as Forklift's inventory names them)
travels beside it in `SourceVm.document`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

_KVM_PROVIDERS = frozenset({"ovirt", "openstack"})


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


class Thing(NamedTuple):
    """Something that VMs use or could use: its kind (host, datastore …), its id, its name, its attributes."""

    kind: str
    key: str
    name: str
    document: dict[str, Any]


class SourceDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual disk. `index` is the provider's order (0 is the boot candidate).

    `bus` is scsi, sata, ide, nvme or virtio.

    `identity` names the disk for ever (vSphere: instance UUID + device key + the disk's own UUID, or its base vmdk path
    where it has none; OVA: file + member; oVirt: disk id). What is kept under one of `former_identities`, which earlier
    versions gave, is of the same disk.
    `generation` changes whenever its bytes may have (vSphere: change id, else config version + last power-on;
    OVA: content digest of the manifest, else size + mtime; oVirt: image id + last start and stop). A copy resumes only
    within one generation.
    `storage` is the key looked up in the storage map (vSphere: datastore name; OVA: disk id, else `default`;
    oVirt: storage domain name).
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
    former_identities: tuple[str, ...] = ()


class SourceNic(msgspec.Struct, frozen=True, kw_only=True):
    """One network card. `network` is the key looked up in the network map; `mac` is lower case with colons."""

    index: int
    network: str
    mac: str
    model: str = "virtio"
    connected: bool = True


class SourceVm(msgspec.Struct, frozen=True, kw_only=True):
    """One VM on the source. `id` is the provider's own (moref; OVA path + VM name; uuid), `memory_bytes` of RAM.

    `cpu_count` counts threads where a core has several. `dedicated_cpus`: each of them has a CPU of the host to itself.
    `serial` is the machine's serial number, "" when it is the uuid; `timezone` the IANA name of the zone that the
    hardware clock shows, "" for UTC.
    """

    provider: str
    id: str
    name: str
    uuid: str
    power: PowerState
    cpu_count: int
    cores_per_socket: int
    memory_bytes: int
    firmware: Firmware
    threads_per_core: int = 1
    dedicated_cpus: bool = False
    serial: str = ""
    timezone: str = ""
    secure_boot: bool = False
    tpm: bool = False
    guest_os: str = ""
    is_template: bool = False
    host: str = ""
    disks: tuple[SourceDisk, ...] = ()
    nics: tuple[SourceNic, ...] = ()
    document: dict[str, Any] = {}

    @property
    def is_kvm_guest(self) -> bool:
        """Whether the guest runs on KVM already: it keeps the devices it knows, and nothing has to be converted."""
        return self.provider in _KVM_PROVIDERS
