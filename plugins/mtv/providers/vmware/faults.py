"""vSphere's faults in our words: what failed, where, what to do, and whether a retry helps."""

from __future__ import annotations

from pyVmomi import vim, vmodl

from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

_FREE_RESOURCES = "free CPU and memory in the cluster, or bring hosts back, and let it be tried again"
_AWAIT_STATE = "look at the state of the VM and of its host in vCenter; it is tried again"

# Faults that no wait mends, although they are kinds of those that pass.
_LASTING = (
    vim.fault.EncryptionKeyRequired,
    vim.fault.InvalidVmState,
    vim.fault.NumVirtualCpusExceedsLimit,
    vim.fault.VmPowerOnDisabled,
)

# What somebody may give or let go meanwhile, and how. A source that must run again after a rollback is off until then.
_SHORTAGES: tuple[tuple[type[vmodl.MethodFault], str], ...] = (
    (vim.fault.InsufficientStorageSpace, "free space on the VM's datastore, and let it be tried again"),
    (vim.fault.InsufficientResourcesFault, _FREE_RESOURCES),
    (vim.fault.NoActiveHostInCluster, _FREE_RESOURCES),
    (vim.fault.NoCompatibleHost, _FREE_RESOURCES),
    (vim.fault.FileLocked, "find who holds the lock on the VM's files, such as a backup or another host"),
    (vim.fault.MethodDisabled, "wait for the product that disabled it, mostly a backup, or end its task in vCenter"),
    (vim.fault.QuestionPending, "answer the question that vCenter asks about the VM"),
    (vim.fault.InvalidState, _AWAIT_STATE),
)

# Faults that pass by themselves: something else holds the object, or vCenter is busy.
_PASSING = (
    vim.fault.TaskInProgress,
    vim.fault.ResourceInUse,
    vim.fault.ConcurrentAccess,
    vim.fault.HostConnectFault,
    vim.fault.Timedout,
    vmodl.fault.HostCommunication,
    vmodl.fault.SystemError,
    vmodl.fault.RequestCanceled,
)


def translate(fault: Exception, *, where: str, doing: str) -> MtvError:
    """Return the error to raise for a fault or a broken connection.

    `where` names host and connection, `doing` what was asked ("power off web-1").
    """
    # NotAuthenticated is a kind of NoPermission in vSphere's tree, so it comes first.
    if isinstance(fault, vim.fault.NotAuthenticated):
        return TemporaryError(f"{where}: the session ended while it was to {doing}", code="SessionExpired")
    if isinstance(fault, vim.fault.NoPermission):
        return ConnectionRefused(
            f"{where}: the user may not {doing}: privilege {_privilege(fault)} is missing on {_object(fault)}",
            cure="grant the privilege to the user of the connection",
            code="PrivilegeMissing",
        )
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
        return PermanentError(
            f"{where}: cannot {doing}: {_object(fault)} no longer exists",
            cure="take the inventory again",
            code="ObjectGone",
        )
    if isinstance(fault, vmodl.MethodFault):
        name = type(fault).__name__.rsplit(".", 1)[-1]
        message = f"{where}: cannot {doing}: {name}: {_text(fault)}"
        if isinstance(fault, _PASSING):
            return TemporaryError(message, code=name)
        cure = next((cure for kind, cure in _SHORTAGES if isinstance(fault, kind)), "")
        if not cure or isinstance(fault, _LASTING):
            return PermanentError(message, code=name)
        return TemporaryError(message, cure=cure, code=name)
    return TemporaryError(f"{where}: cannot {doing}: {type(fault).__name__}: {fault}", code="Unreachable")


def _privilege(fault: vim.fault.NoPermission) -> str:
    if fault.privilegeId:
        return str(fault.privilegeId)
    missing = [privilege for entry in fault.missingPrivileges or [] for privilege in entry.privilegeIds or []]
    return ", ".join(missing) or "(not named by vCenter)"


def _object(fault: vmodl.MethodFault) -> str:
    # The objects of a fault are references; only their ids are asked here, never a property.
    reference = getattr(fault, "object", None) or getattr(fault, "obj", None)
    return str(reference._GetMoId()) if reference is not None else "an object"


def _text(fault: vmodl.MethodFault) -> str:
    return str(getattr(fault, "msg", None) or "").strip().rstrip(".") or "no further word from vCenter"
