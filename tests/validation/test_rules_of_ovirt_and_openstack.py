"""The trickiest rules of oVirt and OpenStack against their conditions said once more, in plain Python, VM by VM."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtv.validation import load_rules
from mtv.validation.firing import firings

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
LOADED = {provider: load_rules(RULES, provider) for provider in ("ovirt", "openstack")}


class Undefined(Exception):
    """An attribute that is missing, or of a kind that the condition cannot use."""


def get(value: Any, *names: str) -> Any:
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise Undefined
        value = value[name]
    return value


def there(value: Any, *names: str) -> bool:
    try:
        get(value, *names)
    except Undefined:
        return False
    return True


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Undefined
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Undefined
    return value


def size(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise Undefined
    return len(value)


def items(value: Any, *names: str) -> list[Any]:
    found = get(value, *names)
    if not isinstance(found, list):
        raise Undefined
    return found


def holds(condition: Callable[[Any], bool], value: Any) -> bool:
    try:
        return condition(value)
    except Undefined:
        return False


def how_many(of: Sequence[Any], condition: Callable[[Any], bool]) -> int:
    return sum(holds(condition, one) for one in of)


def part_of(value: Any, *parts: str) -> bool:
    return any(part in text(value) for part in parts)


def bad_name(vm: Any) -> bool:
    name = text(get(vm, "name"))
    shape = re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9.]*)?[A-Za-z0-9])?", name)
    return shape is None or len(name) >= 64


def bad_disk(attachment: Any) -> bool:
    kind = get(attachment, "disk", "storageType")
    if kind != "lun":
        return number(get(attachment, "disk", "provisionedSize")) <= 0
    units = items(attachment, "disk", "lun", "logicalUnits", "logicalUnit")
    return how_many(units, lambda unit: number(get(unit, "size")) <= 0) > 0


def known_interfaces(vm: Any, name: str, *known: str) -> bool:
    parts = items(vm, name)
    with_id = how_many(parts, lambda part: there(part, "id"))
    return how_many(parts, lambda part: part_of(get(part, "interface"), *known)) != with_id


def bad_storage(vm: Any) -> bool:
    parts = items(vm, "diskAttachments")
    good = how_many(parts, lambda part: text(get(part, "disk", "storageType")) in ("image", "lun"))
    return good != how_many(parts, lambda part: there(part, "id"))


def bad_volumes(vm: Any) -> bool:
    volumes = items(vm, "volumes")
    return how_many(volumes, lambda volume: part_of(get(volume, "status"), "available", "in-use")) != len(volumes)


def image(vm: Any, name: str) -> Any:
    return get(vm, "image", "properties", name)


def flavor_has(vm: Any, *names: str) -> bool:
    return any(there(vm, "flavor", "extraSpecs", name) for name in names)


def unknown_system(vm: Any) -> bool:
    system, version = text(image(vm, "os_distro")), text(image(vm, "os_version"))
    if ("rhel" in system or "centos" in system) and version[:1] in ("7", "8", "9"):
        return False
    years = ("08", "12", "16", "19", "22")
    by_year = any(f"20{year}" in version or f"2k{year.lstrip('0')}" in version for year in years)
    if "windows" in system and (by_year or version.startswith(("7", "8", "10", "11"))):
        return False
    return not ("fedora" in system and version.startswith(("36", "37", "38")))


def secure_boot(vm: Any) -> bool:
    return holds(lambda it: image(it, "os_secure_boot") == "required", vm) or holds(
        lambda it: get(it, "flavor", "extraSpecs", "os:secure_boot") == "required", vm
    )


def watchdog(vm: Any) -> bool:
    return flavor_has(vm, "hw:watchdog_action") or holds(lambda it: image(it, "hw_watchdog_action") is not False, vm)


def floating(vm: Any) -> bool:
    networks = get(vm, "addresses")
    lists = [value for value in networks.values() if isinstance(value, list)] if isinstance(networks, dict) else []
    return any(holds(lambda it: get(it, "OS-EXT-IPS:type") == "floating", one) for found in lists for one in found)


def unknown_card(vm: Any) -> bool:
    model = text(image(vm, "hw_vif_model"))
    return model not in ("e1000", "e1000e", "rtl8139", "virtio", "ne2k_pci", "pcnet")


def some(name: str, condition: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda vm: how_many(items(vm, name), condition) > 0


def each(name: str, condition: Callable[[Any], bool]) -> Callable[[Any], int]:
    return lambda vm: how_many(items(vm, name), condition)


# What a rule says of one VM: the number of its concerns.
SAID: dict[str, Callable[[Any], int | bool]] = {
    "ovirt.name.invalid": bad_name,
    "ovirt.disk.capacity.invalid": each("diskAttachments", bad_disk),
    "ovirt.disk.interface_type.unsupported": lambda vm: known_interfaces(
        vm, "diskAttachments", "sata", "virtio_scsi", "virtio"
    ),
    "ovirt.nic.interface_type.unsupported": lambda vm: known_interfaces(vm, "nics", "e1000", "rtl8139", "virtio"),
    "ovirt.disk.storage_type.unsupported": bad_storage,
    "ovirt.disk.illegal_or_locked_status": some(
        "diskAttachments", lambda it: part_of(get(it, "disk", "status"), "illegal", "locked")
    ),
    "ovirt.nic.custom_properties.detected": some("nics", lambda it: size(get(it, "profile", "properties")) != 0),
    "ovirt.nic.network_filter.detected": some("nics", lambda it: get(it, "profile", "networkFilter") != ""),
    "ovirt.nic.unplugged.detected": some("nics", lambda it: get(it, "plugged") is False),
    "ovirt.vm.status_invalid": lambda vm: not part_of(get(vm, "status"), "up", "down"),
    "ovirt.placement_policy.affinity_set": lambda vm: (
        "migratable" in re.split(r"\W+", text(get(vm, "placementPolicyAffinity")))
    ),
    "ovirt.cpu.custom_model.detected": lambda vm: size(get(vm, "customCpuModel")) != 0,
    "openstack.vm.name.invalid": bad_name,
    "openstack.disk.capacity.invalid": each("volumes", lambda it: number(get(it, "size")) <= 0),
    "openstack.disk.status.unsupported": bad_volumes,
    "openstack.disk.shared.detected": some("volumes", lambda it: size(get(it, "attachments")) > 1),
    "openstack.disk.unsupported_interface": lambda vm: not part_of(image(vm, "hw_disk_bus"), "sata", "scsi", "virtio"),
    "openstack.network.vif_model.unsupported": unknown_card,
    "openstack.network.floating_ips.detected": floating,
    "openstack.numa_tuning.detected": lambda vm: flavor_has(vm, "hw:pci_numa_affinity_policy", "hw:numa_nodes"),
    "openstack.secure_boot.detected": secure_boot,
    "openstack.watchdog.detected": watchdog,
    "openstack.os.unsupported": unknown_system,
    "openstack.vm.status.invalid": lambda vm: not part_of(get(vm, "status"), "ACTIVE", "SHUTOFF"),
}

odd = st.sampled_from([None, True, False, 0, 7, -1, "", "x", [], ["x"], {}, {"x": 1}])


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(values), st.sampled_from(values), odd)


def some_of(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with any of these keys; now and then something else in its place."""
    named = {name.replace("__", ":"): value for name, value in keys.items()}
    whole, in_part = st.fixed_dictionaries(named), st.fixed_dictionaries({}, optional=named)
    return st.one_of(whole, whole, whole, in_part, odd)


