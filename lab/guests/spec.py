"""What a guest is to be: the values that an image is made from."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_DNS, uuid5


@dataclass(frozen=True)
class GuestSpec:
    """A guest's wishes; the same spec gives the same payload, and images are cached by it.

    Sizes are in MiB. `data_mb=0` means no data disk. `virtio` puts virtio drivers into the first initramfs, as if the
    guest had been converted. `full` leaves the root file system with about 4 MiB, too few for a conversion, until the
    guest makes room at its second boot.
    """

    hostname: str
    root_mb: int = 192
    payload_mb: int = 16
    data_mb: int = 0
    data_payload_mb: int = 20
    virtio: bool = False
    full: bool = False
    address: str = "10.0.2.15/24"

    @property
    def root_uuid(self) -> str:
        """UUID of the root file system."""
        return str(uuid5(NAMESPACE_DNS, f"root.{self.hostname}.lab"))

    @property
    def data_uuid(self) -> str:
        """UUID of the data disk's file system."""
        return str(uuid5(NAMESPACE_DNS, f"data.{self.hostname}.lab"))
