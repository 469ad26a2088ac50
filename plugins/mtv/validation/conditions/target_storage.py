"""Storage of the target: classes that the plan names or falls to, what CDI knows of them, and room for the disks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mtv.model.condition import Condition
from mtv.model.plan import Plan, StorageTarget
from mtv.model.source import SourceDisk
from mtv.model.target_facts import Capacity, Quota, StorageProfile, TargetFacts, known
from mtv.validation.conditions.case import Case, advisory, critical, warning

_STATIC = "kubernetes.io/no-provisioner"
_STORAGE = "requests.storage"
_MEMORY = ("requests.memory", "limits.memory")


def conditions(plan: Plan, cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """Return what is wrong with the target's storage, for the plan or for the VMs that it concerns."""
    yield from _classes(plan, cases, target)
    yield from _profiles(cases, target)
    yield from _room(cases, target)
    yield from _quotas(cases, target)


def _disks(case: Case, target: TargetFacts) -> Iterator[tuple[SourceDisk, StorageTarget]]:
    """Yield the disks that some map covers, with where they go; "" is the class where there is no default one."""
    for seen in case.found:
        for disk in seen.disks:
            place = case.storage(disk)
            if place is not None:
                name = place.storage_class or target.default_class()
                yield disk, place.model_copy(update={"storage_class": name})


