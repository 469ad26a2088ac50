"""From a VMI to QEMU's command line: what the guest sees is what the spec says, or the launcher refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.kubevirt.launcher.command import command
from lab.kubevirt.launcher.draft import Draft, Host, NewImage, Places, Unsupported

PLACES = Places(run=Path("/private/uid"))
ROOT = {"name": "root", "persistentVolumeClaim": {"claimName": "web-root"}}


def instance(**parts: Any) -> dict[str, Any]:
    """A VMI with one virtio disk; `devices`, `domain` and `spec` are laid over it."""
    devices = {"disks": [{"name": "root", "disk": {"bus": "virtio"}}], **parts.get("devices", {})}
    domain = {"memory": {"guest": "512Mi"}, "devices": devices, **parts.get("domain", {})}
    spec = {"domain": domain, "volumes": [ROOT], **parts.get("spec", {})}
    return {"metadata": {"name": "web", "uid": "uid"}, "spec": spec}


def draft_of(vmi: dict[str, Any], *, host: Host = Host(), modes: dict[str, str] | None = None) -> Draft:
    names = [volume["name"] for volume in vmi["spec"]["volumes"]]
    return command(vmi, volume_modes=modes or dict.fromkeys(names, "Filesystem"), places=PLACES, host=host)


def values(draft: Draft, option: str) -> list[str]:
    """All values given to an option, in order."""
    return [value for flag, value in zip(draft.argv, draft.argv[1:], strict=False) if flag == f"-{option}"]


def device(draft: Draft, name: str) -> str:
    """The -device line of the disk or interface `name`."""
    (found,) = [line for line in values(draft, "device") if f"id=ua-{name}" in line.split(",")]
    return found


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        pytest.param({"disk": {"bus": "virtio"}}, "virtio-blk-pci-non-transitional", id="virtio"),
        pytest.param({"disk": {"bus": "scsi"}}, "scsi-hd,bus=scsi0.0", id="scsi"),
        pytest.param({"disk": {"bus": "sata"}}, "ide-hd,bus=ide.0", id="sata"),
        pytest.param({"disk": {"bus": "usb"}}, "usb-storage,bus=usb.0", id="usb"),
        pytest.param({"disk": {}}, "ide-hd,bus=ide.0", id="default-bus-is-sata"),
        pytest.param({}, "ide-hd,bus=ide.0", id="default-kind-is-disk"),
        pytest.param({"cdrom": {"bus": "sata"}}, "ide-cd,bus=ide.0", id="cdrom-sata"),
        pytest.param({"cdrom": {"bus": "scsi"}}, "scsi-cd,bus=scsi0.0", id="cdrom-scsi"),
        pytest.param({"lun": {"bus": "scsi"}}, "scsi-hd,bus=scsi0.0", id="lun"),
    ],
)
def test_a_disk_is_on_the_bus_of_its_spec(disk: dict[str, Any], expected: str) -> None:
    draft = draft_of(instance(devices={"disks": [{"name": "root", **disk}]}))
    assert device(draft, "root").startswith(f"{expected},drive=disk0,")


@pytest.mark.parametrize("bus", ["pvscsi", "ide"])
def test_an_unknown_bus_is_refused(bus: str) -> None:
    with pytest.raises(Unsupported, match=bus):
        draft_of(instance(devices={"disks": [{"name": "root", "disk": {"bus": bus}}]}))


def test_sata_disks_get_ports_of_their_own_and_a_seventh_is_refused() -> None:
    def with_disks(count: int) -> Draft:
        disks = [{"name": f"d{i}", "disk": {"bus": "sata"}} for i in range(count)]
        volumes = [{"name": f"d{i}", "dataVolume": {"name": f"d{i}"}} for i in range(count)]
        return draft_of(instance(devices={"disks": disks}, spec={"volumes": volumes}))

    assert [device(with_disks(6), f"d{i}").split(",")[1] for i in range(6)] == [f"bus=ide.{i}" for i in range(6)]
    with pytest.raises(Unsupported, match="six"):
        with_disks(7)


@pytest.mark.parametrize(
    ("mode", "driver", "path"),
    [
        ("Filesystem", "file", "/var/run/kubevirt-private/vmi-disks/null/disk.img"),
        ("Block", "host_device", "/dev/null"),
    ],
)
def test_the_claims_volume_mode_and_nothing_else_decides_where_a_disk_is(mode: str, driver: str, path: str) -> None:
    # /dev/null exists on every machine: a launcher that looked would take it for the block device of a volume "null".
    null = instance(
        devices={"disks": [{"name": "null", "disk": {"bus": "virtio"}}]},
        spec={"volumes": [{"name": "null", "persistentVolumeClaim": {"claimName": "c"}}]},
    )
    (protocol, _) = values(draft_of(null, modes={"null": mode}), "blockdev")
    assert protocol.startswith(f"driver={driver},node-name=file0,filename={path},")


def test_a_claim_of_unknown_volume_mode_is_refused() -> None:
    with pytest.raises(Unsupported, match="volume mode"):
        draft_of(instance(), modes={"other": "Block"})


@pytest.mark.parametrize(
    ("cache", "direct_io", "direct", "write_cache"),
    [
        pytest.param("none", False, "on", "on", id="none"),
        pytest.param("writethrough", True, "off", "off", id="writethrough"),
        pytest.param("writeback", True, "off", "on", id="writeback"),
        pytest.param(None, True, "on", "on", id="default-with-direct-io"),
        pytest.param(None, False, "off", "off", id="default-without-direct-io"),
    ],
)
def test_the_cache_mode_is_the_specs_or_kubevirts_default(
    cache: str | None, direct_io: bool, direct: str, write_cache: str
) -> None:
    disk = {"name": "root", "disk": {"bus": "virtio"}} | ({"cache": cache} if cache else {})
    draft = draft_of(instance(devices={"disks": [disk]}), host=Host(direct_io=frozenset({"root"} if direct_io else ())))
    assert all(f"cache.direct={direct}" in line for line in values(draft, "blockdev"))
    assert f"write-cache={write_cache}" in device(draft, "root")


def test_serial_boot_order_sharing_and_block_size_reach_the_disk() -> None:
    disk = {
        "name": "root",
        "disk": {"bus": "virtio"},
        "serial": "a,b",
        "bootOrder": 3,
        "shareable": True,
        "blockSize": {"custom": {"logical": 512, "physical": 4096}},
        "errorPolicy": "report",
    }
    line = device(draft_of(instance(devices={"disks": [disk]})), "root")
    assert line.endswith(
        "serial=a,,b,bootindex=3,share-rw=on,write-cache=off,"
        "logical_block_size=512,physical_block_size=4096,werror=report"
    )


def test_without_any_boot_order_the_first_disk_boots() -> None:
    disks = [{"name": "data", "disk": {"bus": "scsi"}}, {"name": "root", "disk": {"bus": "virtio"}}]
    volumes = [ROOT, {"name": "data", "dataVolume": {"name": "data"}}]
    draft = draft_of(instance(devices={"disks": disks}, spec={"volumes": volumes}))
    assert "bootindex=1" in device(draft, "data")
    assert "bootindex" not in device(draft, "root")


def test_one_boot_order_leaves_all_others_without() -> None:
    disks = [{"name": "data", "disk": {"bus": "scsi"}}, {"name": "root", "bootOrder": 1, "disk": {"bus": "virtio"}}]
    volumes = [ROOT, {"name": "data", "dataVolume": {"name": "data"}}]
    draft = draft_of(instance(devices={"disks": disks}, spec={"volumes": volumes}))
    assert "bootindex" not in device(draft, "data")
    assert "bootindex=1" in device(draft, "root")


@pytest.mark.parametrize("mode", ["Filesystem", "Block"])
def test_an_ephemeral_volume_is_an_overlay_over_a_claim_that_is_only_read(mode: str) -> None:
    volume = {"name": "root", "ephemeral": {"persistentVolumeClaim": {"claimName": "web-root"}}}
    draft = draft_of(instance(spec={"volumes": [volume]}), modes={"root": mode})
    base, base_raw, _, overlay = values(draft, "blockdev")
    claim = {"Block": Path("/dev/root"), "Filesystem": PLACES.claims / "root" / "disk.img"}[mode]
    overlay_file = PLACES.overlays / "root" / "disk.qcow2"
    assert f"filename={claim}," in base
    assert "read-only=on" in base
    assert "read-only=on" in base_raw
    assert overlay.startswith("driver=qcow2,node-name=disk0,file=file0,backing=base0,")
    assert "read-only=off" in overlay
    assert draft.images == [NewImage(overlay_file, backing=claim)]


def test_an_empty_disk_is_made_with_its_capacity() -> None:
    draft = draft_of(instance(spec={"volumes": [{"name": "root", "emptyDisk": {"capacity": "2Gi"}}]}))
    assert draft.images == [NewImage(PLACES.empty_disks / "root.qcow2", size_bytes=2 << 30)]


@pytest.mark.parametrize("source", ["containerDisk", "cloudInitNoCloud", "configMap", "hostDisk"])
def test_a_volume_that_cannot_be_attached_is_refused_rather_than_left_out(source: str) -> None:
    with pytest.raises(Unsupported, match=source):
        draft_of(instance(spec={"volumes": [{"name": "root", source: {}}]}))


def test_a_read_only_claim_and_a_cdrom_are_opened_read_only() -> None:
    disks = [{"name": "root", "disk": {"bus": "virtio"}}, {"name": "iso", "cdrom": {"bus": "sata"}}]
    volumes = [
        {"name": "root", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "iso", "persistentVolumeClaim": {"claimName": "d"}},
    ]
    draft = draft_of(instance(devices={"disks": disks}, spec={"volumes": volumes}))
    assert all("read-only=on" in line for line in values(draft, "blockdev"))


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ({}, "virtio-net-pci-non-transitional,netdev=net0,id=ua-default"),
        ({"model": "e1000e"}, "e1000e,netdev=net0,id=ua-default"),
        ({"macAddress": "00-50-56-AA-00-01"}, "netdev=net0,id=ua-default,mac=00:50:56:aa:00:01"),
        ({"bootOrder": 2}, "id=ua-default,bootindex=2"),
    ],
    ids=["virtio-by-default", "model", "mac-in-either-form", "boot-order"],
)
def test_an_interface_has_the_model_and_address_of_its_spec(interface: dict[str, Any], expected: str) -> None:
    devices = {"interfaces": [{"name": "default", "masquerade": {}, **interface}]}
    draft = draft_of(instance(devices=devices, spec={"networks": [{"name": "default", "pod": {}}]}))
    assert expected in device(draft, "default")
    assert draft.notes == []


def test_a_pulled_cable_stops_the_guest_before_its_first_instruction() -> None:
    devices = {"interfaces": [{"name": "default", "masquerade": {}, "state": "down"}]}
    draft = draft_of(instance(devices=devices, spec={"networks": [{"name": "default", "pod": {}}]}))
    assert draft.links_down == ["ua-default"]
    assert "-S" in draft.argv


def test_a_named_network_is_isolated_and_said_to_be() -> None:
    devices = {"interfaces": [{"name": "app", "bridge": {}}]}
    networks = [{"name": "app", "multus": {"networkName": "app"}}]
    draft = draft_of(instance(devices=devices, spec={"networks": networks}))
    assert values(draft, "netdev")[0].endswith(",restrict=on")
    assert any("app" in note for note in draft.notes)


@pytest.mark.parametrize("model", ["vmxnet3", "e1000x"])
def test_an_unknown_network_model_is_refused(model: str) -> None:
    with pytest.raises(Unsupported, match=model):
        draft_of(instance(devices={"interfaces": [{"name": "default", "model": model, "bridge": {}}]}))


@pytest.mark.parametrize(
    ("domain", "smp"),
    [
        ({"cpu": {"sockets": 2, "cores": 3, "threads": 2}}, "12,sockets=2,cores=3,threads=2"),
        ({"cpu": {"cores": 4}}, "4,sockets=1,cores=4,threads=1"),
        ({"resources": {"requests": {"cpu": "1500m"}}}, "2,sockets=2,cores=1,threads=1"),
        ({}, "1,sockets=1,cores=1,threads=1"),
    ],
    ids=["full", "cores-only", "from-requests", "nothing"],
)
def test_the_cpu_topology_is_the_specs(domain: dict[str, Any], smp: str) -> None:
    assert values(draft_of(instance(domain=domain)), "smp") == [smp]


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        ({"memory": {"guest": "1Gi"}}, "1024M"),
        ({"memory": {"guest": "1500M"}}, "1430M"),
        ({"memory": {}, "resources": {"requests": {"memory": "256Mi"}}}, "256M"),
    ],
    ids=["binary", "decimal-rounds-down", "from-requests"],
)
def test_the_guest_has_the_memory_of_its_spec(domain: dict[str, Any], size: str) -> None:
    assert values(draft_of(instance(domain=domain)), "m") == [size]


def test_no_memory_size_is_refused() -> None:
    with pytest.raises(Unsupported, match="memory"):
        draft_of(instance(domain={"memory": {}}))


def efi(**options: Any) -> dict[str, Any]:
    return {"firmware": {"bootloader": {"efi": options}}, "features": {"smm": {"enabled": True}}}


def test_bios_is_the_default_and_uses_no_flash() -> None:
    assert values(draft_of(instance()), "drive") == []


def test_uefi_without_secure_boot_has_variables_of_the_pod() -> None:
    draft = draft_of(instance(domain={"firmware": {"bootloader": {"efi": {"secureBoot": False}}}}))
    code, variables = values(draft, "drive")
    assert code.endswith("readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd")
    assert variables.endswith("file=/private/uid/nvram.fd")
    assert draft.copies == [(Path("/usr/share/OVMF/OVMF_VARS_4M.fd"), Path("/private/uid/nvram.fd"))]
    assert values(draft, "machine") == ["q35"]


def test_secure_boot_is_the_default_of_uefi_with_keys_enrolled_and_flash_protected() -> None:
    draft = draft_of(instance(domain=efi()))
    assert values(draft, "drive")[0].endswith("OVMF_CODE_4M.secboot.fd")
    assert draft.copies[0][0].name == "OVMF_VARS_4M.ms.fd"
    assert values(draft, "machine") == ["q35,smm=on"]
    assert "driver=cfi.pflash01,property=secure,value=on" in values(draft, "global")


def test_secure_boot_without_smm_is_refused() -> None:
    with pytest.raises(Unsupported, match="smm"):
        draft_of(instance(domain={"firmware": {"bootloader": {"efi": {}}}}))


def test_persistent_uefi_variables_are_on_the_vms_state_claim() -> None:
    draft = draft_of(instance(domain=efi(persistent=True)))
    assert draft.copies[0][1] == PLACES.nvram / "web_VARS.fd"


def test_a_tpm_is_emulated_where_swtpm_is_installed() -> None:
    draft = draft_of(instance(devices={"tpm": {"persistent": True}}), host=Host(tpm_emulator=True))
    assert draft.tpm_state == PLACES.tpm
    assert "tpm-crb,tpmdev=tpm" in values(draft, "device")


def test_a_missing_tpm_emulator_is_said() -> None:
    draft = draft_of(instance(devices={"tpm": {}}))
    assert draft.tpm_state is None
    assert any("swtpm" in note for note in draft.notes)


@pytest.mark.parametrize(
    ("kvm", "accelerator", "cpu"), [(True, "kvm", "host"), (False, "tcg,thread=multi", "max")], ids=["kvm", "tcg"]
)
def test_the_hosts_cpu_is_passed_only_under_kvm(kvm: bool, accelerator: str, cpu: str) -> None:
    draft = draft_of(instance(), host=Host(kvm=kvm))
    assert values(draft, "accel") == [accelerator]
    assert values(draft, "cpu") == [cpu]


def test_cpu_features_follow_their_policy() -> None:
    features = [{"name": "vmx", "policy": "disable"}, {"name": "avx"}, {"name": "aes", "policy": "optional"}]
    draft = draft_of(instance(domain={"cpu": {"model": "Haswell", "features": features}}))
    assert values(draft, "cpu") == ["Haswell,vmx=off,avx=on"]


def test_the_serial_console_is_logged_where_virt_tail_reads_it() -> None:
    (console,) = [value for value in values(draft_of(instance()), "chardev") if "id=serial0" in value]
    assert "logfile=/private/uid/virt-serial0-log" in console


def test_what_is_left_out_is_said() -> None:
    draft = draft_of(instance(devices={"hostDevices": [{"name": "gpu", "deviceName": "x"}], "watchdog": {"name": "w"}}))
    assert draft.notes == ["hostDevices: not emulated", "watchdog: not emulated"]


def test_the_same_instance_gives_the_same_command() -> None:
    assert draft_of(instance()).argv == draft_of(instance()).argv
