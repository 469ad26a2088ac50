"""Everything that is created on the target cluster."""
