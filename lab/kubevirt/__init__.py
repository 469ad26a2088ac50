"""KubeVirt in the lab: its real control plane, and a stand-in for its node part that really boots guests."""
