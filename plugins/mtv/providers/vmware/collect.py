"""Reading by PropertyCollector only: a page of objects a round trip, and only the properties that we use.

Attribute access on pyVmomi's managed objects is a round trip each, so nothing outside this module touches them
beyond their id.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
# (pyVmomi ships types for its data, but none for constructors and connect functions)
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from pyVmomi import vim, vmodl

from mtv.providers.vmware import hosts
from mtv.providers.vmware.session import CALL_LOST, Api

_log = logging.getLogger(__name__)

_PC = vmodl.query.PropertyCollector

PAGE_OBJECTS = 100
_MAX_PAGES = 10_000
_STANDALONE = "ha-host"  # the id that an ESXi host which is asked itself gives itself
_MAX_EVENTS = 1000  # vCenter's own limit of one QueryEvents answer

POWER_ON_EVENTS = ("VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmRestartedOnAlternateHostEvent")
"""What vCenter posts when a VM starts: by hand on its host, where DRS placed it, where HA brought it back."""

VM_PATHS = (
    "name",
    "parent",
    "parentVApp",
    "config.uuid",
    "config.instanceUuid",
    "config.guestId",
    "config.guestFullName",
    "config.firmware",
    "config.bootOptions.bootOrder",
    "config.bootOptions.efiSecureBootEnabled",
    "config.template",
    "config.changeTrackingEnabled",
    "config.changeVersion",
    "config.cpuAffinity",
    "config.cpuHotAddEnabled",
    "config.cpuHotRemoveEnabled",
    "config.memoryHotAddEnabled",
    "config.nestedHVEnabled",
    "config.flags.diskUuidEnabled",
    "config.extraConfig",
    "config.hardware.numCPU",
    "config.hardware.numCoresPerSocket",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "runtime.host",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.faultToleranceState",
    "guest.hostName",
    "guest.guestFullName",
    "guest.ipAddress",
    "guest.net",
    "guest.ipStack",
    "guest.disk",
    "guest.toolsStatus",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "snapshot",
    "summary.storage.committed",
    "summary.quickStats.balloonedMemory",
    "network",
    "customValue",
)

SURROUNDING_PATHS: dict[str, tuple[str, ...]] = {
    "Folder": ("name", "parent"),
    "VirtualApp": ("name", "parentFolder", "parentVApp"),
    "Datacenter": ("name", "parent"),
    "ComputeResource": ("name", "parent", "datastore", "network"),
    "ClusterComputeResource": ("configurationEx",),
    "HostSystem": (
        "name",
        "parent",
        "runtime.inMaintenanceMode",
        "overallStatus",
        "summary.managementServerIp",
        "summary.hardware.vendor",
        "summary.hardware.model",
        "summary.hardware.numCpuPkgs",
        "summary.hardware.numCpuCores",
        "summary.hardware.memorySize",
        "summary.config.product.name",
        "summary.config.product.version",
        "config.dateTimeInfo.timeZone.key",
        "datastore",
        "network",
    ),
    "Datastore": (
        "name",
        "parent",
        "summary.type",
        "summary.capacity",
        "summary.freeSpace",
        "summary.maintenanceMode",
        "info",
    ),
    "Network": ("name", "parent"),
    # All of the summary: what is asked of it belongs to a subtype, whose paths a vCenter may refuse.
    "OpaqueNetwork": ("summary",),
    "DistributedVirtualPortgroup": ("key", "config.distributedVirtualSwitch", "config.defaultPortConfig"),
}
"""What is read of everything that VMs refer to, for any reading of VMs."""

LISTED_PATHS: dict[str, tuple[str, ...]] = {
    **SURROUNDING_PATHS,
    "HostSystem": (*SURROUNDING_PATHS["HostSystem"], *hosts.PATHS),
    "Datastore": (*SURROUNDING_PATHS["Datastore"], "iormConfiguration"),
    "Network": (*SURROUNDING_PATHS["Network"], "host"),
    "DistributedVirtualSwitch": ("name", "parent", "uuid", "summary.hostMember"),
}
"""The same with what only an inventory keeps: a host with many disks has much to say of them."""


class Found(NamedTuple):
    """One object as read: its kind (`VirtualMachine`), id (moref), and the properties that it has.

    A property that is unset is absent; `unreadable` names those that the user may not read, `privileges` what the
    user lacks to read them.
    """

    kind: str
    id: str
    properties: dict[str, Any]
    unreadable: tuple[str, ...] = ()
    privileges: tuple[str, ...] = ()


def moref(reference: Any) -> str:
    """Return the id of a managed object reference without a round trip; "" for none."""
    return str(reference._GetMoId()) if reference is not None else ""


def kind_of(reference: Any) -> str:
    """Return the managed type's plain name, such as `Folder`."""
    return type(reference).__name__.rsplit(".", 1)[-1]


