"""What a plan asks of copy and conversion reaches the pods, is pinned before the shutdown, and carries no secret."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import msgspec
import pytest

from mover.events import MAX_LINE_BYTES, Events
from mtv.kubevirt import pods
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import CLAIMS, CONFIG_MAPS, NAMESPACES, PODS, SECRETS, Kind
from mtv.kubevirt.target_facts import POD_SECURITY
from mtv.model.connection import Connection
from mtv.model.conversion import ConvertResult, ConvertSpec, Inspection
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.model.log_parts import INSPECTION, last_in
from mtv.model.plan import Bandwidth, RateWindow
from mtv.model.source import PowerState, SourceVm
from mtv.model.transfer import FileRange, OvaMember, TransferSpec, Verify
from mtv.steps import convert, prepare, settle, transfer
from mtv.steps.context import VmContext
from mtv.steps.guest_network import nics_of
from mtv.steps.source_files import as_the_pod_sees
from tests.kubevirt.values import nic, source_vm
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun
from tests.steps.world import World

ANY = "0.0.0.0"  # noqa: S104  a route's network, nothing is bound
MAC = "00:50:56:aa:00:01"
SCRIPTS = {"10_linux_run_mark.sh": "echo ran >/etc/ran\n", "20_win_firstboot_x.ps1": "Write-Output x\n"}


def row(ip: str, **changes: Any) -> dict[str, Any]:
    values = {"device": "0", "mac": MAC.upper(), "ip": ip, "prefix": 24, "origin": "manual", "dns": ["10.0.0.1"]}
    return values | changes


def route(gateway: str, network: str = ANY, prefix: int = 0, device: str = "0") -> dict[str, Any]:
    return {"device": device, "gateway": gateway, "network": network, "prefix": prefix, "dns": []}


def guest(rows: list[Any], routes: list[Any], *, os: str = "debian12_64Guest", **changes: Any) -> SourceVm:
    return source_vm(guest_os=os, document={"guestNetworks": rows, "guestIpStacks": routes}, **changes)


ADDRESSES = guest([row("10.0.0.5")], [route("10.0.0.1")])


def put(world: World, kind: Kind, name: str, **body: Any) -> None:
    world.put(kind, {"metadata": {"name": name, "namespace": "demo"}, **body})


def spec_of(request: PodRequest | None, kind: type[Any]) -> Any:
    assert request is not None
    return msgspec.json.decode(request.secret_files["spec.json"], type=kind)


def to_conversion(vm: VmContext, world: World) -> PodRequest:
    """Prepare and copy the VM; return the pod of its conversion."""
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    transfer.finish(vm, world.run_pod(request))
    request = convert.pod_request(vm)
    assert request is not None
    return request


def test_the_copy_is_verified_and_reserved_as_the_plan_says(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run(verify="sampled", verify_source=True, preallocate=True))
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    spec = spec_of(request, TransferSpec)
    assert (spec.verify, spec.verify_source) == (Verify.SAMPLED, True)
    assert [disk.target.preallocate for disk in spec.disks] == [True, True]
    assert request is not None
    transfer.finish(vm, world.run_pod(request))
    (found,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.TRANSFER)
    assert {(disk["verify"], disk["reread"]) for disk in found.document["disks"]} == {("sampled", True)}


def test_the_copy_keeps_the_plans_limits_by_the_clock_of_its_zone(make_run: MakeRun) -> None:
    window = RateWindow(start="07:00", end="19:00", limit="50M")
    bandwidth = Bandwidth(limit="400M", windows=(window,), timezone="Asia/Kolkata")  # no change of clocks there
    run = make_run()
    vm = through_validation(dataclasses.replace(run, plan=run.plan.model_copy(update={"bandwidth": bandwidth})))
    prepare.prepare(vm)
    spec = spec_of(transfer.pod_request(vm), TransferSpec)
    assert (spec.limit_bytes_per_s, spec.limits_utc_offset_min) == (400_000_000, 330)
    assert [(limit.start, limit.end, limit.bytes_per_s) for limit in spec.limits] == [("07:00", "19:00", 50_000_000)]


def test_a_device_is_not_preallocated_and_known_by_the_uid_of_its_claim(make_run: MakeRun, world: World) -> None:
    vm = through_validation(make_run(preallocate=True, storage_class="block", volume_mode="Block"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare.preflight, "prove_block_class", lambda *_: None)
        prepare.prepare(vm)
    spec = spec_of(transfer.pod_request(vm), TransferSpec)
    assert [(disk.target.block, disk.target.preallocate) for disk in spec.disks] == [(True, False), (True, False)]
    uids = {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in world.all(CLAIMS)}
    assert [disk.target.volume for disk in spec.disks] == [uids["first-web-1-disk-0"], uids["first-web-1-disk-1"]]


@pytest.mark.parametrize("changes", [{"verify": "off"}, {"reread": False}])
def test_a_copy_that_was_verified_otherwise_is_not_believed(make_run: MakeRun, world: World, changes: Any) -> None:
    vm = through_validation(make_run(verify_source=True))
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    result = json.loads(world.run_pod(request))
    result["disks"][1] |= changes
    with pytest.raises(PermanentError, match=r"another way than was asked for \(disk-2001\)"):
        transfer.finish(vm, json.dumps(result))


def test_the_conversion_gets_addresses_scripts_keys_and_drivers(make_run: MakeRun, world: World) -> None:
    world.vm = ADDRESSES
    put(world, CONFIG_MAPS, "hardening", data=SCRIPTS)
    put(world, SECRETS, "luks.keys", data={"passphrase": "canary-key"})
    put(world, CLAIMS, "drivers")
    options = {"customization_scripts": "hardening", "luks": "luks.keys", "inspect": True, "root_disk": "/dev/sdb2"}
    vm = through_validation(make_run(virtio_win="claim:drivers/iso/virtio-win.iso", **options))
    request = to_conversion(vm, world)
    spec = spec_of(request, ConvertSpec)
    assert [(nic.mac, nic.addresses, nic.gateways, nic.dns) for nic in spec.nics] == [
        (MAC, ("10.0.0.5/24",), ("10.0.0.1",), ("10.0.0.1",))
    ]
    assert {script.name: script.content for script in spec.scripts} == SCRIPTS
    assert [(key.device, key.file) for key in spec.luks_keys] == [("all", "*")]
    assert spec.virtio_win == "/virtio-win/iso/virtio-win.iso"
    assert (spec.inspect, spec.root_disk) == (True, "/dev/sda2")
    container = request.pod["spec"]["containers"][0]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in request.pod["spec"]["volumes"]}
    assert mounts["keys"] == {"name": "keys", "mountPath": spec.credentials_dir, "readOnly": True}
    assert volumes["keys"]["secret"] == {"secretName": "luks.keys", "defaultMode": 0o440}
    assert mounts["drivers"] == {"name": "drivers", "mountPath": "/virtio-win", "readOnly": True}
    assert volumes["drivers"]["persistentVolumeClaim"] == {"claimName": "drivers", "readOnly": True}


def test_no_key_is_read_by_the_worker_and_nothing_of_it_leaves_the_cluster(make_run: MakeRun, world: World) -> None:
    put(world, SECRETS, "keys", data={"passphrase": "canary-key"})
    vm = through_validation(make_run(luks="keys"))
    request = to_conversion(vm, world)
    evidence = [row.document for kind in EvidenceKind for row in vm.store.evidence(vm.run.id, "web-1", kind)]
    everything = json.dumps([request.pod, dict(request.secret_files), world.log, evidence]) + repr(request)
    assert "canary-key" not in everything
    assert "look for secrets/keys" in world.log, "only whether it is there is asked"
    assert not [line for line in world.log if line.startswith(("get secrets", "list secrets"))]


def test_the_whole_inspection_report_is_evidence_though_only_its_head_fits_the_result(
    make_run: MakeRun, world: World
) -> None:
    vm = through_validation(make_run(inspect=True))
    request = to_conversion(vm, world)
    applications = tuple(f"package-{n} 1.{n}-\u00e9" for n in range(3000))
    full = Inspection(root="/dev/sda1", complete=True, applications=applications)
    out = io.StringIO()
    Events(out).inspection(full)
    assert max(map(len, out.getvalue().splitlines())) < MAX_LINE_BYTES
    world.console = f"a line of something else\n{out.getvalue()}"
    world.put(PODS, request.pod)
    short = msgspec.structs.replace(full, applications=(), applications_left_out=3000)
    result = msgspec.json.decode(world.run_pod(request), type=ConvertResult)
    convert.finish(vm, msgspec.json.encode(msgspec.structs.replace(result, inspection=short)).decode())
    (found,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.CONVERSION)
    assert msgspec.convert(found.document["inspection"], Inspection) == full


@pytest.mark.parametrize("data", ["", "no base64!", "eJyLjgUAARUAuQ==", "AAAA", None, 7])
def test_a_log_that_holds_no_report_gives_none(data: object) -> None:
    line = json.dumps({"event": "inspection", "part": 1, "parts": 1, "data": data})
    lines = ["", "{", line, line.replace('"part": 1', '"part": 2'), "null"]
    assert last_in(lines, INSPECTION, Inspection) is None


def test_what_was_asked_is_evidence_with_the_digests_of_the_scripts(make_run: MakeRun, world: World) -> None:
    put(world, CONFIG_MAPS, "hardening", data=SCRIPTS)
    prepare.prepare(vm := through_validation(make_run(customization_scripts="hardening")))
    (found,) = vm.store.evidence(vm.run.id, "web-1", EvidenceKind.GUEST)
    assert found.document["scripts_from"] == "hardening"
    assert {name: len(digest) for name, digest in found.document["scripts"].items()} == dict.fromkeys(SCRIPTS, 64)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"customization_scripts": "nowhere"}, "scripts-missing"),
        ({"customization_scripts": "odd"}, "script-name"),
        ({"customization_scripts": "packed"}, "script-name"),
        ({"customization_scripts": "large"}, "script-large"),
        ({"luks": "nowhere"}, "luks-secret-missing"),
        ({"virtio_win": "claim:nowhere/v.iso"}, "virtio-win-missing"),
    ],
)
def test_what_is_missing_is_refused_before_the_shutdown(
    make_run: MakeRun, world: World, options: dict[str, str], code: str
) -> None:
    put(world, CONFIG_MAPS, "odd", data={"setup.sh": "true"})
    put(world, CONFIG_MAPS, "packed", data=SCRIPTS, binaryData={"x": "AA=="})
    put(world, CONFIG_MAPS, "large", data={"10_linux_run_x.sh": "#" * 600_000})
    with pytest.raises(PermanentError) as error:
        prepare.prepare(through_validation(make_run(**options)))
    assert error.value.code == code
    assert error.value.cure
    assert world.vm.power is PowerState.ON


def test_scripts_that_changed_since_the_preparation_stop_the_conversion(make_run: MakeRun, world: World) -> None:
    put(world, CONFIG_MAPS, "hardening", data=SCRIPTS)
    vm = through_validation(make_run(customization_scripts="hardening"))
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    transfer.finish(vm, world.run_pod(request))
    put(world, CONFIG_MAPS, "hardening", data={**SCRIPTS, "10_linux_run_mark.sh": "rm -rf /"})
    with pytest.raises(PermanentError, match="changed since the VM was prepared"):
        convert.pod_request(vm)


def test_a_retry_keeps_the_addresses_that_the_guest_told_while_it_ran(make_run: MakeRun, world: World) -> None:
    world.vm = ADDRESSES
    vm = through_validation(make_run(on_failure="hold"))
    prepare.prepare(vm)
    settle.settle(vm)
    world.vm = guest([], [], power=PowerState.OFF)
    again = through_validation(make_run("r2", on_failure="hold"))
    assert spec_of(to_conversion(again, world), ConvertSpec).nics[0].addresses == ("10.0.0.5/24",)


def test_addresses_are_left_alone_where_the_plan_says_so(make_run: MakeRun, world: World) -> None:
    world.vm = ADDRESSES
    vm = through_validation(make_run(preserve_static_ips=False))
    assert spec_of(to_conversion(vm, world), ConvertSpec).nics == ()


ROUTES = [
    route("10.0.0.254", network="10.9.0.0", prefix=16),
    route("10.0.1.1", device="1"),
    route("10.0.0.1"),
    route("fe80::1", network="::"),
]
TWO_FAMILIES = [row("fd00::5", prefix=64), row("fe80::5", prefix=64), row("10.0.0.5"), row("10.0.0.6", origin="dhcp")]


@pytest.mark.parametrize(
    ("vm", "addresses", "gateways"),
    [
        (guest(TWO_FAMILIES, ROUTES), ("10.0.0.5/24", "10.0.0.6/24", "fd00::5/64"), ("10.0.0.1",)),
        (
            guest(TWO_FAMILIES, ROUTES, os="windows2019srv_64Guest"),
            ("10.0.0.5/24", "fd00::5/64"),
            ("10.0.0.1", "fe80::1"),
        ),
        (
            guest(TWO_FAMILIES, [*ROUTES, route("fd00::1", network="::")], os="windows2019srv_64Guest"),
            ("10.0.0.5/24", "fd00::5/64"),
            ("10.0.0.1", "fd00::1"),
        ),
    ],
    ids=["linux", "windows", "windows-with-a-global-gateway"],
)
def test_addresses_become_cards_as_the_guest_needs_them(vm: SourceVm, addresses: object, gateways: object) -> None:
    (found,) = nics_of(vm)
    assert (found.addresses, found.gateways) == (addresses, gateways)


@pytest.mark.parametrize(
    "rows",
    [
        [row("10.0.0.5", mac="02:42:ac:11:00:02")],
        [row("10.0.0.5", prefix=0)],
        [row("no address"), row("fe80::1", prefix=64), row(ANY)],
        ["text", None],
        None,
    ],
    ids=["not-the-vm's-card", "no-prefix", "none-to-keep", "no-rows", "no-table"],
)
def test_what_is_no_address_of_a_card_is_left_out(rows: Any) -> None:
    assert nics_of(guest(rows, ROUTES, nics=(nic(0), nic(1, mac="")))) == ()


@pytest.mark.parametrize(
    ("level", "volume", "refused"),
    [
        ("restricted", {"nfs": {"server": "nas", "path": "/ova"}}, True),
        ("restricted", {"persistentVolumeClaim": {"claimName": "ova"}}, False),
        ("baseline", {"nfs": {"server": "nas", "path": "/ova"}}, False),
    ],
)
def test_a_share_that_no_pod_may_mount_is_refused_before_the_shutdown(
    make_run: MakeRun, world: World, level: str, volume: dict[str, Any], refused: bool
) -> None:
    world.put(NAMESPACES, {"metadata": {"name": "demo", "labels": {POD_SECURITY: level}}})
    vm = through_validation(make_run())
    connection = msgspec.structs.replace(vm.connections.get("vcenter"), extra={"volume": volume})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(vm.connections), "get", lambda *_: connection)
        if refused:
            with pytest.raises(PermanentError, match="may mount no nfs volume"):
                prepare.prepare(vm)
            assert world.vm.power is PowerState.ON
        else:
            prepare.prepare(vm)


def test_the_pod_finds_every_piece_of_an_ova_file_below_its_mount() -> None:
    connection = Connection(conn_id="o", conn_type="ova", extra={"path": "/mnt/ova"})
    chunks = tuple(FileRange(path=f"/mnt/ova/a/d.vmdk.00000000{n}", offset=0, length=1) for n in (1, 2))
    member = OvaMember(path="/mnt/ova/a/d.vmdk.000000000", offset=0, length=1, chunks=chunks)
    seen = as_the_pod_sees(connection, member)
    assert isinstance(seen, OvaMember)
    assert [piece.path for piece in (seen, *seen.chunks)] == [
        f"{pods.SOURCE_DIR}/a/d.vmdk.00000000{n}" for n in (0, 1, 2)
    ]
