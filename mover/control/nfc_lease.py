"""An export lease (HttpNfcLease): opened, kept alive in the background, completed or aborted.

A VM has one lease for all its disks. It ends by itself when nobody reports progress for a few minutes.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from typing import Any, NamedTuple

import msgspec
from pyVmomi import vim, vmodl

from mover.control.endpoint import Endpoint, Location
from mover.control.keeper import Keeper
from mover.control.vsphere import CALL_LOST, VsphereSession
from mover.failure import stopped
from mover.halt import Halt
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

REPORT_EVERY_S = 20.0
READY_WITHIN_S = 600.0
_POLL_S = 0.5


class LeasedDisk(NamedTuple):
    """Where a lease offers a disk, and the thumbprint (SHA-1) of who serves it there, "" when none is told."""

    url: str
    thumbprint: str

    def location(self, vcenter: Endpoint) -> Location:
        """The server and how to know it. `vcenter` is whom the lease is from, and how that is trusted.

        An ESXi host has a certificate of its own. Which one, the lease says over a connection that is trusted already.
        """
        parts = urllib.parse.urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 443
        elsewhere = (host, port) != (vcenter.host.lower(), vcenter.port)
        if elsewhere and self.thumbprint and not vcenter.insecure:
            vcenter = msgspec.structs.replace(vcenter, thumbprint=self.thumbprint, told_by=vcenter.host)
        return Location(msgspec.structs.replace(vcenter, host=host, port=port), parts.path)


class NfcLease:
    """The lease of one VM, shared by the threads that read its disks. Whoever waits for it ends when `halt` goes up."""

    def __init__(self, session: VsphereSession, vm: str, halt: Halt, *, report_every_s: float = REPORT_EVERY_S) -> None:
        self.session = session
        self.vm = vm
        self._halt = halt
        self._lock = threading.Lock()
        self._lease: Any = None
        self._info: Any = None
        self._shares: dict[int, float] = {}
        self._stop = threading.Event()
        self._keeper = Keeper("nfc-lease", self._keep_alive, every_s=report_every_s, stop=self._stop)

    def disk(self, disk_key: int) -> LeasedDisk:
        """Where a disk can be read now; a lease that was lost is replaced by a new one."""
        try:
            with self._lock:
                if self._lease is None or not self._is_ready():
                    self._open()
                return self._find(disk_key)
        except vim.fault.NotAuthenticated:
            self.session.renew(self.session.cookie())
            raise TemporaryError("the vCenter session had ended", code="source-session") from None
        except vmodl.MethodFault as error:
            raise TemporaryError(f"export of {self.vm}: {_said(error)}", code="source-lease") from None
        except CALL_LOST as error:
            raise TemporaryError(f"export of {self.vm}: {type(error).__name__}", code="source-lost") from error

    def report(self, disk_key: int, share: float) -> None:
        """How far a disk is read, 0 to 1."""
        self._shares[disk_key] = share

    def close(self, *, well: bool) -> None:
        """Complete the lease if all went well, else abort it; a vCenter that is gone is left alone."""
        self._stop.set()
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            if well:
                lease.HttpNfcLeaseProgress(100)
                lease.HttpNfcLeaseComplete()
            else:
                lease.HttpNfcLeaseAbort()
        except (vmodl.MethodFault, *CALL_LOST):
            return  # it ends by its own timeout

    def _open(self) -> None:
        try:
            lease = self.session.managed(vim.VirtualMachine, self.vm).ExportVm()
        except vim.fault.NoPermission as error:
            raise ConnectionRefused(
                f"export of {self.vm}: the user lacks {error.privilegeId}", cure="grant it", code="source-privilege"
            ) from None
        except vim.fault.InvalidPowerState:
            raise PermanentError(
                f"{self.vm} is running, an export needs it off", cure="power it off first", code="source-powered-on"
            ) from None
        self._lease = lease
        deadline = time.monotonic() + READY_WITHIN_S
        while (state := str(lease.state)) != vim.HttpNfcLease.State.ready:
            if state == vim.HttpNfcLease.State.error:
                self._lease = None
                raise TemporaryError(f"export of {self.vm} failed: {_message(lease)}", code="source-lease")
            if self._halt.wait(_POLL_S):
                raise stopped(f"export of {self.vm}")
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"the export lease of {self.vm} was not ready in {READY_WITHIN_S:.0f} s", code="source-lease"
                )
        self._info = lease.info
        self._keeper.ensure_running()

    def _is_ready(self) -> bool:
        try:
            return str(self._lease.state) == str(vim.HttpNfcLease.State.ready)
        except (vmodl.MethodFault, *CALL_LOST):
            return False

    def _find(self, disk_key: int) -> LeasedDisk:
        """The lease names devices by controller and unit; simulators and some versions by the disk's key."""
        urls = [entry for entry in self._info.deviceUrl if entry.disk]
        devices = self.session.collect(vim.VirtualMachine, self.vm, "config.hardware.device") or []
        controllers = {device.key: device for device in devices if isinstance(device, vim.vm.device.VirtualController)}
        disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
        endings = {f"VirtualDisk:{disk_key}"}
        for disk in disks:
            if disk.key == disk_key and (controller := controllers.get(disk.controllerKey or 0)):
                name = type(controller).__name__.rpartition(".")[2]
                endings.add(f"{name}{controller.busNumber}:{disk.unitNumber}")
        for entry in urls:
            if entry.key.rpartition("/")[2] in endings:
                return self._leased(entry)
        position = next((number for number, disk in enumerate(disks) if disk.key == disk_key), None)
        if position is not None and len(urls) == len(disks):
            return self._leased(urls[position])
        raise PermanentError(
            f"the export of {self.vm} has no disk with key {disk_key}",
            cure="read the inventory again: the disk may have been removed",
            code="source-missing",
        )

    def _leased(self, entry: Any) -> LeasedDisk:
        url = str(entry.url).replace("://*", f"://{self.session.endpoint.host}")
        return LeasedDisk(url, str(entry.sslThumbprint or ""))

    def _keep_alive(self) -> None:
        lease, shares = self._lease, list(self._shares.values())
        if lease is None:
            return
        percent = int(100 * sum(shares) / len(shares)) if shares else 0
        try:
            lease.HttpNfcLeaseProgress(min(percent, 99))
        except vim.fault.NotAuthenticated:
            self._renew_session()
        except (vmodl.MethodFault, *CALL_LOST):
            return  # the stream breaks if the lease is gone, and its reader asks for a new one

    def _renew_session(self) -> None:
        try:
            self.session.renew(self.session.cookie())
            with self._lock:
                if self._lease is not None:
                    self._lease = self.session.managed(vim.HttpNfcLease, self._lease._moId)
        except MtvError:
            return  # reported by whoever reads next


def _said(fault: Any) -> str:
    return str(getattr(fault, "msg", "") or type(fault).__name__)


def _message(lease: Any) -> str:
    try:
        return str(lease.error.msg)
    except (AttributeError, vmodl.MethodFault, *CALL_LOST):
        return "no reason given"
