"""The target cluster: a real Kubernetes in one binary, with a small container runtime of our own."""
