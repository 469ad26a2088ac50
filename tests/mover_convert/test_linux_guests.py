"""What a Linux guest gets before its conversion: cards keep their names, scripts run once, in order."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.convert import linux_files, survey
from mover.convert.interface_names import interfaces_in, names_of
from mover.convert.scripts import When, sorted_scripts
from mtv.model.conversion import ConvertNic, GuestScript
from mtv.model.errors import PermanentError

MAC = "00:50:56:aa:bb:cc"
NIC = ConvertNic(mac=MAC.upper(), addresses=("10.1.2.3/24", "fe80::1/64"))

FILES = {
    "ifcfg": ("/etc/sysconfig/network-scripts/ifcfg-ens192", 'DEVICE="ens192"\nIPADDR=10.1.2.3\nPREFIX=24\n'),
    "ifcfg-suffix": ("/etc/sysconfig/network/ifcfg-ens192", "BOOTPROTO='static'\nIPADDR='10.1.2.3/24'\n"),
    "ifcfg-mac": ("/etc/sysconfig/network-scripts/ifcfg-ens192", f"HWADDR={MAC.upper()}\nBOOTPROTO=dhcp\n"),
    "network-manager": (
        "/etc/NetworkManager/system-connections/lan.nmconnection",
        "[connection]\nid=lan\ninterface-name=ens192\n[ipv4]\naddress1=10.1.2.3/24,10.1.2.1\nmethod=manual\n",
    ),
    "networkd": ("/etc/systemd/network/lan.network", "[Match]\nName=ens192\n[Network]\nAddress=10.1.2.3/24\n"),
    "netplan": (
        "/etc/netplan/50-cloud-init.yaml",
        "network:\n  version: 2\n  ethernets:\n    ens160:\n      dhcp4: true\n    ens192:\n      addresses:\n"
        "      - 10.1.2.3/24 # the office\n      nameservers:\n        addresses: [10.1.2.53]\n",
    ),
    "netplan-flow": (
        "/etc/netplan/01.yaml",
        f"network:\n    ethernets:\n        nic0:\n            match: {{}}\n            macaddress: '{MAC}'\n"
        "            set-name: ens192\n            addresses: [10.1.2.3/24]\n    version: 2\n",
    ),
    "ifupdown": (
        "/etc/network/interfaces",
        "auto lo\niface lo inet loopback\n\nallow-hotplug ens192\niface ens192 inet static\n    address 10.1.2.3/24\n"
        "iface ens224 inet dhcp\n",
    ),
    "dhclient": (
        "/var/lib/dhcp/dhclient.ens192.leases",
        'lease {\n  interface "ens192";\n  fixed-address 10.1.2.3;\n  option routers 10.1.2.1;\n}\n',
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_name_is_found_wherever_a_guest_keeps_the_address(kind):
    path, text = FILES[kind]
    assert names_of({path: text}, [NIC]) == {MAC: "ens192"}


def ifcfg(name: str, text: str) -> tuple[str, str]:
    return f"/etc/sysconfig/network-scripts/ifcfg-{name}", text


def keyfile(name: str, text: str) -> tuple[str, str]:
    return f"/etc/NetworkManager/system-connections/{name}.nmconnection", text


def networkd(name: str, text: str) -> tuple[str, str]:
    return f"/etc/systemd/network/{name}.network", f"[Match]\nName={name}\n[Network]\n{text}"


def netplan(text: str) -> tuple[str, str]:
    return "/etc/netplan/01.yaml", f"network:\n{text}"


ADDRESS = "IPADDR=10.1.2.3\n"
STATIC = "inet static\n address 10.1.2.3/24\n"
ABOVE_ONE_CARD = {
    "ifcfg-bridge": [ifcfg("br0", f"TYPE=Bridge\n{ADDRESS}"), ifcfg("ens192", "BRIDGE=br0\n")],
    "ifcfg-bond": [ifcfg("bond0", f"BONDING_MASTER=yes\n{ADDRESS}"), ifcfg("ens192", "MASTER=bond0\nSLAVE=yes\n")],
    "ifcfg-bridge-unsaid": [ifcfg("br0", ADDRESS), ifcfg("ens192", "BRIDGE=br0\n")],
    "ifcfg-vlan": [ifcfg("ens192.100", f"VLAN=yes\n{ADDRESS}")],
    "ifcfg-vlan-of-a-bridge": [
        ifcfg("br0.7", f"VLAN=yes\n{ADDRESS}"), ifcfg("br0", "TYPE=Bridge\n"), ifcfg("ens192", "BRIDGE=br0\n"),
    ],
    "ifcfg-alias": [ifcfg("ens192:1", f"DEVICE=ens192:1\n{ADDRESS}")],
    "wicked-bridge": [ifcfg("br0", f"BRIDGE='yes'\nBRIDGE_PORTS='ens192'\n{ADDRESS}")],
    "wicked-vlan": [ifcfg("vlan7", f"ETHERDEVICE='ens192'\n{ADDRESS}")],
    "keyfile-bond": [
        keyfile("b", "[connection]\ntype=bond\ninterface-name=bond0\n[ipv4]\naddress1=10.1.2.3/24\n"),
        keyfile("p", "[connection]\ntype=ethernet\ninterface-name=ens192\nmaster=bond0\nslave-type=bond\n"),
    ],
    "keyfile-vlan": [
        keyfile("v", "[connection]\ntype=vlan\ninterface-name=v7\n[vlan]\nparent=ens192\n[ipv4]\naddress1=10.1.2.3/24"),
    ],
    "networkd-bridge": [networkd("br0", "Address=10.1.2.3/24\n"), networkd("ens192", "Bridge=br0\n")],
    "ifupdown-bridge": [("/etc/network/interfaces", f"iface br0 {STATIC} bridge_ports ens192\n")],
    "ifupdown-vlan": [("/etc/network/interfaces", f"iface v7 {STATIC} vlan-raw-device ens192\n")],
    "netplan-bridge": [netplan(
        "  ethernets:\n    ens192: {}\n"
        "  bridges:\n    br0:\n      interfaces: [ens192]\n      addresses: [10.1.2.3/24]\n"
    )],
    "netplan-vlan": [netplan(
        "  vlans:\n    v7:\n      id: 7\n      link: ens192\n      addresses:\n      - 10.1.2.3/24\n"
    )],
    "netplan-bond": [netplan(
        "  bonds:\n    bond0:\n      interfaces:\n      - ens192\n      addresses:\n      - 10.1.2.3/24\n"
    )],
}  # fmt: skip


@pytest.mark.parametrize("kind", ABOVE_ONE_CARD)
def test_the_one_card_below_a_bridge_a_bond_or_a_vlan_is_named_and_never_what_holds_the_address(kind):
    assert names_of(dict(ABOVE_ONE_CARD[kind]), [NIC]) == {MAC: "ens192"}


@pytest.mark.parametrize(
    "files",
    [
        [ifcfg("bond0", f"TYPE=Bond\n{ADDRESS}"), ifcfg("a0", "MASTER=bond0\n"), ifcfg("b0", "MASTER=bond0\n")],
        [ifcfg("br0", f"TYPE=Bridge\n{ADDRESS}")],
        [keyfile("b", "[connection]\ntype=bond\ninterface-name=bond0\n[ipv4]\naddress1=10.1.2.3/24\n")],
        [netplan('  ethernets:\n    all-en:\n      match: {name: "en*"}\n      addresses: [10.1.2.3/24]\n')],
        [ifcfg("br0", f"BRIDGE=br1\n{ADDRESS}"), ifcfg("br1", "BRIDGE=br0\n")],
    ],
    ids=["two-ports", "ports-unsaid", "keyfile-ports-unsaid", "netplan-match", "a-circle"],
)
def test_where_the_card_below_is_not_told_it_gets_no_name(files):
    assert names_of(dict(files), [NIC]) == {}


def test_a_reported_name_counts_without_any_file():
    assert names_of({}, [ConvertNic(mac=MAC, name="eth3")]) == {MAC: "eth3"}


def test_a_mac_in_a_file_counts_before_an_address():
    files = dict([FILES["ifcfg-mac"], ("/etc/network/interfaces", "iface old0 inet static\n address 10.1.2.3\n")])
    assert names_of(files, [NIC]) == {MAC: "ens192"}


def test_two_names_for_one_address_are_not_guessed_between():
    text = "iface a0 inet static\n address 10.1.2.3\niface b0 inet static\n address 10.1.2.3/24\n"
    assert names_of({"/etc/network/interfaces": text}, [NIC]) == {}


def test_two_cards_never_get_the_same_name():
    nics = [ConvertNic(mac=MAC, name="eth0"), ConvertNic(mac="00:50:56:aa:bb:cd", name="eth0")]
    assert names_of({}, nics) == {}


@pytest.mark.parametrize("name", ["../../x", "a b", "x" * 16, "a\n[Link]"])
def test_what_is_no_interface_name_never_becomes_a_file(name):
    assert names_of({}, [ConvertNic(mac=MAC, name=name)]) == {}


@given(st.sampled_from([path for path, _ in FILES.values()]), st.text(max_size=400))
def test_no_configuration_file_stops_the_search(path, text):
    interfaces_in(path, text)


def test_the_link_file_names_the_card_and_leaves_bridges_alone():
    (file,) = linux_files.network_files({MAC: "ens192"}, systemd=True)
    assert file.path == "/etc/systemd/network/10-mtv-ens192.link"
    assert file.content == (
        "# The name that this card had before the migration.\n"
        "[Match]\nMACAddress=00:50:56:aa:bb:cc\nType=ether\n\n[Link]\nName=ens192\n"
    )


def test_a_guest_without_systemd_gets_a_udev_rule_too():
    files = linux_files.network_files({MAC: "eth0"}, systemd=False)
    assert files[-1].path == linux_files.UDEV_RULES
    assert f'ATTR{{address}}=="{MAC}", ATTR{{type}}=="1", NAME="eth0"' in files[-1].content


def script(name: str) -> GuestScript:
    return GuestScript(name=name, content=f"echo {name}\n")


class Files:
    """The files of a guest in a folder, asked for as the appliance is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_file(self, path: str, *, followsymlinks: bool) -> bool:
        return followsymlinks and (self._folder / path.lstrip("/")).is_file()

    def read_file(self, path: str) -> bytes:
        return (self._folder / path.lstrip("/")).read_bytes()


