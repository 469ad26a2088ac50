"""Opens the source that a spec names."""

from __future__ import annotations

from mover.control.controls import Controls
from mover.sources.base import Source
from mover.sources.nbd import NbdSource
from mtv.model.transfer import DiskTransfer, EsxiSsh, ImageioDisk, NbdUri, OvaMember, OvirtDisk, Vddk, VsphereDatastore


def open_source(disk: DiskTransfer, controls: Controls) -> Source:
    """The open source. Sessions and leases are shared between a VM's disks and belong to `controls`."""
    wanted = disk.source
    if isinstance(wanted, NbdUri):
        return NbdSource(wanted.uri)
    # The others are imported where they are used: their modules take longer to load than a small local copy takes.
    if isinstance(wanted, OvaMember):
        from mover.sources.ova import open_ova_member

        return open_ova_member(wanted, disk.size_bytes)
    if isinstance(wanted, EsxiSsh):
        from mover.sources.esxi_ssh import open_esxi_ssh

        return open_esxi_ssh(wanted, controls.credentials_dir)
    if isinstance(wanted, Vddk):
        from mover.sources.vddk import open_vddk

        return open_vddk(wanted, controls.credentials_dir)
    if isinstance(wanted, ImageioDisk | OvirtDisk):
        from mover.sources.imageio import ImageioSource

        return ImageioSource(controls.imageio_ticket(wanted))
    from mover.sources.vsphere_datastore import DatastoreSource
    from mover.sources.vsphere_nfc import NfcSource

    if isinstance(wanted, VsphereDatastore):
        return DatastoreSource(wanted, controls.vsphere(wanted.host, wanted.port, wanted.thumbprint, wanted.insecure))
    session = controls.vsphere(wanted.host, wanted.port, wanted.thumbprint, wanted.insecure)
    return NfcSource(wanted, controls.nfc_lease(session, wanted.vm), session, disk.size_bytes)
