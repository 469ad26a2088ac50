"""An oVirt VM through all steps: a real engine's SDK, the real imageio daemon and mover; the target is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.cluster.pki import Authority
from lab.ovirt.engine import USER, LabDisk, ThinEngine
from lab.ovirt.imageio import ImageioDaemon
from lab.ovirt.sample import data_centre
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import INSTANCES, VIRTUAL_MACHINES
from mtv.model.connection import Connection
from mtv.model.evidence import EvidenceKind, VmPhase
from mtv.model.plan import BootProof, NetworkTarget, Plan, PlannedVm, Source, StorageTarget, Target, Wave
from mtv.model.settings import Settings
from mtv.model.source import PowerState
from mtv.model.transfer import TransferSpec
from mtv.providers.ovirt import power
from mtv.steps import convert, create_vm, prepare, run, settle, transfer, verify
from mtv.steps.context import RunContext, start_run
from mtv.store import Store
from tests.kubevirt.values import source_vm
from tests.mover import moving
from tests.mover.moving import MIB
from tests.steps.conftest import through_validation
from tests.steps.world import MemoryCluster, World

pytestmark = pytest.mark.lab

PASSWORD = "canary-pass-3!"
SIZES = {"vda": 8 * MIB, "vdb": 4 * MIB + 4096}
AREAS = [(0, MIB), (3 * MIB, 70000)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ThinEngine]:
    """An engine whose VM power-1 has two disks with bytes in them."""
    estate = data_centre()
    vm = estate.vm("power-1")
    twin = estate.vm("power-2")
    attachments = [estate.parts[each.id]["disk_attachments"][0] for each in (vm, twin)]
    estate.parts[vm.id]["disk_attachments"] = attachments
    authority = Authority.create(tmp_path / "pki")
    daemon = ImageioDaemon(tmp_path, authority)
    running = ThinEngine(authority, daemon, PASSWORD, estate)
    originals = [moving.make_disk(tmp_path / name, size, AREAS, seed=size) for name, size in SIZES.items()]
    daemon.start()
    try:
        running.start()
        with (
            moving.nbdkit(tmp_path, "file", str(originals[0]), name="vda") as first,
            moving.nbdkit(tmp_path, "file", str(originals[1]), name="vdb") as second,
        ):
            for attachment, size, uri in zip(attachments, SIZES.values(), (first, second), strict=True):
                estate.objects["disks"][attachment.disk.id].provisioned_size = size
                running.disks[attachment.disk.id] = LabDisk(size, Path(uri.partition("socket=")[2]))
            yield running
        running.stop()
    finally:
        daemon.stop()


class Connections:
    def __init__(self, engine: ThinEngine, ca_file: Path) -> None:
        self.source = Connection(
            conn_id="rhv",
            conn_type="ovirt",
            host="127.0.0.1",
            port=engine.port,
            login=USER,
            password=PASSWORD,
            extra={"ca_file": str(ca_file)},
        )

    def get(self, conn_id: str) -> Connection:
        return self.source if conn_id == "rhv" else Connection(conn_id=conn_id, conn_type="kubernetes")


def begin(store: Store, world: World, engine: ThinEngine, folder: Path) -> RunContext:
    (folder / "rules" / "ovirt").mkdir(parents=True)
    options = PlannedVm(
        id="power-1", name="power-1", target_power_state="off", boot_proof=BootProof(marker="x", timeout_s=5)
    )
    plan = Plan(
        name="first",
        source=Source(connection="rhv"),
        target=Target(connection="cluster", namespace="demo"),
        network_map={"*": NetworkTarget(type="pod")},
        storage_map={"gold": StorageTarget(storage_class="fs", volume_mode="Filesystem")},
        waves=(Wave(name="pilot", vms=(options,)),),
    )
    started = start_run(
        store=store,
        connections=Connections(engine, folder / "pki" / "ca.crt"),
        settings=Settings(rules_folder=folder / "rules", state_folder=folder / "state"),
        plan_hash=store.put_plan(plan),
        wave="pilot",
        dag_id="mtv.first.pilot",
        dag_run_id="r1",
        log=world.log.append,
    )
    values = {name: getattr(started, name) for name in ("store", "connections", "settings", "plan", "run", "log")}
    return RunContext(**values, open_cluster=lambda connection: MemoryCluster(world, connection))


def run_mover(request: PodRequest, folder: Path) -> str:
    """Run the real mover with the files of the pod's Secret, on paths below a folder, and return its last word."""
    secrets = folder / "secrets"
    secrets.mkdir(parents=True)
    for name, content in request.secret_files.items():
        (secrets / name).write_text(content)
    spec = msgspec.json.decode(request.secret_files["spec.json"], type=TransferSpec)
    disks = []
    for disk in spec.disks:
        path = folder / disk.target.path.lstrip("/")
        path.parent.mkdir(parents=True)
        disks.append(msgspec.structs.replace(disk, target=msgspec.structs.replace(disk.target, path=str(path))))
    (folder / "work").mkdir()
    moved = msgspec.structs.replace(
        spec, disks=tuple(disks), work_dir=str(folder / "work"), credentials_dir=str(secrets)
    )
    ran = moving.run(moved)
    assert ran.result.ok, ran.lines
    return msgspec.json.encode(ran.result).decode()


def test_an_ovirt_vm_is_shut_down_copied_by_imageio_and_made_without_a_conversion(
    engine: ThinEngine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power.Power, "POLL_S", 0)
    world = World(source_vm(power=PowerState.OFF))
    started = begin(store, world, engine, tmp_path)
    vm = through_validation(started, "power-1")
    prepare.prepare(vm)
    assert engine.power.asked == [("shutdown", engine.estate.vm("power-1").id)]

    request = transfer.pod_request(vm)
    assert request is not None
    assert set(request.secret_files) == {"spec.json", "user", "password", "ca.pem"}
    assert PASSWORD not in request.secret_files["spec.json"]
    transfer.finish(vm, run_mover(request, tmp_path / "pod"))
    for index, (name, size) in enumerate(SIZES.items()):
        assert moving.same_bytes(tmp_path / name, tmp_path / "pod" / "disks" / str(index) / "disk.img", size)
    assert {str(each.phase) for each in engine.transfers.values()} == {"finished_success"}
    copied = store.latest_evidence("first", "power-1", EvidenceKind.TRANSFER)
    assert copied is not None
    assert {disk["proof"] for disk in copied["disks"]} == {"source-checked"}

    assert convert.pod_request(vm) is None
    assert any("ran on KVM already" in line for line in world.log)
    create_vm.create_vm(vm)
    verify.verify(vm)
    settle.settle(vm)
    run.verdict(started)
    (machine,) = world.all(VIRTUAL_MACHINES)
    domain = machine["spec"]["template"]["spec"]["domain"]
    assert [disk["disk"]["bus"] for disk in domain["devices"]["disks"]] == ["scsi", "scsi"]
    assert domain["firmware"]["bootloader"] == {"efi": {"secureBoot": False}}
    assert world.all(INSTANCES) == []
    assert store.vm("first", "power-1").phase is VmPhase.MIGRATED
    assert len(engine.power.asked) == 1  # the source stays off, and nothing else was asked of it
    assert "canary" not in "\n".join(world.log)
