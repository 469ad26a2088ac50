"""Which areas of a disk changed since an earlier snapshot: vSphere's changed block tracking, page by page.

change id of the snapshot that was copied ─┐
snapshot that is copied now (none: the VM is off) ─┴─▶ QueryChangedDiskAreas(start) ─▶ areas of a part of the disk
                                                                    ▲ next part ─────────┘ up to the disk's end
"""

from __future__ import annotations

from typing import Any

from pyVmomi import vim, vmodl

from mover.control.vsphere import CALL_LOST, VsphereSession
from mover.failure import no_changes
from mover.geometry import Extent, merged
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

_UNTRACKED = (vim.fault.FileFault, vim.fault.NotFound, vmodl.fault.NotSupported)
_EVERYTHING = "*"
"""As a change id: all that is in use. No record of changes: areas that were given up are not among them."""


class ChangeTracking:
    """What vSphere notes of a disk of a VM. `snapshot` is the one that is read; "" for a VM that is off."""

    def __init__(self, session: VsphereSession, vm: str, disk_key: int, snapshot: str = "") -> None:
        self._session = session
        self._vm = vm
        self._disk_key = disk_key
        self._snapshot = snapshot
        self._name = f"disk {disk_key} of {vm}"

    def since(self, change_id: str, size_bytes: int) -> list[Extent]:
        """What may differ from the disk as it was when it had this change id. Raises `MtvError`."""
        if change_id in ("", _EVERYTHING):
            raise no_changes(f"{self._name}: {change_id!r} is no change id of a snapshot")
        found: list[Extent] = []
        position = 0
        while position < size_bytes:
            answer = self._ask(change_id, position)
            following = answer.startOffset + answer.length
            areas = [Extent(area.start, area.length) for area in answer.changedArea or ()]
            # A part that is left out, here or between two answers, would stay old on the target.
            outside = any(area.offset < position or area.end > following for area in areas)
            if answer.startOffset != position or following <= position or outside:
                raise TemporaryError(
                    f"{self._name}: vCenter was asked for changes from {position} on and told others",
                    code="source-protocol",
                )
            found += areas
            position = following
        return merged(found, size_bytes)

    def _ask(self, change_id: str, start: int) -> Any:
        session = self._session
        cookie = session.cookie()
        snapshot: Any = session.managed(vim.vm.Snapshot, self._snapshot) if self._snapshot else None
        vm = session.managed(vim.VirtualMachine, self._vm)
        try:
            return vm.QueryChangedDiskAreas(snapshot, self._disk_key, start, change_id)
        except vim.fault.NotAuthenticated:
            session.renew(cookie)
            raise TemporaryError("the vCenter session had ended", code="source-session") from None
        except vmodl.MethodFault as fault:
            raise self._refusal(fault, change_id) from None
        except CALL_LOST as error:
            raise TemporaryError(f"{self._name}: {type(error).__name__}", code="source-lost") from error

    def _refusal(self, fault: vmodl.MethodFault, change_id: str) -> MtvError:
        said = str(getattr(fault, "msg", "") or type(fault).__name__)
        if isinstance(fault, vim.fault.NoPermission):
            return ConnectionRefused(
                f"{self._name}: the user lacks {fault.privilegeId}", cure="grant it", code="source-privilege"
            )
        if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
            return PermanentError(
                f"{self._name}: {said}",
                cure="read the inventory again: the VM or its snapshot is gone",
                code="source-missing",
            )
        wrong = str(getattr(fault, "invalidProperty", "") or "")
        if wrong == "deviceKey":
            return PermanentError(
                f"{self._name}: {said}",
                cure="read the inventory again: the disk may have been removed",
                code="source-missing",
            )
        if wrong == "changeId":
            return no_changes(f"{self._name}: vSphere knows nothing of change id {change_id} (any more)")
        if wrong or isinstance(fault, _UNTRACKED):
            return no_changes(f"{self._name}: vSphere tells no changes: {said}")
        return TemporaryError(f"{self._name}: {said}", cure="see the tasks of the VM", code="source-busy")
