"""A disk of vSphere read with VMware's VDDK library, by nbdkit's vddk plugin. Snapshots of running VMs can be read.

The library is VMware's and closed: the user puts it into the mover's image or mounts it at `libdir`, with an nbdkit
that has the vddk plugin (Debian's has not). Our command, the way of the credentials and the meaning of errors are
tested with a stand-in for the plugin; nothing here was run against the library itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mover.control.controls import Controls
from mover.control.credentials import read_credential
from mover.geometry import Extent
from mover.sources.nbdkit import (
    RETRY_FILTER,
    RETRY_SETTINGS,
    Explanation,
    Nbdkit,
    NbdkitSource,
    secret_file,
    settings,
)
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError
from mtv.model.transfer import Vddk

_PORT = 443
"""The library's own choice."""
_VCENTER_READ = "2M"
"""Longer reads through a vCenter make its NFC service run out of memory when many disks are read at once."""
EXPLANATIONS = (
    Explanation(
        r"libvixDiskLib|libdir|could not load",
        PermanentError,
        "source-no-vddk",
        "mount VMware's VDDK library (vmware-vix-disklib-distrib) where the connection's libdir says",
    ),
    Explanation(
        r"incorrect user name or password|[Ll]ogin fail|Cannot complete login|NOT_AUTHENTICATED",
        ConnectionRefused,
        "source-login",
        "check user and password of the connection",
    ),
    Explanation(
        r"[Tt]humbprint|SSL|[Cc]ertificate",
        ConnectionRefused,
        "source-certificate",
        "give the SHA-1 thumbprint of the server's present certificate, in capitals with colons",
    ),
    Explanation(
        r"do not have access rights|[Ii]nsufficient permission|NoPermission|permission to perform",
        ConnectionRefused,
        "source-privilege",
        "grant VirtualMachine.Provisioning.DiskRandomRead, DiskRandomAccess and Datastore.Browse",
    ),
    Explanation(
        r"memory allocation failed|[Oo]ut of memory|INSUFFICIENT_RESOURCES|too many|[Nn]umber of NFC",
        TemporaryError,
        "source-busy",
        "the host's NFC service is at its limit: let fewer disks be read from it at once",
    ),
    Explanation(
        r"file was not found|FileNotFound|No such file|not a valid moref|managed object",
        PermanentError,
        "source-missing",
        "read the inventory again: the disk, snapshot or VM has moved or is gone",
    ),
    Explanation(
        r"file is locked|Failed to lock|locked by another|being used by another",
        PermanentError,
        "source-locked",
        "read a snapshot of the running VM, or power it off",
    ),
    Explanation(
        r"transport mode|[Tt]ransport.*not (?:supported|available)|None of the transports",
        PermanentError,
        "source-transport",
        "name transports that this pod can use, e.g. nbdssl:nbd, or none",
    ),
    Explanation(
        r"could not be contacted|connect to (?:the )?(?:host|server)|server refused connection|[Tt]ime.?out|"
        r"network (?:error|failure)|[Cc]onnection (?:lost|reset|refused)|server fault|lost connection",
        TemporaryError,
        "source-lost",
        "check host, ports 443 and 902 and the network policy; the copy resumes",
    ),
    Explanation(
        r"parameters? was invalid|invalid parameter",
        PermanentError,
        "source-refused",
        "check moref, disk path and thumbprint: VDDK does not say which of them it means",
    ),
)


class VddkSource(NbdkitSource):
    """A disk behind the library. What changed is not the library's to tell: vSphere itself is asked."""

    def __init__(self, where: Vddk, controls: Controls, *, plugin: Sequence[str]) -> None:
        self._disk = where
        self._controls = controls
        what = f"{where.file} of {where.vm} on {where.host}"
        super().__init__(Nbdkit(what, arguments(where, controls.credentials_dir, plugin=plugin), EXPLANATIONS))

    def changed_since(self, record: str) -> list[Extent]:
        """What vSphere's change tracking says, since the change id `record`."""
        from mover.control.changed_areas import ChangeTracking  # a copy needs no session beside the library's own

        where = self._disk
        session = self._controls.vsphere(where.host, where.port, where.thumbprint, insecure=False)
        return ChangeTracking(session, where.vm, where.disk_key, where.snapshot).since(record, self.size_bytes)


def open_vddk(where: Vddk, controls: Controls, *, plugin: Sequence[str] = ("vddk",)) -> VddkSource:
    """The open source. `plugin` is what to load instead of the vddk plugin: its name or path and its first words."""
    return VddkSource(where, controls, plugin=plugin)


def arguments(where: Vddk, credentials_dir: Path, *, plugin: Sequence[str] = ("vddk",)) -> list[str]:
    """Filters, plugin and settings for nbdkit; the password only by the name of its file."""
    size_limit, limit_settings = ((), {}) if where.esxi else (("--filter=blocksize",), {"maxdata": _VCENTER_READ})
    return [
        *size_limit,
        *RETRY_FILTER,
        "--filter=cacheextents",  # VDDK answers for one extent at a time, slowly
        *plugin,
        *settings(
            libdir=where.libdir,
            server=where.host,
            port="" if where.port == _PORT else str(where.port),
            user=read_credential(credentials_dir, "user"),
            password=f"+{secret_file(credentials_dir, 'password')}",
            thumbprint=where.thumbprint,
            vm=f"moref={where.vm}",
            snapshot=where.snapshot,
            transports=where.transports,
            file=where.file,
            **limit_settings,
            **RETRY_SETTINGS,
        ),
    ]
