"""What vSphere refuses, in our words: whether a retry helps, and what to do."""

from __future__ import annotations

import pytest
from pyVmomi import vim

from mtv.model.errors import PermanentError, TemporaryError
from mtv.providers.vmware.faults import translate


@pytest.mark.parametrize(
    "name",
    [
        "InsufficientResourcesFault",
        "InsufficientFailoverResourcesFault",
        "InsufficientCpuResourcesFault",
        "InsufficientMemoryResourcesFault",
        "InsufficientHostMemoryCapacityFault",
        "NoActiveHostInCluster",
        "NoCompatibleHost",
        "FileLocked",
        "InvalidState",
        "InvalidPowerState",
        "InvalidHostConnectionState",
        "MethodDisabled",
        "TaskInProgress",
    ],
)
def test_a_shortage_or_a_lock_is_tried_again(name):
    error = translate(getattr(vim.fault, name)(msg="no."), where="vCenter v", doing="power on web-1")
    assert isinstance(error, TemporaryError)
    assert error.code == name
    assert str(error).startswith(f"vCenter v: cannot power on web-1: {name}: no")


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("InsufficientFailoverResourcesFault", "free CPU and memory"),
        ("NoActiveHostInCluster", "free CPU and memory"),
        ("NoCompatibleHost", "free CPU and memory"),
        ("FileLocked", "lock"),
        ("MethodDisabled", "backup"),
        ("InvalidState", "state"),
    ],
)
def test_a_shortage_or_a_lock_says_what_to_do(name, cure):
    assert cure in translate(getattr(vim.fault, name)(), where="vCenter v", doing="power on web-1").cure


@pytest.mark.parametrize(
    "name",
    [
        "NumVirtualCpusExceedsLimit",
        "VmPowerOnDisabled",
        "EncryptionKeyRequired",
        "InvalidVmState",
        "InvalidDatastore",
    ],
)
def test_what_no_wait_mends_is_not_tried_again(name):
    assert isinstance(translate(getattr(vim.fault, name)(), where="vCenter v", doing="power on web-1"), PermanentError)