def test_fstab_entries_that_name_a_device_by_its_bus_are_told(tmp_path):
    assert survey._fstab_by_path(Files(tmp_path)) == ()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "fstab").write_bytes(
        b"# /dev/disk/by-path/old / ext4\nUUID=1 / ext4 defaults 0 1\n"
        b"  /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /data xfs defaults 0 2\n\xff\n"
    )
    assert survey._fstab_by_path(Files(tmp_path)) == (
        "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /data xfs defaults 0 2",
    )


def test_scripts_are_sorted_by_number_not_by_spelling():
    names = ["10_linux_run_b.sh", "9_linux_run_a.sh", "1_linux_firstboot.sh", "2_win_firstboot_x.ps1"]
    found = sorted_scripts([script(name) for name in names])
    assert [s.name for s in found[When.LINUX_RUN]] == ["9_linux_run_a.sh", "10_linux_run_b.sh"]
    assert [s.name for s in found[When.LINUX_FIRST_BOOT]] == ["1_linux_firstboot.sh"]
    assert [s.name for s in found[When.WINDOWS_FIRST_BOOT]] == ["2_win_firstboot_x.ps1"]


@pytest.mark.parametrize(
    "name", ["setup.sh", "1_linux_run_x.ps1", "1_win_firstboot.sh", "1_linux_run_../x.sh", "x1_linux_run.sh", ""]
)
def test_a_script_without_a_telling_name_is_refused(name):
    with pytest.raises(PermanentError) as raised:
        sorted_scripts([script(name)])
    assert raised.value.code == "script-name"


