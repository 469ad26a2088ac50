"""OpenStack behind the provider protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mtv.model.connection import Connection
from mtv.model.errors import PermanentError
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.model.transfer import GlanceImage
from mtv.providers import tls
from mtv.providers.openstack import collect
from mtv.providers.openstack.build import build_vms
from mtv.providers.openstack.export import Exports
from mtv.providers.openstack.power import Power
from mtv.providers.openstack.session import Session
from mtv.providers.power import refuse_unless_off


class OpenstackProvider:
    """One session with a project."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.session = Session(connection)
        self.power = Power(self.session)
        self.exports = Exports(self.session)

    def __enter__(self) -> Self:
        self.session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def check(self) -> str:
        """Log in and say which APIs answered for which project."""

        def ask(cloud: Any) -> str:
            version = cloud.compute.get_endpoint_data().max_microversion
            volumes = cloud.block_storage.get_endpoint_data().api_version
            return (
                f"OpenStack, project {cloud.current_project.name or cloud.current_project_id}:"
                f" compute API up to {'.'.join(map(str, version))}, volume API {'.'.join(map(str, volumes))}"
            )

        how = " (TLS not verified)" if tls.is_insecure(self.connection) else ""
        return self.session.run(ask, doing="ask for the versions") + how

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        """Read VMs: all, or those named. One call for each kind of object, and one more per page of 500."""
        wanted = None if names is None else set(names)
        if wanted is not None and not wanted:
            return []
        servers = collect.servers(self.session)
        if wanted is not None:
            servers = [server for server in servers if server["name"] in wanted]
        if not servers:
            return []
        return build_vms(servers, collect.surroundings(self.session))

    def identity(self, vm: SourceVm) -> str:
        """Return the server's id: a UUID, unique over projects, regions and clouds."""
        return f"openstack:{vm.id}"

    def power_state(self, vm: SourceVm) -> PowerState:
        """Read the power state now."""
        return self.power.state(vm.id, vm.name)

    def power_off(
        self,
        vm: SourceVm,
        *,
        timeout_s: float,
        asked_before: bool = False,  # noqa: ARG002  nova itself waits for the guest, whoever asked it
    ) -> str:
        """Stop the server; return how it ended."""
        return self.power.off(vm.id, vm.name, timeout_s=timeout_s)

    def power_on(self, vm: SourceVm) -> None:
        """Start the server and wait until nova says so."""
        self.power.on(vm.id, vm.name)

    def disk_source(self, vm: SourceVm, disk: SourceDisk, *, transport: str = "auto") -> GlanceImage:
        """Make an image of the disk and return how a pod reads it; see `release_disks`.

        Raises `PermanentError` while the VM runs: its bytes would be torn.
        """
        if transport not in ("auto", "glance"):
            raise PermanentError(f"transport {transport!r} is not one of auto, glance", code="TransportUnknown")
        refuse_unless_off(vm.name, self.power_state(vm))
        image = self.exports.image_of(vm, disk)
        return GlanceImage(
            endpoint=self.session.run(lambda cloud: str(cloud.image.get_endpoint()), doing="find the image service"),
            image=image,
            auth_url=self.session.auth_url,
            project=self.session.text("project"),
            project_domain=self.session.text("project_domain", "Default"),
            user_domain=self.session.text("user_domain", "Default"),
            insecure=tls.is_insecure(self.connection),
        )

    def release_disks(self, vm: SourceVm) -> list[str]:
        """Remove what `disk_source` has made on the source for this VM; return what was removed, in words."""
        return self.exports.remove_images(vm)

    def pod_credentials(self) -> Mapping[str, str]:
        """Return the files of the mover's Secret, and ca.pem when the connection names a CA."""
        if self.session.credential_id:
            files = {
                "application-credential-id": self.session.credential_id,
                "application-credential-secret": self.connection.password,
            }
        else:
            files = {"user": self.connection.login, "password": self.connection.password}
        return tls.with_authority(self.connection, files)
