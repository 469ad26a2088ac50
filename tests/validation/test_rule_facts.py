"""What the rules of VMware, OVA and Hyper-V are, and where each of them draws its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtv.validation import load_rules
from mtv.validation.firing import firings

RULES = Path(__file__).parents[2] / "include" / "validation_rules"
LOADED = {provider: load_rules(RULES, provider) for provider in ("vmware", "ova", "hyperv")}

CATEGORIES = {
    "vmware": {
        "Critical": "datastore.missing disk.capacity.invalid guestDisks.freespace passthrough_device.detected",
        "Warning": (
            "changed_block_tracking.disabled changed_block_tracking.disk.disabled consolidation_needed "
            "cpu_affinity.detected cpu_memory.hotplug.enabled device.sriov.detected disk.count.exceeds.limit "
            "disk.rdm.detected disk.shared.detected disk_mode.independent host_affinity.detected hostname.default "
            "hostname.empty numa_affinity.detected os.unsupported tpm.detected usb_controller.detected vm.name.invalid "
            "vm_missing_ip.detected"
        ),
        "Information": (
            "disk_serial.truncated dpm.enabled drs.enabled fault_tolerance.enabled guestDisks.key.not_found "
            "snapshot.detected"
        ),
    },
    "ova": {
        "Critical": "disk.capacity.invalid",
        "Warning": (
            "cpu_affinity.detected cpu_memory.hotplug.enabled disk.count.exceeds.limit name.invalid source.unsupported"
        ),
    },
    "hyperv": {
        "Critical": "disk.capacity.invalid",
        "Warning": (
            "cluster_role.not_registered disk.count.exceeds.limit disk.smb_path.missing "
            "integration_services.not_detected nic.unresolved_network os.unsupported tpm.detected vm.name.invalid "
            "vm_missing_ip.detected"
        ),
        "Information": "checkpoint.detected secure_boot.detected",
    },
}


def said(provider: str, document: dict[str, Any]) -> list[str]:
    """The ids of a document's concerns without the provider, once per concern."""
    found = [c for firing in firings(LOADED[provider], [document]) for c in firing.concerns.get(0, [])]
    return sorted(concern.id.removeprefix(f"{provider}.") for concern in found)


def labels(provider: str, rule: str, document: dict[str, Any]) -> list[str]:
    found = [c for firing in firings(LOADED[provider], [document]) for c in firing.concerns.get(0, [])]
    return [concern.label for concern in found if concern.id == f"{provider}.{rule}"]


@pytest.mark.parametrize("provider", CATEGORIES)
def test_ids_and_categories(provider: str) -> None:
    loaded = LOADED[provider]
    assert loaded.problems == ()
    expected = {
        f"{provider}.{name}": category for category, names in CATEGORIES[provider].items() for name in names.split()
    }
    assert {rule.id: rule.category.value for rule in loaded.rules} == expected


@pytest.mark.parametrize("provider", CATEGORIES)
def test_every_rule_shows_what_a_missing_attribute_does(provider: str) -> None:
    # These never are undefined: they take what is missing for what they warn of, or for nothing to judge.
    always_known = {"hyperv.vm_missing_ip.detected", "hyperv.os.unsupported", "vmware.os.unsupported"}
    without = {rule.id for rule in LOADED[provider].rules if not rule.examples["undefined"]}
    assert without <= always_known


@pytest.mark.parametrize(("provider", "silent"), [("vmware", []), ("ova", []), ("hyperv", ["vm_missing_ip.detected"])])
def test_a_document_without_attributes(provider: str, silent: list[str]) -> None:
    assert said(provider, {}) == silent


@pytest.mark.parametrize("provider", CATEGORIES)
@pytest.mark.parametrize(("count", "fires"), [(0, False), (165, False), (166, True)])
def test_the_most_disks(provider: str, count: int, fires: bool) -> None:
    assert ("disk.count.exceeds.limit" in said(provider, {"disks": [{}] * count})) is fires


@pytest.mark.parametrize("provider", CATEGORIES)
@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("", True),
        ("a", True),
        ("Web-1.example", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("-a", False),
        ("a.", False),
        ("a_b", False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
        (None, True),  # no text: not for this rule to judge
        (7, True),
        (["a" * 70], True),
    ],
)
def test_names(provider: str, name: object, valid: bool) -> None:
    rule = "name.invalid" if provider == "ova" else "vm.name.invalid"
    assert (rule not in said(provider, {"name": name})) is valid


