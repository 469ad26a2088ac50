"""oVirt behind the provider protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.source import PowerState, SourceDisk, SourceVm, Thing
from mtv.model.transfer import DiskSource, OvirtDisk
from mtv.providers import tls
from mtv.providers.base import Progress
from mtv.providers.ovirt import collect
from mtv.providers.ovirt.build import build_vms
from mtv.providers.ovirt.power import Power
from mtv.providers.ovirt.session import Session
from mtv.providers.ovirt.surroundings import Surroundings
from mtv.providers.power import refuse_unless_off


class OvirtProvider:
    """One session with an engine.

    The connection's `extra.use_proxy` lets pods read disks through the engine's proxy when they cannot reach the hosts.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.session = Session(connection)
        self.power = Power(self.session)
        self.on_progress: Progress | None = None
        self._around = Surroundings(collect.Around({}))

    def __enter__(self) -> Self:
        try:
            self.session.open()
        except BaseException:
            self.session.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def check(self) -> str:
        """Log in and say what answered, such as "oVirt Engine 4.5.6-1.el9"."""
        product = self.session.read(lambda system: system.get(), doing="ask for the version").product_info
        version = product.version.full_version if product.version is not None else ""
        return f"{product.name} {version}".strip() + self._trust_in_words()

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        """Read VMs: all, or those named; a request a page of 100, and seven for what is around them."""
        wanted = None if names is None else set(names)
        if wanted is not None and not wanted:
            return []
        around = self._around = Surroundings(collect.surroundings(self.session))
        if wanted is None:
            return build_vms(collect.virtual_machines(self.session, self.on_progress), around)
        return build_vms(collect.virtual_machines_named(self.session, wanted), around)

    def things(self) -> list[Thing]:
        """Return data centres, clusters, hosts, storage domains and networks as `vms` saw them last."""
        return self._around.things()

    def identity(self, vm: SourceVm) -> str:
        """Return the VM's id: a UUID, which stays with the VM whatever engine has it."""
        return f"ovirt:{vm.id}"

    def power_state(self, vm: SourceVm) -> PowerState:
        """Read the power state now."""
        return self.power.state(vm.id, vm.name)

    def power_off(self, vm: SourceVm, *, timeout_s: float, asked_before: bool = False) -> str:
        """Shut down the guest, power off after `timeout_s` seconds; return how it ended."""
        return self.power.off(vm.id, vm.name, timeout_s=timeout_s, asked_before=asked_before)

    def power_on(self, vm: SourceVm) -> None:
        """Power on and wait until the engine says so."""
        self.power.on(vm.id, vm.name)

    def disk_source(
        self,
        vm: SourceVm,
        disk: SourceDisk,
        *,
        transport: str = "auto",  # noqa: ARG002  one protocol for all
    ) -> DiskSource:
        """Return how a pod reads this disk: an image transfer that it asks the engine for.

        Raises `PermanentError` while the VM runs, since its bytes would be torn, and for a disk that is no image.
        """
        kind = disk.locator["storage_type"]
        if kind != "image":
            raise PermanentError(
                f"disk {disk.id} of {vm.name} is of the storage type {kind}, of which an engine hands out no image",
                cure="move it to a storage domain, or detach it",
                code="DiskNoImage",
            )
        refuse_unless_off(vm.name, self.power_state(vm))
        return OvirtDisk(
            host=self.session.host,
            port=self.session.port,
            disk=disk.locator["disk"],
            use_proxy=self.connection.extra.get("use_proxy") is True,
            thumbprint=tls.thumbprint(self.connection),
            insecure=tls.is_insecure(self.connection),
        )

    def pod_credentials(self) -> Mapping[str, str]:
        """Return the files of the mover's Secret: user, password, and ca.pem when the connection names a CA."""
        files = {"user": self.connection.login, "password": self.connection.password}
        return tls.with_authority(self.connection, files)

    def _trust_in_words(self) -> str:
        if tls.is_insecure(self.connection):
            return " (TLS not verified)"
        if tls.thumbprint(self.connection) and not tls.ca_pem(self.connection):
            # A thumbprint names the engine's certificate; the hosts that serve disks show others.
            return " (enough to read the inventory; to copy disks, name the engine's CA, which signs its hosts too)"
        return ""
