"""vSphere: pyVmomi, reading by PropertyCollector only."""