@pytest.mark.parametrize(
    ("document", "supported"),
    [
        ({"guestId": "rhel7Guest"}, True),
        ({"guestId": "rhel10_64Guest"}, True),
        ({"guestId": "RHEL8_64GUEST"}, True),
        ({"guestId": "rhel6_64Guest"}, False),
        ({"guestId": "windows2019srvNext_64Guest"}, True),
        ({"guestId": "windows2022Server_64Guest"}, True),
        ({"guestId": "windows11_64Guest"}, True),
        ({"guestId": "windows8Server64Guest"}, False),
        ({"guestId": "centos8_64Guest", "guestName": "CentOS 8"}, False),
        ({"guestNameFromVmwareTools": "VMware Photon OS (64-bit)"}, False),
        ({"guestNameFromVmwareTools": "Red Hat Enterprise Linux 7 (64-bit)"}, True),
        ({"guestNameFromVmwareTools": "Red Hat Enterprise Linux 6 (64-bit)"}, False),
        ({"guestNameFromVmwareTools": "microsoft WINDOWS SERVER 2025"}, True),
        ({"guestName": "Windows 10"}, True),
        ({"guestName": "Windows 10", "guestNameFromVmwareTools": ""}, True),
        ({"guestName": "Windows 10", "guestNameFromVmwareTools": "FreeBSD 14"}, False),
        ({"guestId": "otherGuest", "guestName": ""}, False),
        ({}, True),
    ],
)
def test_guests_on_the_list(document: dict[str, Any], supported: bool) -> None:
    assert ("os.unsupported" not in said("vmware", document)) is supported


MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("/", 100),
        ("/boot", 50),
        ("c:", 100),
        ("C:\\", 100),
        ("c:/", 100),
        ("/boot/efi", 10),
        ("D:\\", 10),
        ("C:\\Data", 10),
        ("", 10),
    ],
)
def test_room_to_convert(path: str, least: int) -> None:
    full = {"guestDisks": [{"diskPath": path, "freeSpace": least * MIB - 1}]}
    enough = {"guestDisks": [{"diskPath": path, "freeSpace": least * MIB}]}
    assert said("vmware", full) == ["guestDisks.freespace"]
    assert said("vmware", enough) == []


def test_equal_words_count_once_and_different_ones_each() -> None:
    disk = {"changeTrackingEnabled": False, "controllerKey": 1000, "bus": "scsi", "unitNumber": 1}
    document = {
        "disks": [
            {**disk, "file": "[ds] a/one.vmdk"},
            {**disk, "file": "[other] b/one.vmdk", "controllerKey": 1001},
            {**disk, "file": "[ds] a/two.vmdk", "unitNumber": 2},
            {"rdm": True, "shared": True, "mode": "independent_persistent"},
            {"rdm": True, "shared": True, "mode": "independent_nonpersistent"},
        ]
    }
    assert [
        label.split("disk ")[1] for label in labels("vmware", "changed_block_tracking.disk.disabled", document)
    ] == [
        "scsi0:1 (one.vmdk)",
        "scsi0:2 (two.vmdk)",
    ]
    assert said("vmware", document)[2:] == ["disk.rdm.detected", "disk.shared.detected", "disk_mode.independent"]


def test_free_space_is_told_in_whole_mib() -> None:
    document = {"guestDisks": [{"diskPath": "/", "freeSpace": free} for free in (MIB * 3 // 2, 2 * MIB + 5, 9 * MIB)]}
    (firing,) = [f for f in firings(LOADED["vmware"], [document]) if f.concerns]
    assert [concern.assessment.split(".")[0] for concern in firing.concerns[0]] == [
        "/ has 2 MiB free",
        "/ has 9 MiB free",
    ]


def test_disks_and_cards_are_told_apart_by_what_is_known_of_them() -> None:
    document = {
        "guestNetworks": [{}],
        "disks": [{"name": "Disk 0", "capacity": 0}, {"windowsPath": "C:\\b.vhdx", "capacity": 0}, {"capacity": 0}],
        "nics": [
            {"name": "A", "networkName": "s1"},
            {"name": "B", "networkName": "s1"},
            {"mac": "00:1", "networkName": "s"},
        ],
    }
    assert len(set(labels("hyperv", "disk.capacity.invalid", document))) == 3
    assert len(set(labels("hyperv", "disk.smb_path.missing", document))) == 3
    assert len(set(labels("hyperv", "nic.unresolved_network", document))) == 3


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("scsi"))
keys = st.sampled_from(
    [
        "name",
        "id",
        "disks",
        "devices",
        "guestDisks",
        "host",
        "cluster",
        "hostAffinityVms",
        "kind",
        "key",
        "capacity",
        "freeSpace",
        "diskPath",
        "datastore",
        "changeTrackingEnabled",
        "controllerKey",
        "bus",
        "unitNumber",
        "file",
        "guestId",
        "guestOS",
        "nics",
        "network",
        "networkName",
        "smbPath",
    ]
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=25,
)


@settings(max_examples=150)
@given(provider=st.sampled_from(sorted(CATEGORIES)), documents=st.lists(st.dictionaries(keys, anything), max_size=3))
def test_any_document_is_judged_by_itself(provider: str, documents: list[dict[str, Any]]) -> None:
    together = firings(LOADED[provider], documents)
    for position, document in enumerate(documents):
        alone = firings(LOADED[provider], [document])
        assert [f.concerns.get(position, []) for f in together] == [f.concerns.get(0, []) for f in alone]
