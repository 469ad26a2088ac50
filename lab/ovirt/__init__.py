"""oVirt for the tests: the real ovirt-imageio daemon, and an engine in oVirt's own words in front of it."""
