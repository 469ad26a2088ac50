"""What the two pod steps share: the request with its Secret, pods that still run, and the reading of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.labels import Role
from mtv.kubevirt.pods import PodRequest
from mtv.kubevirt.resources import PODS
from mtv.model.conversion import ConvertResult
from mtv.model.errors import NOT_UNDERSTOOD, MtvError, PermanentError, TemporaryError
from mtv.model.log_parts import WHOLE_RESULT
from mtv.model.transfer import SPEC_PATH, Failure, TransferResult
from mtv.steps import layout, pod_log
from mtv.steps.context import VmContext

__all__ = ["SPEC_FILE", "SPEC_PATH", "decode", "error_of", "live_pods", "request", "whole"]

SPEC_FILE = PurePosixPath(SPEC_PATH).name
Result = TypeVar("Result")
Whole = TypeVar("Whole", TransferResult, ConvertResult)


def request(ctx: VmContext, pod: dict[str, Any], files: Mapping[str, str]) -> PodRequest:
    """Return the request for a pod whose Secret bears the pod's own name."""
    return PodRequest(
        namespace=ctx.namespace,
        pod=pod,
        secret_name=pod["metadata"]["name"],
        secret_files=dict(files),
        connection_id=ctx.plan.target.connection,
    )


def live_pods(ctx: VmContext, cluster: Cluster, role: Role) -> list[str]:
    """Return the names of the VM's pods of a role that have not ended."""
    pods = cluster.find(PODS, ctx.namespace, layout.of_role(ctx, role))
    return [
        pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def decode(ctx: VmContext, step: str, termination_message: str, kind: type[Result]) -> Result:
    """Return the result that a pod left. Raises `TemporaryError` for none: the pod was ended from outside."""
    try:
        return msgspec.json.decode(termination_message.encode(), type=kind)
    except NOT_UNDERSTOOD as error:
        said = termination_message.strip()[:300]
        raise TemporaryError(
            f"{ctx.vm.name}: the {step} pod left no result" + (f" but: {said}" if said else ""),
            cure="it was evicted, killed or out of memory; the retry resumes from the journal",
            code="no-result",
        ) from error


def whole(ctx: VmContext, cluster: Cluster, role: Role, short: Whole) -> Whole:
    """Return the result of which the termination message had no room for all, from the log of the pod.

    Raises `TemporaryError` when the log has it no more.
    """
    found = pod_log.last_told(ctx, cluster, role, WHOLE_RESULT, type(short))
    if found is None or found.ok is not short.ok:
        raise TemporaryError(
            f"{ctx.vm.name}: the result is longer than the pod's termination message, and not in the pod's log",
            cure="see that nodes keep the logs of pods that have ended; the retry resumes from the journal",
            code="result-lost",
        )
    return found


def error_of(ctx: VmContext, step: str, failure: Failure | None) -> MtvError:
    """Return the failure as the error to raise: its kind says whether a retry helps."""
    if failure is None:
        return PermanentError(f"{ctx.vm.name}: {step} failed without a reason", code="failure-without-reason")
    where = f", disk {failure.disk}" if failure.disk else ""
    where += f" at byte {failure.offset}" if failure.offset is not None else ""
    kind = TemporaryError if failure.retryable else PermanentError
    return kind(
        f"{ctx.vm.name}{where}: {failure.message}",
        cure=failure.cure,
        code=failure.code,
        disk=failure.disk,
        offset=failure.offset,
    )
