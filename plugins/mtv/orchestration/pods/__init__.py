"""Steps that run in a pod beside the target volumes: operator, trigger, and how both speak to the cluster."""
