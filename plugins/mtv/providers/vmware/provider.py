"""vSphere behind the provider protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import msgspec

from mtv.model.connection import Connection
from mtv.model.source import PowerState, SourceDisk, SourceVm, Thing
from mtv.model.transfer import DiskSource
from mtv.providers import tls
from mtv.providers.base import Progress
from mtv.providers.power import refuse_unless_off
from mtv.providers.vmware import collect, disk_access
from mtv.providers.vmware.generation import forgotten, with_generations
from mtv.providers.vmware.power import Power
from mtv.providers.vmware.reading import read_vms
from mtv.providers.vmware.session import Session
from mtv.providers.vmware.surroundings import Surroundings
from mtv.providers.vmware.tags import tags_of
from mtv.providers.vmware.things import things

CLOCKS_DIFFER_BY = timedelta(days=1)
"""More than vCenter's clock is ever ahead of a worker's or behind it; events are kept for 30 days unless told."""


class VmwareProvider:
    """One session with a vCenter or a standalone ESXi host."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.session = Session(connection)
        self.power = Power(self.session)
        self.on_progress: Progress | None = None
        self._around = Surroundings([])

    def __enter__(self) -> Self:
        self.session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def check(self) -> str:
        """Log in and say what answered, such as "VMware vCenter Server 8.0.3 build-24322831"."""
        about = self.session.run(lambda api: api.instance.RetrieveContent().about, doing="ask for the version")
        how = " (TLS not verified)" if tls.is_insecure(self.connection) else ""
        return f"{about.fullName}, API {about.apiVersion}{how}"

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        """Read VMs: all, or those named. Four round trips, and one for each page of 100 VMs.

        Of VMs that are named one more each, where newer events of others hide when it was powered on last.
        """
        vms, self._around = read_vms(self.session, names, self.on_progress)
        return vms

    def with_tags(self, vms: Sequence[SourceVm]) -> list[SourceVm]:
        """Return the VMs with `tags` in their documents, or as they are where nobody tells tags."""
        found = tags_of(self.session, [vm.id for vm in vms])
        if found is None:
            return list(vms)
        return [msgspec.structs.replace(vm, document={**vm.document, "tags": found.get(vm.id, [])}) for vm in vms]

    def things(self) -> list[Thing]:
        """Return datacenters, clusters, hosts, datastores and networks as `vms` saw them last."""
        return things(self._around)

    def as_seen_before(self, now: SourceVm, before: SourceVm, seen_at: datetime) -> SourceVm:
        """Return `now` with the generations of `before` where only a start that vCenter has forgotten sets them apart.

        A vCenter that still has events from before `seen_at` would know of a start since then.
        """
        lost = forgotten(before, now)
        if not lost:
            return now
        since = seen_at - CLOCKS_DIFFER_BY
        if not self.session.run(lambda api: collect.remembers(api, since), doing="read old events"):
            return now
        return with_generations(now, lost)

    def identity(self, vm: SourceVm) -> str:
        """Return vCenter's own UUID (an ESXi host's hardware's, else its address) and the VM's id there."""
        uuid = self.session.run(collect.installation_uuid, doing="ask for the instance UUID")
        return f"vsphere:{uuid or f'{self.session.host}:{self.session.port}'}/{vm.id}"

    def power_state(self, vm: SourceVm) -> PowerState:
        """Read the power state now. Raises `PermanentError` when the id leads to another VM than the one that was read,
        as do `power_off` and `power_on`: ids such as vm-42 mean another VM in another vCenter.
        """
        return self.power.state_of(vm)

    def power_off(self, vm: SourceVm, *, timeout_s: float, asked_before: bool = False) -> str:
        """Shut down the guest, power off after `timeout_s` seconds; return how it ended."""
        self.power.require_same(vm)
        return self.power.off(vm.id, vm.name, timeout_s=timeout_s, asked_before=asked_before)

    def power_on(self, vm: SourceVm) -> None:
        """Power on and wait until vCenter says so."""
        self.power.require_same(vm)
        self.power.on(vm.id, vm.name)

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        """Return how a pod reads this disk. Raises `PermanentError` while the VM runs: its bytes would be torn."""
        refuse_unless_off(vm.name, self.power_state(vm))
        return disk_access.disk_source(
            vm,
            disk,
            transport=transport,
            host=self.session.host,
            port=self.session.port,
            thumbprint=tls.thumbprint(self.connection),
            insecure=tls.is_insecure(self.connection),
        )

    def pod_credentials(self) -> Mapping[str, str]:
        """Return the files of the mover's Secret: user, password, and ca.pem when the connection names a CA."""
        files = {"user": self.connection.login, "password": self.connection.password}
        return tls.with_authority(self.connection, files)
