"""A flat VMDK on a datastore, read by ranged GETs of the server's `/folder` URL with the session's cookie.

The VM is off, or the file is the base of a snapshot, so that it does not change.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mover.control.endpoint import Location
from mover.geometry import Extent
from mover.sources.ranged import RangedFile, RangedSource
from mtv.model.transfer import VsphereDatastore

if TYPE_CHECKING:
    from mover.control.vsphere import VsphereSession


class DatastoreSource(RangedSource):
    """A disk that is one file of a datastore."""

    def __init__(self, where: VsphereDatastore, session: VsphereSession) -> None:
        super().__init__(DatastoreFile(where, session))
        self._where = where
        self._session = session

    def changed_since(self, record: str) -> list[Extent]:
        """What vSphere's change tracking says, since the change id `record`."""
        from mover.control.changed_areas import ChangeTracking  # pyVmomi's types are needed for nothing else here

        where = self._where
        if not where.vm:
            return super().changed_since(record)
        return ChangeTracking(self._session, where.vm, where.disk_key, where.snapshot).since(record, self.size_bytes)


class DatastoreFile(RangedFile):
    """The file, and who lets us in."""

    # A host touches the times of its files for reasons of its own.
    has_validators = False
    cures: Mapping[int, str] = {
        401: "check that the user may browse the datastore",
        403: "grant the user Datastore.Browse",
        404: "read the inventory again: the disk has moved",
    }

    def __init__(self, where: VsphereDatastore, session: VsphereSession) -> None:
        query = urllib.parse.urlencode({"dcPath": where.datacenter, "dsName": where.datastore})
        path = f"/folder/{urllib.parse.quote(where.path.lstrip('/'))}?{query}"
        self.name = f"[{where.datastore}] {where.path}"
        self.location = Location(session.endpoint, path)
        self._session = session

    def credential(self) -> Mapping[str, str]:
        """The session's cookie."""
        return {"Cookie": self._session.cookie()}

    def renew(self, stale: Mapping[str, str]) -> Mapping[str, str]:
        """The cookie of a new session."""
        return {"Cookie": self._session.renew(stale["Cookie"])}
