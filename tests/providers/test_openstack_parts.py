"""What OpenStack's answers become, where the lab's services cannot be brought to give them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from keystoneauth1 import exceptions as auth
from openstack import exceptions as sdk

from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.source import Firmware, PowerState, SourceVm
from mtv.providers.openstack.build import build_vms, power_state
from mtv.providers.openstack.collect import Surroundings, servers
from mtv.providers.openstack.faults import translate
from mtv.providers.openstack.provider import OpenstackProvider
from mtv.providers.openstack.session import Session


def server(**changed: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "name": "vm",
        "status": "ACTIVE",
        "image": "",
        "flavor": {"original_name": "f", "vcpus": 4, "ram": 1024, "disk": 0, "extra_specs": {}},
        "os-extended-volumes:volumes_attached": [],
        **changed,
    }


def volume(key: str, device: str, **changed: Any) -> dict[str, Any]:
    attachments = [{"server_id": "s1", "device": device}]
    return {"id": key, "size": 1, "attachments": attachments, "volume_type": "gold", **changed}


def answered(kind: type[sdk.HttpException], status: int) -> sdk.HttpException:
    fault = kind("x")
    fault.status_code = status
    return fault


def built(around: Surroundings | None = None, **changed: Any) -> SourceVm:
    [vm] = build_vms([server(**changed)], around or Surroundings())
    return vm


def with_volumes(*volumes: dict[str, Any], **changed: Any) -> SourceVm:
    attached = [{"id": found["id"]} for found in reversed(volumes)]
    around = Surroundings(volumes={found["id"]: found for found in volumes})
    return built(around, **{"os-extended-volumes:volumes_attached": attached, **changed})


@pytest.mark.parametrize(
    ("asked", "cores"),
    [
        ({}, (1, 1)),
        ({"hw:cpu_sockets": "2"}, (2, 1)),
        ({"hw:cpu_sockets": "3"}, (1, 1)),
        ({"hw:cpu_sockets": "8"}, (1, 1)),
        ({"hw:cpu_cores": "3"}, (1, 1)),
        ({"hw:cpu_cores": "2", "hw:cpu_threads": "2"}, (2, 2)),
        ({"hw:cpu_cores": "many"}, (1, 1)),
        ({"hw:cpu_max_sockets": "1"}, (4, 1)),
        ({"hw:cpu_max_sockets": "2"}, (2, 1)),
        ({"hw:cpu_max_sockets": "3"}, (2, 1)),
        ({"hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "2"}, (2, 2)),
        ({"hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "2", "hw:cpu_max_threads": "1"}, (1, 1)),
        ({"hw:cpu_max_sockets": "1", "hw:cpu_cores": "2"}, (2, 1)),
    ],
)
def test_sockets_cores_and_threads_follow_the_flavor(asked: dict[str, str], cores: tuple[int, int]) -> None:
    flavor = {"original_name": "f", "vcpus": 4, "ram": 1024, "disk": 0, "extra_specs": asked}
    vm = built(flavor=flavor)
    assert (vm.cores_per_socket, vm.threads_per_core) == cores


def test_the_flavor_counts_as_it_was_when_the_server_was_made() -> None:
    around = Surroundings(flavors={"7": {"id": "7", "name": "f", "vcpus": 64, "ram": 1}})
    vm = built(around)
    assert (vm.cpu_count, vm.document["flavorID"]) == (4, "7")


def test_volumes_stand_in_the_order_of_their_devices() -> None:
    vm = with_volumes(volume("a", "/dev/vdaa"), volume("b", "/dev/vdb"), volume("c", "/dev/vda"))
    assert [disk.id for disk in vm.disks] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("root", "iso", "told"),
    [
        ("/dev/vda", "/dev/sda", {}),
        ("/dev/vda", "/dev/hda", {}),
        ("/dev/sda", "/dev/hda", {}),
        ("/dev/sda", "/dev/vda", {"OS-EXT-SRV-ATTR:root_device_name": "/dev/sda"}),
    ],
)
def test_the_root_comes_before_a_cd_rom_and_its_image_says_the_hardware(
    root: str, iso: str, told: dict[str, str]
) -> None:
    uefi = {"hw_firmware_type": "uefi"}
    vm = with_volumes(volume("root", root, volume_image_metadata=uefi), volume("iso", iso), **told)
    assert [disk.id for disk in vm.disks] == ["root", "iso"]
    assert vm.firmware is Firmware.EFI


def test_a_volume_of_several_servers_is_shared_and_one_that_cannot_be_read_is_told() -> None:
    both = [{"server_id": "s1", "device": "/dev/vda"}, {"server_id": "s2", "device": "/dev/vdb"}]
    assert with_volumes(volume("a", "", attachments=both)).disks[0].shared
    vm = built(**{"os-extended-volumes:volumes_attached": [{"id": "hidden"}]})
    assert vm.disks == ()
    assert vm.document["unreadable"] == ["volumes.hidden"]


def test_snapshots_that_a_migration_has_made_are_none_of_the_server_s() -> None:
    around = Surroundings(
        volumes={"v": volume("v", "/dev/vda")},
        snapshots={
            "theirs": {"id": "theirs", "volume_id": "v", "metadata": {}},
            "ours": {"id": "ours", "volume_id": "v", "metadata": {"mtv_server": "s1", "mtv_volume": "v"}},
        },
    )
    vm = built(around, **{"os-extended-volumes:volumes_attached": [{"id": "v"}]})
    assert [snapshot["id"] for snapshot in vm.document["snapshots"]] == ["theirs"]


def test_what_a_policy_hides_or_somebody_deleted_is_absent_and_not_empty() -> None:
    flavor = {"original_name": "f", "vcpus": 1, "ram": 64, "disk": 3}
    document = built(flavor=flavor, image={"id": "deleted"}).document
    assert "extraSpecs" not in document["flavor"]
    assert "image" not in document


def test_a_name_that_two_networks_share_is_no_key() -> None:
    networks = {key: {"id": key, "name": name} for key, name in (("n1", "lan"), ("n2", "lan"), ("n3", "wan"))}
    ports = [{"id": key, "network_id": key, "mac_address": "FA:16:3E:00:00:0" + key[1]} for key in networks]
    vm = built(Surroundings(networks=networks, ports={"s1": ports}))
    assert [nic.network for nic in vm.nics] == ["n1", "n2", "wan"]
    assert vm.nics[0].mac == "fa:16:3e:00:00:01"


@given(st.data())
def test_cards_stand_as_nova_has_them_whatever_neutron_tells_of_times_and_in_which_order(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(["blue", "red", "green"]), min_size=1, unique=True))
    ports, addresses = [], {}
    for name in names:
        count = data.draw(st.integers(1, 3))
        macs = [f"FA:16:3E:00:{len(addresses):02X}:{card:02X}" for card in range(count)]
        # Two addresses of a card are two entries of nova's.
        addresses[name] = [{"OS-EXT-IPS-MAC:mac_addr": mac.lower(), "addr": at} for mac in macs for at in ("v4", "v6")]
        floating = data.draw(st.lists(st.sampled_from(macs), max_size=2))
        addresses[name] += [{"OS-EXT-IPS-MAC:mac_addr": mac.lower(), "addr": "floating"} for mac in floating]
        ports += [{"network_id": f"id-{name}", "mac_address": mac} for mac in macs]
    wanted = [str(port["mac_address"]).lower() for port in ports]
    for port in ports:
        port["id"] = str(data.draw(st.uuids()))
        port["created_at"] = data.draw(st.sampled_from(["2026-01-01", "2026-01-02"]))
    # A network may have been renamed, even to what another was called: nova keeps the names of its cache for a while.
    renamed = data.draw(st.permutations([*names, "new"]))
    networks = {f"id-{name}": {"id": f"id-{name}", "name": now} for name, now in zip(names, renamed, strict=False)}
    around = Surroundings(networks=networks, ports={"s1": data.draw(st.permutations(ports))})
    assert [nic.mac for nic in built(around, addresses=addresses).nics] == wanted


def test_cards_without_an_address_stand_at_their_network_and_then_by_age() -> None:
    networks = {key: {"id": key, "name": key} for key in ("a", "b", "c")}
    ports = [
        {"id": "1", "network_id": "a", "mac_address": "fa:16:3e:00:00:01", "created_at": "2026-01-02"},
        {"id": "2", "network_id": "c", "mac_address": "fa:16:3e:00:00:02", "created_at": "2026-01-03"},
        {"id": "3", "network_id": "a", "mac_address": "fa:16:3e:00:00:03", "created_at": "2026-01-01"},
        {"id": "4", "network_id": "b", "mac_address": "fa:16:3e:00:00:04", "created_at": "2026-01-04"},
    ]
    vm = built(Surroundings(networks=networks, ports={"s1": ports}), addresses={"b": [], "a": []})
    assert [nic.mac[-1] for nic in vm.nics] == ["4", "3", "1", "2"]


@pytest.mark.parametrize(
    ("status", "power"),
    [("SHUTOFF", PowerState.OFF), ("PAUSED", PowerState.SUSPENDED), ("SHELVED_OFFLOADED", PowerState.UNKNOWN)],
)
def test_states_of_nova_in_our_words(status: str, power: PowerState) -> None:
    assert power_state(status) is power


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://k:5000"}, "https://k:5000/v3"),
        ({"host": "k", "port": 5000}, "https://k:5000/v3"),
        ({"host": "https://k/identity/v3/"}, "https://k/identity/v3"),
        ({"host": "http://k", "extra": {"insecure": True}}, "http://k/v3"),
    ],
)
def test_keystones_url_may_be_given_in_several_ways(fields: dict[str, Any], url: str) -> None:
    assert Session(Connection(conn_id="c", conn_type="openstack", **fields)).auth_url == url


@pytest.mark.parametrize(
    ("fields", "code"), [({}, "HostMissing"), ({"host": "http://k"}, "PlainHttp"), ({"host": "ftp://k"}, "UrlUnknown")]
)
def test_other_urls_are_refused_before_anything_is_sent(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        OpenstackProvider(Connection(conn_id="c", conn_type="openstack", **fields))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (auth.SSLError("x"), ConnectionRefused, "CertificateUntrusted"),
        (auth.Unauthorized("x"), ConnectionRefused, "LoginRefused"),
        (auth.ConnectFailure("x"), TemporaryError, "Unreachable"),
        (answered(sdk.ForbiddenException, 403), ConnectionRefused, "PrivilegeMissing"),
        (answered(sdk.NotFoundException, 404), PermanentError, "ObjectGone"),
        (answered(sdk.ConflictException, 409), TemporaryError, "ObjectBusy"),
        (answered(sdk.HttpException, 413), TemporaryError, "QuotaExceeded"),
        (answered(sdk.HttpException, 503), TemporaryError, "Busy"),
    ],
)
def test_faults_of_the_services_in_our_words(fault: Exception, kind: type[Exception], code: str) -> None:
    error = translate(fault, where="there", doing="do it")
    assert type(error) is kind
    assert error.code == code


class ForgetfulService:
    """Lists servers in full pages, and drops the query's marker, as some proxies do."""

    def get(self, path: str, **asked: Any) -> Any:
        answer = requests.Response()
        answer.status_code = 200
        rows = [{"id": str(number)} for number in range(asked["params"]["limit"])]
        answer._content = json.dumps({"servers": rows}).encode()
        return answer


def test_a_list_that_never_ends_is_named_and_not_read_forever() -> None:
    session = Session(Connection(conn_id="cloud", conn_type="openstack", host="https://cloud.test/v3"))
    session._cloud = SimpleNamespace(compute=ForgetfulService())
    with pytest.raises(PermanentError, match="/servers/detail") as caught:
        servers(session)
    assert caught.value.code == "PagesEndless"
