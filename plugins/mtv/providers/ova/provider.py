"""A folder of appliances behind the provider protocol. Its VMs never run, so there is no power to switch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mtv.model.connection import Connection
from mtv.model.errors import DriftError, PermanentError, TemporaryError
from mtv.model.source import PowerState, SourceDisk, SourceVm
from mtv.model.transfer import DiskSource, FileRange, OvaMember
from mtv.providers.ova.appliance import appliance_files, read_appliance
from mtv.providers.ova.manifest import mismatches, read_manifest
from mtv.providers.ova.members import folder_members, tar_members
from mtv.providers.ova.refusal import Refused


class OvaProvider:
    """The folder that the connection names in `extra.path`.

    `refused` maps the appliances that the last `vms` could not take (paths below the folder) to the reason.
    """

    def __init__(self, connection: Connection) -> None:
        path = str(connection.extra.get("path") or "")
        if not path:
            raise PermanentError(
                f"connection {connection.conn_id!r} names no folder",
                cure="set extra.path to the folder that holds the appliances",
                code="FolderMissing",
            )
        self.connection = connection
        self.root = Path(path)
        self.refused: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self._files()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def check(self) -> str:
        """Look into the folder and say how many appliances lie there."""
        found = len(self._files())
        files = "1 appliance file" if found == 1 else f"{found or 'no'} appliance files"
        return f"OVA folder {self.root}: {files}{'' if found else ' (.ova, .ovf) in it'}"

    def vms(self, names: Iterable[str] | None = None) -> list[SourceVm]:
        """Read the appliances: each OVF and manifest, and of each disk file only its header.

        An appliance that cannot be taken never hides the others; see `refused`. When nothing of what is wanted is
        there, and a refused appliance carries a wanted name, that refusal is raised.
        """
        wanted = None if names is None else set(names)
        found: list[SourceVm] = []
        refused: dict[str, str] = {}
        for path in self._files():
            try:
                found += read_appliance(path, self.root)
            except Refused as refusal:
                refused[path.relative_to(self.root).as_posix()] = str(refusal)
            except OSError as error:
                refused[path.relative_to(self.root).as_posix()] = f"it cannot be read: {error.strerror}"
        self.refused = refused
        if wanted is None:
            return found
        chosen = [vm for vm in found if vm.name in wanted]
        if not chosen:
            self._refuse_refused(wanted)
        return chosen

    def identity(self, vm: SourceVm) -> str:
        """Return the appliance's file name and system, and a digest of what its disk files are told apart by.

        Not its path: two workers may see one folder at two places, or two folders at one.
        """
        files = hashlib.sha256("\n".join(disk.generation for disk in vm.disks).encode()).hexdigest()
        return f"ova:{vm.id.rpartition('/')[2]}/{files[:16]}"

    def power_state(self, vm: SourceVm) -> PowerState:  # noqa: ARG002  one protocol for all
        """Return off: an appliance is a file."""
        return PowerState.OFF

    def power_off(
        self,
        vm: SourceVm,  # noqa: ARG002  one protocol for all
        *,
        timeout_s: float,  # noqa: ARG002
        asked_before: bool = False,  # noqa: ARG002
    ) -> str:
        """Do nothing."""
        return "already off"

    def power_on(self, vm: SourceVm) -> None:
        """Refuse: there is nothing that could run."""
        raise PermanentError(
            f"{vm.name} is an appliance file; it cannot be powered on where it lies", code="PowerUnsupported"
        )

    def disk_source(
        self,
        vm: SourceVm,
        disk: SourceDisk,
        *,
        transport: str = "auto",  # noqa: ARG002  one protocol for all
    ) -> DiskSource:
        """Return where the disk's bytes lie. `transport` makes no difference here.

        The path is the one the worker sees; pods mount the connection's `volume` at the same place.
        Raises `DriftError` when the file is not the one that was read.
        """
        locator = disk.locator
        chunks = locator.get("chunks", ())
        for piece in (locator, *chunks, *locator.get("extents", ())):
            _refuse_changed(vm, piece)
        return OvaMember(
            path=locator["path"],
            offset=locator["offset"],
            length=locator["length"],
            format=locator["format"],
            compression=locator["compression"],
            checksum=locator["checksum"],
            chunks=tuple(
                FileRange(**{name: chunk[name] for name in ("path", "offset", "length", "checksum")})
                for chunk in chunks
            ),
        )

    def pod_credentials(self) -> Mapping[str, str]:
        """Return nothing: pods read the folder through a volume."""
        return {}

    def manifest_problems(self, vm: SourceVm) -> list[str]:
        """Read every byte that the appliance's manifest lists and return what differs; empty when all agree.

        An appliance without a manifest gives one sentence saying so. Takes as long as reading the files.
        """
        path = self.root / vm.document["ovaPath"]
        members = tar_members(path) if path.suffix.lower() == ".ova" else folder_members(path)
        manifests = [member for name, member in members.items() if name.lower().endswith(".mf")]
        if path.suffix.lower() == ".ovf":
            manifests = [member for member in manifests if member.name[:-3] == path.name[:-4]]
        if not manifests:
            return ["the appliance has no manifest"]
        return mismatches(read_manifest(manifests[0]), members)

    def _files(self) -> list[Path]:
        try:
            return appliance_files(self.root)
        except FileNotFoundError as error:
            raise PermanentError(
                f"the OVA folder {self.root} (connection {self.connection.conn_id!r}) does not exist",
                cure="mount it, or mend extra.path",
                code="FolderMissing",
            ) from error
        except OSError as error:
            raise TemporaryError(
                f"the OVA folder {self.root} (connection {self.connection.conn_id!r}) cannot be read: {error.strerror}",
                code="FolderUnreadable",
            ) from error

    def _refuse_refused(self, wanted: set[str]) -> None:
        for path, reason in self.refused.items():
            if Path(path).stem in wanted:
                raise Refused(f"{self.root / path}: {reason}")


def _refuse_changed(vm: SourceVm, piece: Mapping[str, Any]) -> None:
    path = Path(piece["path"])
    try:
        info = path.stat()
    except OSError as error:
        raise PermanentError(f"{path} of {vm.name} is gone: {error.strerror}", code="ObjectGone") from error
    if info.st_mtime_ns != piece["changed_ns"] or piece["offset"] + piece["length"] > info.st_size:
        raise DriftError(
            f"{path} of {vm.name} was written since it was read", cure="take the inventory again", code="FileChanged"
        )