def test_first_boot_scripts_run_once_in_order_and_their_failures_are_kept(tmp_path):
    scripts = [
        GuestScript(name="8_linux_firstboot_a.sh", content="#!/bin/sh\necho one\n"),
        GuestScript(name="9_linux_firstboot_b.sh", content="#!/bin/sh\necho two\nexit 3\n"),
        GuestScript(name="10_linux_firstboot_c.sh", content="#!/bin/sh\necho three\n"),
    ]
    folder, log = tmp_path / "mtv", tmp_path / "log"
    for file in linux_files.first_boot_files(scripts):
        if file.path.startswith(linux_files.FIRST_BOOT_FOLDER):
            path = Path(str(folder) + file.path.removeprefix(linux_files.FIRST_BOOT_FOLDER))
            path.parent.mkdir(parents=True, exist_ok=True)
            moved = file.content.replace(linux_files.FIRST_BOOT_FOLDER, str(folder))
            path.write_text(moved.replace("/var/log/mtv-firstboot.log", str(log)))
            path.chmod(file.mode)
    for _ in range(2):
        subprocess.run([folder / "run"], check=True)
    assert log.read_text().splitlines() == [
        *("=== 0001-8_linux_firstboot_a.sh", "one", "=== 0002-9_linux_firstboot_b.sh", "two"),
        *("=== 0002-9_linux_firstboot_b.sh failed: exit code 3", "=== 0003-10_linux_firstboot_c.sh", "three"),
    ]


def test_the_unit_of_the_first_boot_is_enabled():
    files = {file.path: file for file in linux_files.first_boot_files([script("1_linux_firstboot.sh")])}
    assert files[linux_files.FIRST_BOOT_LINK].link_to == linux_files.FIRST_BOOT_UNIT
    assert linux_files.first_boot_files([]) == []
