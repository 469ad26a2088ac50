"""OpenStack's own services, run from their published packages: keystone, glance, cinder, nova, neutron, placement."""
