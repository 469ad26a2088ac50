"""Stand-in for network agents: every port is bound at once on any host."""