def lists(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    found = st.lists(item, max_size=3)
    return st.one_of(found, found, found, odd)


sizes = one_of(-1, 0, 1, 0.5, 1 << 40)
names = one_of("web-1", "a", "-a", "a.", "a b", "a_b", "ä", "a\n", "a" * 63, "a" * 64, "a-" * 31 + "a", "a-" * 40)
interfaces = one_of("virtio", "virtio_scsi", "sata", "ide", "spapr_vscsi", "e1000", "rtl8139_virtio", "VIRTIO")
SYSTEMS = ["rhel", "centos", "windows", "fedora", "fedora-coreos", "ubuntu", ""]
VERSIONS = [
    "7",
    "8",
    "9.4",
    "10",
    "11",
    "6.9",
    "x10",
    "2003",
    "2008",
    "2012 R2",
    "2016",
    "2019",
    "2022",
    "x2k8",
    "2k12",
]
VERSIONS += ["2k16", "2k19", "2k22", "2k25", "35", "36", "37", "38", "39", "138", ""]
VMS = {
    "ovirt": st.fixed_dictionaries(
        {},
        optional={
            "name": names,
            "status": one_of("up", "down", "powering_up", "UP", "paused"),
            "placementPolicyAffinity": one_of("migratable", "user_migratable", "a migratable b", "pinned"),
            "customCpuModel": one_of("Haswell"),
            "diskAttachments": lists(
                some_of(
                    id=one_of("d1", "d2"),
                    interface=interfaces,
                    disk=some_of(
                        storageType=one_of("image", "lun", "cinder", "lun_2"),
                        provisionedSize=sizes,
                        status=one_of("ok", "locked", "illegal", "image_locked"),
                        lun=some_of(logicalUnits=some_of(logicalUnit=lists(some_of(size=sizes)))),
                    ),
                )
            ),
            "nics": lists(
                some_of(
                    id=one_of("n1"),
                    interface=interfaces,
                    plugged=one_of(True, False),
                    profile=some_of(properties=lists(odd), networkFilter=one_of("vdsm-no-mac-spoofing")),
                )
            ),
        },
    ),
    "openstack": st.fixed_dictionaries(
        {},
        optional={
            "name": names,
            "status": one_of("ACTIVE", "SHUTOFF", "active", "INACTIVE", "ERROR"),
            "volumes": lists(
                some_of(
                    id=one_of("v1", "v2"),
                    name=one_of("root"),
                    size=sizes,
                    status=one_of("available", "in-use", "error", "unavailable"),
                    attachments=lists(odd),
                )
            ),
            "addresses": st.one_of(
                st.dictionaries(
                    st.sampled_from(["a", "b", "*"]),
                    lists(some_of(**{"OS-EXT-IPS__type": one_of("floating", "fixed")})),
                ),
                odd,
            ),
            "image": some_of(
                properties=some_of(
                    hw_disk_bus=one_of("ide", "virtio", "virtio-scsi", "usb"),
                    hw_vif_model=st.sampled_from(["e1000", "e1000e", "virtio", "virtio2", "vmxnet3", "", None, []]),
                    os_secure_boot=one_of("required", "optional"),
                    hw_watchdog_action=one_of("reset", "disabled"),
                    # A system or version that is no text is unlike anything that an image can say.
                    os_distro=st.sampled_from(SYSTEMS),
                    os_version=st.sampled_from(VERSIONS),
                )
            ),
            "flavor": some_of(
                extraSpecs=some_of(
                    hw__numa_nodes=one_of("2"),
                    hw__pci_numa_affinity_policy=one_of("preferred"),
                    hw__watchdog_action=one_of("reset"),
                    os__secure_boot=one_of("required", "disabled"),
                )
            ),
        },
    ),
}


@pytest.mark.parametrize("provider", VMS)
def test_each_rule_says_what_its_condition_in_plain_words_says(provider):
    seen: dict[str, set[bool]] = {}

    @settings(max_examples=250)
    @given(st.lists(VMS[provider], max_size=4))
    def compare(vms: list[Any]) -> None:
        for firing in firings(LOADED[provider], vms):
            if firing.rule.id not in SAID:
                continue
            for position, vm in enumerate(vms):
                try:
                    expected = int(SAID[firing.rule.id](vm))
                except Undefined:
                    expected = 0
                assert len(firing.concerns.get(position, ())) == expected, (firing.rule.id, vm)
                seen.setdefault(firing.rule.id, set()).add(expected > 0)

    compare()
    mine = {rule_id for rule_id in SAID if rule_id.startswith(provider + ".")}
    assert set(seen) == mine  # every condition above belongs to a rule that is there


def test_every_system_in_every_version_is_told_apart():
    vms = [
        {"image": {"properties": {"os_distro": system, "os_version": version}}}
        for system in SYSTEMS
        for version in VERSIONS
    ]
    (found,) = (one for one in firings(LOADED["openstack"], vms) if one.rule.id == "openstack.os.unsupported")
    assert found.true.tolist() == [unknown_system(vm) for vm in vms]


@pytest.mark.parametrize(
    ("provider", "count", "critical"),
    [
        (
            "ovirt",
            39,
            {"disk.capacity.invalid", "disk.illegal_or_locked_status", "disk.storage_type.unsupported"}
            | {"disk.illegal_images.detected"},
        ),
        ("openstack", 16, {"disk.capacity.invalid", "disk.status.unsupported"}),
    ],
)
def test_the_rules_are_all_there_and_only_these_block(provider, count, critical):
    rules = LOADED[provider].rules
    assert len(rules) == count
    assert {rule.id for rule in rules if rule.category == "Critical"} == {f"{provider}.{name}" for name in critical}


@pytest.mark.parametrize("provider", VMS)
def test_a_vm_that_tells_nothing_gives_no_concern(provider):
    assert [firing.rule.id for firing in firings(LOADED[provider], [{}]) if firing.concerns] == []


@pytest.mark.parametrize("provider", VMS)
def test_every_rule_has_an_example_of_each_outcome(provider):
    for rule in LOADED[provider].rules:
        assert all(rule.examples[outcome] for outcome in ("fires", "silent", "undefined")), rule.id
        assert rule.file.stem == rule.id.removeprefix(f"{provider}."), "a file is found by its rule's id"
