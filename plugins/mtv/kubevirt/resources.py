"""The kinds of objects that mtv reads or makes on the target, and where the API serves them."""

from __future__ import annotations

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A resource of the Kubernetes API. `root` is the path of its group and version."""

    root: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the path of the collection, or of one object."""
        parts = [self.root] if self.root else []
        if self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/" + "/".join(parts)


NAMESPACES = Kind("api/v1", "namespaces", namespaced=False)
API_GROUPS = Kind("", "apis", namespaced=False)
NODES = Kind("api/v1", "nodes", namespaced=False)
PODS = Kind("api/v1", "pods")
SECRETS = Kind("api/v1", "secrets")
CONFIG_MAPS = Kind("api/v1", "configmaps")
CLAIMS = Kind("api/v1", "persistentvolumeclaims")
EVENTS = Kind("api/v1", "events")
SERVICE_ACCOUNTS = Kind("api/v1", "serviceaccounts")
STORAGE_CLASSES = Kind("apis/storage.k8s.io/v1", "storageclasses", namespaced=False)
CAPACITIES = Kind("apis/storage.k8s.io/v1", "csistoragecapacities", namespaced=False)
"""Those of all namespaces, to be listed only."""
STORAGE_PROFILES = Kind("apis/cdi.kubevirt.io/v1beta1", "storageprofiles", namespaced=False)
VIRTUAL_MACHINES = Kind("apis/kubevirt.io/v1", "virtualmachines")
INSTANCES = Kind("apis/kubevirt.io/v1", "virtualmachineinstances")
ALL_MACHINES = Kind("apis/kubevirt.io/v1", "virtualmachines", namespaced=False)
"""The same objects of all namespaces, to be listed only."""
ALL_INSTANCES = Kind("apis/kubevirt.io/v1", "virtualmachineinstances", namespaced=False)
KUBEVIRTS = Kind("apis/kubevirt.io/v1", "kubevirts", namespaced=False)
ATTACHMENTS = Kind("apis/k8s.cni.cncf.io/v1", "network-attachment-definitions")
LEASES = Kind("apis/coordination.k8s.io/v1", "leases")
QUOTAS = Kind("api/v1", "resourcequotas")
