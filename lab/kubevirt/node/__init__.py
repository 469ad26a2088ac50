"""Stand-in for virt-handler on the lab's one node.

It does what the control plane expects of the real one: labels and devices of the node, a heartbeat, the handing over
of instances to their launcher pods, and the instances' status. It has no migration, hotplug, pause or guest agent.
"""
