"""The concerns of each provider are all there and no others: ids are what plans accept and users look up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtv.validation import load_rules

RULES = Path(__file__).parents[2] / "include" / "validation_rules"

# By provider, its ids without the provider's name. Critical ones end in "!", those that only inform in "?".
IDS = {
    "vmware": """
        changed_block_tracking.disabled changed_block_tracking.disk.disabled consolidation_needed cpu_affinity.detected
        cpu_memory.hotplug.enabled datastore.missing! disk.count.exceeds.limit disk_mode.independent
        disk_serial.truncated? disk.capacity.invalid! dpm.enabled? drs.enabled? fault_tolerance.enabled?
        guestDisks.freespace! guestDisks.key.not_found? host_affinity.detected hostname.empty hostname.default
        vm_missing_ip.detected vm.name.invalid numa_affinity.detected passthrough_device.detected! disk.rdm.detected
        disk.shared.detected snapshot.detected? device.sriov.detected tpm.detected usb_controller.detected
        os.unsupported""",
    "ovirt": """
        memory.ballooning.enabled? bios.boot_menu.enabled cpu.custom_model.detected cpu.pinning_policy.unsupported
        cpu.shares.defined cpu.tuning.detected vm.custom_properties.detected disk.count.exceeds.limit
        disk.interface_type.unsupported disk.capacity.invalid! disk.illegal_or_locked_status!
        disk.storage_type.unsupported! disk.illegal_images.detected! display_type.spice.enabled? ha.enabled
        ha.reservation.enabled host_devices.mapped iothreads.configured? cluster.ksm_enabled name.invalid
        nic.custom_properties.detected nic.interface_type.unsupported nic.network_filter.detected
        nic.pci_passthrough.detected nic.unplugged.detected nic.port_mirroring.detected nic.qos.detected
        numa.tuning.detected snapshot.online_memory.detected placement_policy.affinity_set
        disk.scsi_reservation.enabled secure_boot.detected disk.shared.detected storage.resume_behavior.unsupported?
        tpm.required_by_os usb.enabled os.unsupported vm.status_invalid watchdog.enabled""",
    "openstack": """
        bios.boot_menu.enabled cpu.shares.defined disk.count.exceeds.limit disk.unsupported_interface
        disk.capacity.invalid! disk.status.unsupported! network.floating_ips.detected host_devices.mapped
        vm.name.invalid numa_tuning.detected secure_boot.detected disk.shared.detected network.vif_model.unsupported
        os.unsupported vm.status.invalid watchdog.detected""",
    "ova": """
        cpu_affinity.detected cpu_memory.hotplug.enabled disk.count.exceeds.limit disk.capacity.invalid!
        source.unsupported name.invalid""",
    "hyperv": """
        checkpoint.detected? cluster_role.not_registered disk.count.exceeds.limit disk.capacity.invalid!
        disk.smb_path.missing integration_services.not_detected vm_missing_ip.detected vm.name.invalid
        nic.unresolved_network secure_boot.detected? tpm.detected os.unsupported""",
}
COUNTS = {"vmware": 29, "ovirt": 39, "openstack": 16, "ova": 6, "hyperv": 12}
"""Concerns. What else a provider's policy consists of — its version, the check of the name, the set that gathers
concerns — are no rules here: they are the set's version, the errors of a document, and the suite."""
CATEGORIES = {"!": "Critical", "?": "Information"}


@pytest.mark.parametrize("provider", sorted(IDS))
def test_each_concern_is_there_once_in_its_category(provider: str) -> None:
    wanted = {f"{provider}.{word.rstrip('!?')}": CATEGORIES.get(word[-1], "Warning") for word in IDS[provider].split()}
    rules = load_rules(RULES, provider)
    assert {rule.id: rule.category.value for rule in rules.rules} == wanted
    assert len(rules.rules) == COUNTS[provider]


def test_every_folder_of_rules_is_one_of_these_and_each_rule_has_the_name_of_its_file() -> None:
    assert {folder.name for folder in RULES.iterdir() if folder.is_dir()} == set(IDS)
    for provider in IDS:
        for rule in load_rules(RULES, provider).rules:
            assert rule.file.name == f"{rule.id.removeprefix(provider + '.')}.yaml"
