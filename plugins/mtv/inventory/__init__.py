"""What a source holds: snapshots as values and tables, and what drifted between two of them."""

from mtv.inventory.drift import drift, fingerprint
from mtv.inventory.snapshot import Snapshot, snapshot

__all__ = ["Snapshot", "drift", "fingerprint", "snapshot"]
