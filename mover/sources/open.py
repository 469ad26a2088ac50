"""Opens the source that a spec names."""

from __future__ import annotations

from mover.control.controls import Controls
from mover.sources.base import Source
from mover.sources.nbd import NbdSource
from mtv.model.transfer import (
    DiskFile,
    DiskTransfer,
    EsxiSsh,
    GlanceImage,
    HttpRange,
    ImageioDisk,
    NbdUri,
    OvaMember,
    OvirtDisk,
    Vddk,
    VsphereDatastore,
    VsphereNfc,
)


def open_source(disk: DiskTransfer, controls: Controls) -> Source:
    """The open source. Sessions and leases are shared between a VM's disks and belong to `controls`."""
    wanted = disk.source
    if isinstance(wanted, NbdUri):
        return NbdSource(wanted.uri)
    # The others are imported where they are used: their modules take longer to load than a small local copy takes.
    if isinstance(wanted, OvaMember):
        from mover.sources.ova import open_ova_member

        return open_ova_member(wanted, disk.size_bytes)
    if isinstance(wanted, DiskFile):
        from mover.sources.disk_file import open_disk_file

        return open_disk_file(wanted)
    if isinstance(wanted, EsxiSsh):
        from mover.sources.esxi_ssh import open_esxi_ssh

        return open_esxi_ssh(wanted, controls.credentials_dir)
    if isinstance(wanted, Vddk):
        from mover.sources.vddk import open_vddk

        return open_vddk(wanted, controls)
    if isinstance(wanted, VsphereDatastore | VsphereNfc):
        return _open_vsphere(wanted, controls, disk.size_bytes)
    return _open_web(wanted, controls)


def _open_vsphere(wanted: VsphereDatastore | VsphereNfc, controls: Controls, size_bytes: int) -> Source:
    session = controls.vsphere(wanted.host, wanted.port, wanted.thumbprint, wanted.insecure)
    if isinstance(wanted, VsphereDatastore):
        from mover.sources.vsphere_datastore import DatastoreSource

        return DatastoreSource(wanted, session)
    from mover.sources.vsphere_nfc import NfcSource

    return NfcSource(wanted, controls.nfc_lease(session, wanted.vm), session, size_bytes)


def _open_web(wanted: HttpRange | GlanceImage | ImageioDisk | OvirtDisk, controls: Controls) -> Source:
    if isinstance(wanted, HttpRange):
        from mover.sources.http_range import open_http_range

        return open_http_range(wanted, controls.credentials_dir, controls.ca_file())
    if isinstance(wanted, GlanceImage):
        from mover.sources.glance import keystone_scope, open_glance

        ca_file = controls.ca_file()
        return open_glance(wanted, controls.keystone(keystone_scope(wanted, ca_file)), ca_file)
    from mover.sources.imageio import ImageioSource

    return ImageioSource(controls.imageio_ticket(wanted))
