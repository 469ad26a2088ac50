"""Stand-in for a hypervisor: nova's own fake driver, which keeps power states and boots nothing."""
