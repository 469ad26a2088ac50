"""Opens the source that a spec names."""

from __future__ import annotations

from mover.control.controls import Controls
from mover.sources.base import Source
from mover.sources.disk_file import open_disk_file
from mover.sources.nbd import NbdSource
from mover.sources.ova import open_ova_member
from mtv.model.transfer import (
    DiskFile,
    DiskTransfer,
    GlanceImage,
    HttpRange,
    NbdUri,
    OvaMember,
    VsphereDatastore,
    VsphereNfc,
)


def open_source(disk: DiskTransfer, controls: Controls) -> Source:
    """The open source. Sessions and leases are shared between a VM's disks and belong to `controls`."""
    wanted = disk.source
    if isinstance(wanted, NbdUri):
        return NbdSource(wanted.uri)
    if isinstance(wanted, OvaMember):
        return open_ova_member(wanted, disk.size_bytes)
    if isinstance(wanted, DiskFile):
        return open_disk_file(wanted)
    # Imported here: HTTP and TLS take longer to load than a small local copy takes.
    if isinstance(wanted, HttpRange):
        from mover.sources.http_range import open_http_range

        return open_http_range(wanted, controls.credentials_dir, controls.ca_file())
    if isinstance(wanted, GlanceImage):
        return _open_glance(wanted, controls)
    if isinstance(wanted, VsphereDatastore):
        return _open_datastore(wanted, controls)
    return _open_nfc(wanted, controls, disk.size_bytes)


def _open_glance(wanted: GlanceImage, controls: Controls) -> Source:
    from mover.sources.glance import keystone_scope, open_glance

    ca_file = controls.ca_file()
    return open_glance(wanted, controls.keystone(keystone_scope(wanted, ca_file)), ca_file)


def _open_datastore(wanted: VsphereDatastore, controls: Controls) -> Source:
    from mover.sources.ranged import RangedSource
    from mover.sources.vsphere_datastore import DatastoreFile

    session = controls.vsphere(wanted.host, wanted.port, wanted.thumbprint, wanted.insecure)
    return RangedSource(DatastoreFile(wanted, session))


def _open_nfc(wanted: VsphereNfc, controls: Controls, size_bytes: int) -> Source:
    from mover.sources.vsphere_nfc import NfcSource

    session = controls.vsphere(wanted.host, wanted.port, wanted.thumbprint, wanted.insecure)
    return NfcSource(wanted, controls.nfc_lease(session, wanted.vm), session, size_bytes)
