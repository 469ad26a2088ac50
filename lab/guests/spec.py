"""What a guest is to be: the values that an image is made from."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_DNS, uuid5


@dataclass(frozen=True)
class GuestSpec:
    """A guest's wishes; the same spec gives the same payload, and images are cached by it.

    Sizes are in MiB. `data_mb=0` means no data disk. `virtio` puts virtio drivers into the first initramfs, as if the
    guest had been converted. `full` leaves the root file system with about 4 MiB, too few for a conversion, until the
    guest makes room at its second boot. `encrypted` puts the root file system into LUKS and /boot on a partition of its
    own, which takes 144 MiB of `root_mb`.
    """

    hostname: str
    root_mb: int = 192
    payload_mb: int = 16
    data_mb: int = 0
    data_payload_mb: int = 20
    virtio: bool = False
    full: bool = False
    encrypted: bool = False
    address: str = "10.0.2.15/24"

    @property
    def root_uuid(self) -> str:
        """UUID of the root file system."""
        return str(uuid5(NAMESPACE_DNS, f"root.{self.hostname}.lab"))

    @property
    def boot_uuid(self) -> str:
        """UUID of the file system that GRUB reads: the root's, or that of /boot where the root is encrypted."""
        return str(uuid5(NAMESPACE_DNS, f"boot.{self.hostname}.lab")) if self.encrypted else self.root_uuid

    @property
    def luks_uuid(self) -> str:
        """UUID of the LUKS volume that holds an encrypted root."""
        return str(uuid5(NAMESPACE_DNS, f"luks.{self.hostname}.lab"))

    @property
    def luks_key(self) -> str:
        """The passphrase of an encrypted root."""
        return f"sesame of {self.hostname}"

    @property
    def data_uuid(self) -> str:
        """UUID of the data disk's file system."""
        return str(uuid5(NAMESPACE_DNS, f"data.{self.hostname}.lab"))