def vm_ids(api: Api) -> list[str]:
    """Return the ids of every VM that the user may see."""
    view = api.content.viewManager.CreateContainerView(api.content.rootFolder, [vim.VirtualMachine], True)
    with _destroyed(view):
        return [moref(reference) for reference in view.view]


def virtual_machines(api: Api, paths: Sequence[str]) -> list[Found]:
    """Read `paths` of every VM that the user may see, through a view made for this call."""
    return _in_view(api, {"VirtualMachine": paths})


def objects(api: Api, references: Iterable[Any], paths: Sequence[str]) -> list[Found]:
    """Read `paths` of the given objects of one type; those that vanish meanwhile are simply absent."""
    left = {moref(reference): reference for reference in references}
    while left:
        some = next(iter(left.values()))
        spec = _PC.FilterSpec(
            objectSet=[_PC.ObjectSpec(obj=reference, skip=False) for reference in left.values()],
            propSet=[_PC.PropertySpec(type=type(some), pathSet=list(paths))],
        )
        try:
            return _pages(api, spec)
        except vmodl.fault.ManagedObjectNotFound as fault:
            if left.pop(moref(fault.obj), None) is None:
                raise
    return []


def vm_reference(api: Api, vm_id: str) -> vim.VirtualMachine:
    """Return a reference to the VM of that id in this session; nothing is asked."""
    return vim.VirtualMachine(vm_id, api.instance._stub)


def installation_uuid(api: Api) -> str:
    """Return the UUID of this vCenter, or of the hardware of a standalone ESXi host, which has none; "" if not told."""
    if api.content.about.instanceUuid:
        return str(api.content.about.instanceUuid)
    found = objects(api, [vim.HostSystem(_STANDALONE, api.instance._stub)], ("summary.hardware.uuid",))
    return str(found[0].properties.get("summary.hardware.uuid", "")) if found else ""


def surroundings(api: Api, *, listed: bool = False) -> list[Found]:
    """Read folders, datacenters, clusters, hosts, datastores and networks: what VMs refer to.

    `listed` asks for all that an inventory keeps of them, not only for what documents of VMs hold.
    """
    return _in_view(api, LISTED_PATHS if listed else SURROUNDING_PATHS)


class PowerOns(NamedTuple):
    """VM id → time of its last power-on; `is_cut` when older ones may have been left out of the answer."""

    times: dict[str, str]
    is_cut: bool = False


def last_power_ons(api: Api, vm_id: str = "") -> PowerOns:
    """Read when VMs were powered on last, as far as the newest 1000 such events tell: of all, or of one VM.

    A powered-off VM keeps no boot time of its own, so the events are the only witness that it ran meanwhile.
    A standalone ESXi host may keep no event history, and a user may not read it; then nothing is known.
    """
    spec = vim.event.EventFilterSpec(eventTypeId=list(POWER_ON_EVENTS), maxCount=_MAX_EVENTS)
    if vm_id:
        spec.entity = vim.event.EventFilterSpec.ByEntity(entity=vm_reference(api, vm_id), recursion="self")
    events = _events(api, spec)
    newest: dict[str, str] = {}
    for event in events:
        if event.vm is not None:
            of, at = moref(event.vm.vm), event.createdTime.isoformat()
            newest[of] = max(at, newest.get(of, ""))
    return PowerOns(newest, is_cut=len(events) >= _MAX_EVENTS)


