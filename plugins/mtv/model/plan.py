"""The plan: which VMs move, from where to where, in which waves. One model checks YAML, CSV and compiled JSON alike.

VM-level options (`VmOptions`) may stand in the plan's `defaults`, a wave's `defaults` or the VM; the nearest wins.
Option names are snake_case of Forklift's fields where one exists.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
ConnectionId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """The source platform; the connection's type says which provider speaks to it."""

    connection: ConnectionId


class Target(_Frozen):
    """The target cluster and the namespace that receives the VMs."""

    connection: ConnectionId
    namespace: DnsLabel


class NetworkTarget(_Frozen):
    """Where a source network's cards go: the pod network, a NetworkAttachmentDefinition `ns/name`, or nowhere."""

    type: Literal["pod", "multus", "ignored"] = "pod"
    name: str = ""


class StorageTarget(_Frozen):
    """Where a source datastore's disks go. Without a class that is the cluster's default one; without `volume_mode` the
    StorageProfile decides, else Filesystem.
    """

    storage_class: str = ""
    volume_mode: Literal["Filesystem", "Block"] | None = None
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = None


class BootProof(_Frozen):
    """How a VM proves that it booted on the target.

    `marker` is a regular expression searched for in the console; without one a login prompt or the guest agent
    counts. `throw_away` also boots a VM that stays off, from an overlay copy that is thrown away afterwards.
    """

    marker: str = ""
    timeout_s: int = Field(default=600, gt=0)
    throw_away: bool = False


class VmOptions(_Frozen):
    """Options of one VM; `None` means not said here, look one level up.

    `customization_scripts` is a ConfigMap of the target namespace, or `./set` for one of the plan's own `scripts`.
    `luks` is a Secret there, each of whose keys may open any encrypted device. `virtio_win` is a path in the mover's
    image, or `claim:name[/path]` for a claim there. docs/plan.md tells of all of them.
    """

    type: Literal["cold", "warm"] | None = None
    source: ConnectionId | None = None
    target_name: DnsLabel | None = None
    target_power_state: Literal["on", "off", "auto"] | None = None
    storage_class: str | None = None
    volume_mode: Literal["Filesystem", "Block"] | None = None
    network: str | None = None
    root_disk: str | None = None
    preserve_static_ips: bool | None = None
    skip_guest_conversion: bool | None = None
    customization_scripts: str | None = None
    luks: str | None = None
    virtio_win: str | None = None
    inspect: bool | None = None
    preflight: bool | None = None
    verify: Literal["full", "sampled", "off"] | None = None
    verify_source: bool | None = None
    preallocate: bool | None = None
    transport: Literal["auto", "datastore", "nfc"] | None = None
    on_failure: Literal["rollback", "hold"] | None = None
    shutdown_timeout_s: int | None = Field(default=None, gt=0)
    boot_proof: BootProof | None = None
    enable_change_tracking: bool | None = None


class PlannedVm(VmOptions):
    """A VM of a wave. `id` is its stable key within the plan (a DNS label made from the name), `name` the source's."""

    id: DnsLabel
    name: str = Field(min_length=1)


class Window(_Frozen):
    """A maintenance window in local time of `timezone` (IANA name)."""

    start: str
    end: str
    timezone: str = "UTC"


class Approval(_Frozen):
    """A wave that starts only when it was approved, by one of these if any are named (`mtv plan approve`)."""

    by: tuple[str, ...] = ()


class Precopy(_Frozen):
    """How a warm wave copies ahead of its cutover: every `interval_s` seconds, at the latest until `deadline`."""

    interval_s: int = Field(default=3600, ge=60)
    deadline: str = ""


class Wave(_Frozen):
    """VMs that move together; `start_after` names waves that must have completed."""

    name: PlanName
    vms: tuple[PlannedVm, ...] = ()
    defaults: VmOptions = VmOptions()
    window: Window | None = None
    schedule: str | None = None
    precopy: Precopy | None = None
    start_after: tuple[str, ...] = ()
    approval: Approval | None = None
    max_vms_in_flight: int = Field(default=4, ge=1, le=100)


class RateWindow(_Frozen):
    """Times of day (`HH:MM`) between which another limit holds. One that ends before it starts runs over midnight."""

    start: str
    end: str
    limit: str


class Bandwidth(_Frozen):
    """How fast each VM's copy may read from its source (`100M`, `1.5GiB`, `off`), and windows of the day in
    `timezone` (IANA name), of which the first that holds the moment counts.
    """

    limit: str = "off"
    windows: tuple[RateWindow, ...] = ()
    timezone: str = "UTC"


class AcceptedConcern(_Frozen):
    """A concern or condition, by its id, that somebody has looked at and accepts: for some VMs (ids), or for all."""

    id: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    by: str = Field(min_length=1)
    vms: tuple[DnsLabel, ...] = ()


class Plan(_Frozen):
    """A whole migration plan; unknown keys are errors."""

    name: PlanName
    description: str = ""
    source: Source | None = None
    target: Target
    network_map: dict[str, NetworkTarget] = {}
    storage_map: dict[str, StorageTarget] = {}
    scripts: dict[str, dict[str, str]] = {}
    """Scripts for guests by set and name; the folder `<plan>.scripts/<set>` beside the plan's file adds to them."""
    bandwidth: Bandwidth = Bandwidth()
    accept_concerns: tuple[AcceptedConcern, ...] = ()
    defaults: VmOptions = VmOptions()
    waves: tuple[Wave, ...]

    def wave(self, name: str) -> Wave:
        """Return the wave called `name`. Raises `KeyError`."""
        for wave in self.waves:
            if wave.name == name:
                return wave
        raise KeyError(name)


class EffectiveVm(_Frozen):
    """A VM with every option decided: what steps work with (see `mtv.plan.options.effective`)."""

    id: DnsLabel
    name: str
    source: ConnectionId
    target_name: DnsLabel
    type: Literal["cold", "warm"] = "cold"
    target_power_state: Literal["on", "off", "auto"] = "auto"
    storage_class: str | None = None
    volume_mode: Literal["Filesystem", "Block"] | None = None
    network: str | None = None
    root_disk: str = ""
    preserve_static_ips: bool = True
    skip_guest_conversion: bool = False
    customization_scripts: str = ""
    luks: str = ""
    virtio_win: str = ""
    inspect: bool = False
    preflight: bool = False
    verify: Literal["full", "sampled", "off"] = "full"
    verify_source: bool = False
    preallocate: bool = False
    transport: Literal["auto", "datastore", "nfc"] = "auto"
    on_failure: Literal["rollback", "hold"] = "rollback"
    shutdown_timeout_s: int = 300
    boot_proof: BootProof = BootProof()
    enable_change_tracking: bool = False
