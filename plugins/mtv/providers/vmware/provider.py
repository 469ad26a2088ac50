"""vSphere behind the provider protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.model.transfer import DiskSource
from mtv.providers import tls
from mtv.providers.vmware import collect, disk_access
from mtv.providers.vmware.build import build_vms
from mtv.providers.vmware.power import Power
from mtv.providers.vmware.session import Api, Session
from mtv.providers.vmware.surroundings import Surroundings, readable_name


class VmwareProvider:
    """One session with a vCenter or a standalone ESXi host."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.session = Session(connection)
        self.power = Power(self.session)

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
        """Read VMs: all, or those named. Three round trips, plus one for each further page of 100 objects."""
        wanted = None if names is None else set(names)
        if wanted is not None and not wanted:
            return []

        def read(api: Api) -> list[SourceVm]:
            around = Surroundings(collect.surroundings(api))
            if wanted is None:
                found = collect.virtual_machines(api, collect.VM_PATHS)
            else:
                index = collect.virtual_machines(api, ("name", "parent"))
                chosen = [vm for vm in index if readable_name(vm.properties.get("name", "")) in wanted]
                _refuse_doubles(chosen, around)
                references = [collect.vm_reference(api, vm.id) for vm in chosen]
                found = collect.objects(api, references, collect.VM_PATHS)
            return build_vms(found, around, collect.last_power_ons(api))

        return self.session.run(read, doing="read the inventory")

    def power_state(self, vm: SourceVm) -> PowerState:
        """Read the power state now."""
        return self.power.state(vm.id, vm.name)

    def power_off(self, vm: SourceVm, *, timeout_s: float) -> str:
        """Shut down the guest, power off after `timeout_s` seconds; return how it ended."""
        return self.power.off(vm.id, vm.name, timeout_s=timeout_s)

    def power_on(self, vm: SourceVm) -> None:
        """Power on and wait until vCenter says so."""
        self.power.on(vm.id, vm.name)

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> DiskSource:
        """Return how a pod reads this disk. Raises `PermanentError` while the VM runs: its bytes would be torn."""
        state = self.power_state(vm)
        if state is not PowerState.OFF:
            raise PermanentError(
                f"{vm.name} is {state.value}: its disks can only be read whole while it is off",
                cure="shut it down first",
                code="SourceNotOff",
            )
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
        pem = tls.ca_pem(self.connection)
        return {**files, "ca.pem": pem} if pem else files


def _refuse_doubles(chosen: list[collect.Found], around: Surroundings) -> None:
    paths: dict[str, list[str]] = {}
    for vm in chosen:
        name = readable_name(vm.properties["name"])
        above = around.path(collect.moref(vm.properties.get("parent")))
        paths.setdefault(name, []).append(f"{above}/{name} ({vm.id})")
    doubles = {name: sorted(where) for name, where in paths.items() if len(where) > 1}
    if doubles:
        text = "; ".join(f"{name}: {', '.join(where)}" for name, where in sorted(doubles.items()))
        raise PermanentError(
            f"several VMs have one name: {text}", cure="rename all but one on the source", code="NameAmbiguous"
        )