def remembers(api: Api, moment: datetime) -> bool:
    """Return whether an event from before `moment` is still there.

    The oldest are forgotten first, so everything that has happened since then is there, too.
    """
    before = vim.event.EventFilterSpec.ByTime(endTime=moment)
    return bool(_events(api, vim.event.EventFilterSpec(time=before, maxCount=1)))


def _events(api: Api, spec: vim.event.EventFilterSpec) -> list[Any]:
    if api.content.eventManager is None:
        return []
    try:
        return list(api.content.eventManager.QueryEvents(spec))
    except vmodl.fault.NotSupported:
        return []
    except vmodl.fault.ManagedObjectNotFound:
        return []  # the VM has vanished meanwhile
    except vim.fault.NotAuthenticated:
        raise
    except vim.fault.NoPermission:
        _log.warning("the user may not read events: that a VM which is off ran meanwhile will not be noticed")
        return []


def custom_fields(api: Api) -> dict[int, str]:
    """Return the names of custom attributes by their keys; none where there is no manager of them, or no right."""
    manager = api.content.customFieldsManager
    if manager is None:
        return {}
    spec = _PC.FilterSpec(
        objectSet=[_PC.ObjectSpec(obj=manager, skip=False)],
        propSet=[_PC.PropertySpec(type=type(manager), pathSet=["field"])],
    )
    return {
        int(field.key): str(field.name) for found in _pages(api, spec) for field in found.properties.get("field", ())
    }


def _in_view(api: Api, paths: Mapping[str, Sequence[str]]) -> list[Found]:
    types = {name: getattr(vim, name, None) or getattr(vim.dvs, name) for name in paths}
    view = api.content.viewManager.CreateContainerView(api.content.rootFolder, list(types.values()), True)
    with _destroyed(view):
        walk = _PC.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
        spec = _PC.FilterSpec(
            objectSet=[_PC.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
            propSet=[_PC.PropertySpec(type=types[name], pathSet=list(wanted)) for name, wanted in paths.items()],
        )
        return _pages(api, spec)


@contextmanager
def _destroyed(view: Any) -> Iterator[None]:
    """Destroy a view at the end; one whose session has ended, or whose connection is broken, goes with it."""
    try:
        yield
    except (vim.fault.NotAuthenticated, *CALL_LOST):
        raise
    except BaseException:
        view.Destroy()
        raise
    view.Destroy()


def _pages(api: Api, spec: Any) -> list[Found]:
    collector = api.content.propertyCollector
    found: list[Found] = []
    page = collector.RetrievePropertiesEx([spec], _PC.RetrieveOptions(maxObjects=PAGE_OBJECTS))
    for _ in range(_MAX_PAGES):
        if page is None:
            break
        found += [_found(content) for content in page.objects]
        if not page.token:
            break
        page = collector.ContinueRetrievePropertiesEx(page.token)
    return found


def _found(content: Any) -> Found:
    denied = _denied(content.missingSet or ())
    return Found(
        kind=kind_of(content.obj),
        id=moref(content.obj),
        properties={entry.name: entry.val for entry in content.propSet},
        unreadable=tuple(sorted(denied)),
        privileges=tuple(sorted({privilege for privilege in denied.values() if privilege})),
    )


def _denied(missing: Iterable[Any]) -> dict[str, str]:
    """Return the paths that the user may not read, with the privilege for each.

    Properties that this version of vSphere does not have are missing, too: they are unset, and nobody's fault.
    """
    return {
        str(entry.path): str(entry.fault.privilegeId or "")
        for entry in missing
        if isinstance(entry.fault, vim.fault.NoPermission)
    }
