"""Step transfer."""

from __future__ import annotations

from mtv.kubevirt.pods import PodRequest
from mtv.steps.context import VmContext


def pod_request(ctx: VmContext) -> PodRequest | None:
    """Return the pod to run, or None when nothing is left to do (then the step is done and `finish` is not called)."""
    raise NotImplementedError


def finish(ctx: VmContext, termination_message: str) -> None:
    """Read the pod's result. Raises `TemporaryError` or `PermanentError` when it failed."""
    raise NotImplementedError
