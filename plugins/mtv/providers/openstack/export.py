"""Making a volume readable: a snapshot, a volume from it, an image of that; the image is what the mover reads.

    volume ──▶ snapshot ──▶ volume ──▶ image `mtv-<server>-<volume>` ──▶ mover
               └── both removed as soon as the image is there ──┘   └── removed by `remove_images`

Everything that is made carries our mark, the volume it came from and the generation of its bytes. So a second attempt
takes what the first has made, and nothing of anybody else is ever removed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.source import SourceDisk, SourceVm
from mtv.providers.openstack.session import Session

POLL_S = 1.0
STEP_TIMEOUT_S = 900.0
_BYTES_PER_S = 10 << 20
"""The slowest copy, removal or upload that is waited for, beyond `STEP_TIMEOUT_S` for whatever size."""
_BUSY = frozenset({"creating", "uploading", "downloading", "deleting"})
"""States in which cinder refuses to delete a volume or snapshot, or does so already."""
_GONE, _DELETED = "gone", "deleted"
SERVER_MARK = "mtv_server"
"""Metadata of all that is made here: the server for which it was."""
_VOLUME_MARK, _GENERATION_MARK = "mtv_volume", "mtv_generation"

_log = logging.getLogger(__name__)


class Exports:
    """Images of volumes, in one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def image_of(self, vm: SourceVm, disk: SourceDisk) -> str:
        """Return the id of an active raw image of the disk; made now, unless an earlier attempt did. May take long."""
        if disk.locator.get("kind") != "volume":
            raise PermanentError(
                f"the root disk of {vm.name} lies on its compute host, where nobody can read it whole",
                cure="make an image of the server, start a server from a volume of it, and migrate that one",
                code="RootDiskUnreadable",
            )
        if disk.locator.get("encrypted"):
            raise PermanentError(
                f"volume {disk.id} of {vm.name} is encrypted: an image of it would hold ciphertext",
                cure="copy it to a volume of a type without encryption",
                code="VolumeEncrypted",
            )
        image = self._found(vm, disk)
        if image is None:
            image = self._make(vm, disk)
        return self._wait_for_image(image, f"the image of volume {disk.id} of {vm.name}", disk.size_bytes)

    def remove_images(self, vm: SourceVm) -> list[str]:
        """Remove all that was made for this VM, also what a killed attempt left; return the names."""
        removed: list[str] = []

        def images(cloud: Any) -> None:
            for image in (image for disk in vm.disks for image in _named(cloud, vm, disk.id)):
                if image.properties.get(SERVER_MARK) == vm.id:  # anybody may give an image this name
                    cloud.image.delete_image(image, ignore_missing=True)
                    removed.append(f"image {image.name}")

        self.session.run(images, doing=f"remove the images of {vm.name}")
        removed += self._remove_steps(vm, [disk.id for disk in vm.disks])
        return removed

    def _found(self, vm: SourceVm, disk: SourceDisk) -> str | None:
        wanted = {SERVER_MARK: vm.id, _VOLUME_MARK: disk.id, _GENERATION_MARK: disk.generation}

        def look(cloud: Any) -> str | None:
            for image in _named(cloud, vm, disk.id):
                had = {key: image.properties.get(key) for key in wanted}
                if had == wanted and image.status in ("active", "saving"):
                    return str(image.id)
                if had[SERVER_MARK] == vm.id:  # an older state of the disk, or an upload that failed
                    cloud.image.delete_image(image, ignore_missing=True)
            return None

        return self.session.run(look, doing=f"look for images of {vm.name}")

    def _make(self, vm: SourceVm, disk: SourceDisk) -> str:
        what, name = f"volume {disk.id} of {vm.name}", _name(vm, disk.id)
        marks = {SERVER_MARK: vm.id, _VOLUME_MARK: disk.id}
        self._remove_steps(vm, [disk.id])
        try:
            snapshot = self.session.run(
                lambda cloud: (
                    cloud.block_storage.create_snapshot(volume_id=disk.id, name=name, metadata=marks, force=True).id
                ),
                doing=f"make a snapshot of {what}",
            )
            self._wait_for("get_snapshot", snapshot, f"the snapshot of {what}", disk.size_bytes)
            volume = self.session.run(
                lambda cloud: (
                    cloud.block_storage.create_volume(
                        name=name,
                        size=disk.size_bytes >> 30,
                        snapshot_id=snapshot,
                        volume_type=disk.storage or None,
                        metadata=marks,
                    ).id
                ),
                doing=f"make a volume of the snapshot of {what}",
            )
            self._wait_for("get_volume", volume, f"the copy of {what}", disk.size_bytes)
            # The image is born with these. Set on it while its upload begins they could undo its new status.
            self.session.run(
                lambda cloud: cloud.block_storage.set_volume_image_metadata(
                    volume, **marks, **{_GENERATION_MARK: disk.generation}
                ),
                doing=f"mark the copy of {what}",
            )
            image = self.session.run(
                lambda cloud: cloud.block_storage.upload_volume_to_image(
                    volume, name, disk_format="raw", container_format="bare", force=True
                )["image_id"],
                doing=f"make an image of {what}",
            )
            # The copy is being read until the image is whole.
            self._wait_for_image(image, f"the image of {what}", disk.size_bytes)
            return str(image)
        finally:
            self._remove_steps_quietly(vm, disk)

    def _remove_steps_quietly(self, vm: SourceVm, disk: SourceDisk) -> None:
        try:
            self._remove_steps(vm, [disk.id])
        except MtvError as error:
            # The image is what counts; `remove_images` looks for them again at the end.
            _log.warning("%s: snapshot and copy of %s stay for now: %s", vm.name, disk.id, error)

    def _remove_steps(self, vm: SourceVm, volume_ids: list[str]) -> list[str]:
        """Remove copies, then the snapshots under them; only those that carry our mark."""
        removed: list[str] = []
        for kind in ("volume", "snapshot"):
            ours = self.session.run(partial(_marked, kind, vm, volume_ids), doing="look for copies")
            for key, size_bytes in ours:
                self._remove(kind, key, size_bytes)
                removed.append(f"{kind} {key}")
        return removed

    def _remove(self, kind: str, key: str, size_bytes: int) -> None:
        def remove(cloud: Any) -> str:
            found = getattr(cloud.block_storage, f"find_{kind}")(key, ignore_missing=True)
            if found is None:
                return _GONE
            # A copy stays "uploading" for a moment after its image is whole, and is not deleted until that is over.
            if found.status not in _BUSY:
                getattr(cloud.block_storage, f"delete_{kind}")(key, ignore_missing=True)
            return str(found.status)

        # Some drivers wipe what they remove, block by block.
        self._wait(remove, f"{kind} {key}", size_bytes, until=_GONE, code="Removal", doing="remove")

    def _wait_for(self, getter: str, key: str, what: str, size_bytes: int) -> None:
        def look(cloud: Any) -> str:
            return str(getattr(cloud.block_storage, getter)(key).status)

        self._wait(look, what, size_bytes, until="available", hopeless=("error",), code="Copy")

    def _wait_for_image(self, image: str, what: str, size_bytes: int) -> str:
        def look(cloud: Any) -> str:
            found = cloud.image.find_image(image, ignore_missing=True)
            # Cinder itself removes an image whose upload has failed.
            return _DELETED if found is None else str(found.status)

        self._wait(
            look,
            what,
            size_bytes,
            until="active",
            hopeless=("killed", _DELETED, "pending_delete"),
            code="Upload",
            cure="see cinder's messages about the volume, and glance's quota and space",
        )
        return image

    def _wait(
        self,
        look: Callable[[Any], str],
        what: str,
        size_bytes: int,
        *,
        until: str,
        code: str,
        hopeless: tuple[str, ...] = (),
        doing: str = "look at",
        cure: str = "",
    ) -> None:
        """Look again and again until the status is `until`, for as long as a disk of that size may take.

        Raises `TemporaryError`: <code>Failed once the status begins with a hopeless word, <code>Timeout in the end.
        """
        deadline = time.monotonic() + STEP_TIMEOUT_S + size_bytes / _BYTES_PER_S
        while (status := self.session.run(look, doing=f"{doing} {what}")) != until:
            if status.startswith(hopeless):
                raise TemporaryError(f"{self.session.where}: {what} is {status}", cure=cure, code=f"{code}Failed")
            if time.monotonic() >= deadline:
                raise TemporaryError(f"{self.session.where}: {what} is still {status}", code=f"{code}Timeout")
            time.sleep(POLL_S)


def _name(vm: SourceVm, volume_id: str) -> str:
    return f"mtv-{vm.id}-{volume_id}"


def _named(cloud: Any, vm: SourceVm, volume_id: str) -> list[Any]:
    """Return all images of a volume at once: a page after one that has been deleted cannot be asked for."""
    return list(cloud.image.images(name=_name(vm, volume_id)))


def _marked(kind: str, vm: SourceVm, volume_ids: list[str], cloud: Any) -> list[tuple[str, int]]:
    """Return ids and sizes in bytes."""
    found = cloud.block_storage.volumes() if kind == "volume" else cloud.block_storage.snapshots()
    return [
        (entry.id, int(entry.size or 0) << 30)
        for entry in found
        if entry.metadata.get(SERVER_MARK) == vm.id and entry.metadata.get(_VOLUME_MARK) in volume_ids
    ]
