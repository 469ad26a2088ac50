"""Itineraries: the ordered steps of each provider and mode, as data for DAG builder, dry run and report alike."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Where(StrEnum):
    """Where a step runs: in the Airflow worker, or in a pod beside the target volumes."""

    WORKER = "worker"
    POD = "pod"


class Step(msgspec.Struct, frozen=True):
    """One step: its name (also the task id), where it runs, and whether it is the set-up or teardown of the VM."""

    name: str
    where: Where = Where.WORKER
    setup: bool = False
    teardown: bool = False
    what: str = ""


PREPARE = Step("prepare", setup=True, what="check drift, make the claims, shut the source down")
TRANSFER = Step("transfer", where=Where.POD, what="copy every disk, prove every block")
CONVERT = Step("convert", where=Where.POD, what="make the guest bootable on KubeVirt (virt-v2v, in place)")
CREATE_VM = Step("create_vm", what="create the VirtualMachine and restore its power state")
VERIFY = Step("verify", what="prove the boot from the guest's console or agent")
SETTLE = Step("settle", teardown=True, what="finish or undo, release, clean up")


class Itinerary(msgspec.Struct, frozen=True):
    """A named, ordered list of at most six steps (each is a task instance per VM)."""

    name: str
    steps: tuple[Step, ...]


CONVERTED = Itinerary("cold", (PREPARE, TRANSFER, CONVERT, CREATE_VM, VERIFY, SETTLE))
RAW = Itinerary("cold-raw", (PREPARE, TRANSFER, CREATE_VM, VERIFY, SETTLE))

BY_NAME = {itinerary.name: itinerary for itinerary in (CONVERTED, RAW)}


def itinerary_for(*, vm_type: str, skip_guest_conversion: bool) -> Itinerary:
    """Return the itinerary of a VM. Raises `ValueError` for a mode that is not built yet.

    A plan names its source by connection, whose type is not known where DAGs are made: a guest that ran on KVM already
    (oVirt) walks through `convert` too, which then has nothing to do.
    """
    if vm_type != "cold":
        raise ValueError(f"no itinerary for type {vm_type!r}")
    return RAW if skip_guest_conversion else CONVERTED
