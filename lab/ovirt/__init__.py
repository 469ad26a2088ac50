"""oVirt for the tests: the real ovirt-imageio daemon, and as much of an engine as image transfers need."""
