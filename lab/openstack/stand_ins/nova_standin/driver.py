"""Nova's fake hypervisor, large, and with the traits that guests with Secure Boot and TPM ask for."""

from __future__ import annotations

import os_traits
from nova.virt import fake


class StandInDriver(fake.MediumFakeDriver):
    """A host on which everything fits."""

    capabilities = dict(fake.FakeDriver.capabilities, supports_secure_boot=True, supports_multiattach=True)
    vcpus, memory_mb, local_gb = 4000, 8_000_000, 8_000_000

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        """Announce the traits; without them the scheduler finds no host."""
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        names = [name for name in dir(os_traits) if name.startswith("COMPUTE_SECURITY_TPM")]
        provider_tree.add_traits(nodename, *(getattr(os_traits, name) for name in names))