def _classes(plan: Plan, cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    classes = known(target.storage_classes)
    if classes is None:
        return
    by_name = {entry.name: entry for entry in classes}
    cure = f"Use one of: {', '.join(sorted(by_name)) or 'none, the cluster has no StorageClass'}."
    used: set[str] = set()
    for case in cases:
        yield from _default_class(case, target, cure)
        wanted = {place.storage_class for _, place in _disks(case, target)} - {""}
        for name in sorted(wanted):
            used.add(name)
            if name not in by_name:
                yield critical(
                    "DestinationStorageNotValid",
                    "plan.storage.class_missing",
                    "NotFound",
                    f"The target has no StorageClass {name}",
                    cure,
                    vms=(case.vm.id,),
                )
            elif by_name[name].provisioner == _STATIC:
                yield warning(
                    "StorageClassIsStatic",
                    "plan.storage.class_static",
                    "NotSupported",
                    f"StorageClass {name} makes no volumes by itself",
                    "Each disk needs a free PersistentVolume of its size there, and the work volume one more.",
                    vms=(case.vm.id,),
                )
    for name in sorted({entry.storage_class for entry in plan.storage_map.values()} - used - set(by_name) - {""}):
        yield warning(
            "DestinationStorageNotValid",
            "plan.storage.mapped_class_missing",
            "NotFound",
            f"storage_map names StorageClass {name}, which the target does not have",
            f"No disk of this wave goes there. {cure}",
        )


def _default_class(case: Case, target: TargetFacts, cure: str) -> Iterable[Condition]:
    """A disk whose class nothing names goes to the cluster's default one: there must be one, and it should be known."""
    places = [case.storage(disk) for seen in case.found for disk in seen.disks]
    if not any(place is not None and not place.storage_class for place in places):
        return
    default = target.default_class()
    if default:
        yield advisory(
            "DestinationStorageDefault",
            "plan.storage.default_class",
            "NotSet",
            f"Disks go to the target's default StorageClass, {default}",
            "The plan names no class for them. Name one in storage_map if another is meant.",
            vms=(case.vm.id,),
        )
        return
    yield critical(
        "DestinationStorageNotValid",
        "plan.storage.no_default_class",
        "NotSet",
        "The plan names no StorageClass, and the target has no default one",
        f"Name one in storage_map, or mark one as the default. {cure}",
        vms=(case.vm.id,),
    )


def _profiles(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """What CDI tells of the classes in use. Without CDI there are no profiles, and nothing is said."""
    profiles = {one.storage_class: one for one in known(target.storage_profiles) or ()}
    names = {one.name for one in known(target.storage_classes) or ()}
    for case in cases if profiles else ():
        for place in _unique(place for _, place in _disks(case, target)):
            if place.storage_class in names:
                yield from _profile(case, place, profiles.get(place.storage_class))


def _profile(case: Case, place: StorageTarget, profile: StorageProfile | None) -> Iterable[Condition]:
    name, vms = place.storage_class, (case.vm.id,)
    modes = dict(profile.modes) if profile is not None else {}
    if not any(modes.values()):
        if place.volume_mode is None or place.access_mode is None:
            yield warning(
                "StorageProfileIncomplete",
                "plan.storage.profile_incomplete",
                "NotSet",
                f"CDI knows no access and volume mode of StorageClass {name}",
                "Filesystem and ReadWriteOnce are taken. Set volume_mode and access_mode in storage_map, or "
                "claimPropertySets of the StorageProfile.",
                vms=vms,
            )
    elif place.volume_mode is not None and place.volume_mode not in modes:
        yield warning(
            "StorageModeUnknown",
            "plan.storage.mode_unknown",
            "NotSupported",
            f"CDI does not know StorageClass {name} to make {place.volume_mode} volumes",
            f"Its StorageProfile tells of {', '.join(modes)}. Try one VM, or leave volume_mode out.",
            vms=vms,
        )


def _unique(places: Iterable[StorageTarget]) -> list[StorageTarget]:
    return list(dict.fromkeys(places))


def _room(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """What CSI drivers tell of free space: a moment's word, and thin classes take more, so never more than a warning.

    A volume lies in one segment of the cluster, so the largest one counts for a disk, and all of them for a wave.
    """
    told: dict[str, list[Capacity]] = {}
    for capacity in known(target.capacities) or ():
        told.setdefault(capacity.storage_class, []).append(capacity)
    needs: Counter[str] = Counter()
    for case in cases:
        for disk, place in _disks(case, target):
            needs[place.storage_class] += disk.size_bytes
            limits = [limit for one in told.get(place.storage_class, ()) if (limit := _limit(one)) is not None]
            if limits and disk.size_bytes > max(limits):
                yield warning(
                    "StorageClassTooSmall",
                    "mtv.storage.no_room_for_disk",
                    "NotValid",
                    f"Disk {disk.id} of {disk.size_bytes} bytes is larger than any volume that StorageClass "
                    f"{place.storage_class} has room for ({max(limits)} bytes)",
                    "Free space there, or name another class.",
                    vms=(case.vm.id,),
                )
    yield from _wave_room(needs, told)


def _wave_room(needs: Mapping[str, int], told: Mapping[str, Sequence[Capacity]]) -> Iterable[Condition]:
    for name, size in sorted(needs.items()):
        free = [one.free_bytes for one in told.get(name, ()) if one.free_bytes is not None]
        if free and size > sum(free):
            yield warning(
                "StorageClassNearlyFull",
                "mtv.storage.no_room_for_wave",
                "NotValid",
                f"StorageClass {name} has {sum(free)} bytes free; the wave's disks need {size}",
                "Free space there, or make the wave smaller. Disks whose claims exist already are counted twice here.",
            )


def _limit(capacity: Capacity) -> int | None:
    said = [size for size in (capacity.free_bytes, capacity.largest_bytes) if size is not None]
    return min(said) if said else None


def _quotas(cases: Sequence[Case], target: TargetFacts) -> Iterable[Condition]:
    """Sizes of disks count as they are: claims are somewhat larger, so what is said here is never too much."""
    needs: Counter[str] = Counter()
    for case in cases:
        own: Counter[str] = Counter()
        for disk in (disk for seen in case.found for disk in seen.disks):
            own[_STORAGE] += disk.size_bytes
        for disk, place in _disks(case, target):
            if place.storage_class:
                own[f"{place.storage_class}.storageclass.storage.k8s.io/{_STORAGE}"] += disk.size_bytes
        for seen in case.found:
            own.update(dict.fromkeys(_MEMORY, seen.memory_bytes))
        for quota in known(target.quotas) or ():
            for resource, size in _beyond(quota, own, free=False):
                # A launcher pod may ask for less memory than its guest has, if the cluster overcommits.
                make = warning if resource in _MEMORY else critical
                yield make(
                    "QuotaTooSmall",
                    "plan.target.quota_too_small",
                    "NotValid",
                    f"Quota {quota.name} allows {quota.hard[resource]} bytes of {resource}; the VM needs {size}",
                    "Raise the quota, or name another namespace.",
                    vms=(case.vm.id,),
                )
        needs.update({resource: size for resource, size in own.items() if resource not in _MEMORY})
    for quota in known(target.quotas) or ():
        for resource, size in _beyond(quota, needs, free=True):
            left = quota.hard[resource] - quota.used.get(resource, 0)
            yield warning(
                "QuotaNearlyUsed",
                "plan.target.quota_nearly_used",
                "NotValid",
                f"Quota {quota.name} has {left} bytes of {resource} left; the wave's disks need {size}",
                "Raise the quota. Disks whose claims exist already are counted twice here.",
            )


def _beyond(quota: Quota, needs: Counter[str], *, free: bool) -> Iterable[tuple[str, int]]:
    for resource, size in needs.items():
        limit = quota.hard.get(resource)
        if limit is not None and size > limit - (quota.used.get(resource, 0) if free else 0):
            yield resource, size
