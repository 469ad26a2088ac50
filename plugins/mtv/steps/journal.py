"""Every step leaves its trace in the store: when it began, how it ended, and for a VM the failure as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from mtv.model.errors import MtvError
from mtv.model.evidence import EvidenceKind
from mtv.model.transfer import Failure
from mtv.steps.context import RunContext, VmContext
from mtv.store import NfcStreamsTaken

_MAX_ERROR = 2000


@contextmanager
def recorded(ctx: RunContext, step: str) -> Iterator[None]:
    """Record a step that runs in one go. An attempt that was cut off before is closed as failed first."""
    _close(ctx, step, "failed", "cut off: the worker ended without a word")
    step_id = ctx.store.begin_step(ctx.run.id, _vm_id(ctx), step)
    try:
        yield
    except BaseException as error:
        ctx.store.end_step(step_id, state="failed", error=_words(error))
        add_failure(ctx, step, error)
        raise
    ctx.store.end_step(step_id, state="success")


@contextmanager
def beginning(ctx: VmContext, step: str) -> Iterator[None]:
    """Record the first half of a pod step: it stays open until `ending`; an open attempt (re-attached) goes on.

    So does one that has to wait for others: waiting is no failure.
    """
    if not _open_attempts(ctx, step):
        ctx.store.begin_step(ctx.run.id, ctx.vm.id, step)
    try:
        yield
    except NfcStreamsTaken:
        raise
    except BaseException as error:
        _close(ctx, step, "failed", _words(error))
        add_failure(ctx, step, error)
        raise


@contextmanager
def ending(ctx: VmContext, step: str) -> Iterator[None]:
    """Record the second half of a pod step."""
    try:
        yield
    except BaseException as error:
        _close(ctx, step, "failed", _words(error))
        add_failure(ctx, step, error)
        raise
    _close(ctx, step, "success")


def skip(ctx: VmContext, step: str, why: str) -> None:
    """Close a pod step that has nothing to do."""
    ctx.log(f"{ctx.vm.name}: {step}: {why}")
    _close(ctx, step, "skipped", why)


def close_open(ctx: VmContext, why: str, *, but: str) -> None:
    """Close the VM's attempts that nobody will end any more: their worker is gone and their pods are being removed.

    That at the step `but` is the one that does it.
    """
    for row in ctx.store.open_steps(ctx.run.id, ctx.vm.id):
        if row.step != but:
            ctx.store.end_step(row.id, state="failed", error=why)


def _open_attempts(ctx: RunContext, step: str) -> list[int]:
    return [row.id for row in ctx.store.open_steps(ctx.run.id, _vm_id(ctx)) if row.step == step]


def _close(ctx: RunContext, step: str, state: Literal["success", "failed", "skipped"], error: str = "") -> None:
    for step_id in _open_attempts(ctx, step):
        ctx.store.end_step(step_id, state=state, error=error)


def add_failure(ctx: RunContext, step: str, error: BaseException) -> None:
    """Keep why a step did not do what it was asked for; of a VM only."""
    if not isinstance(ctx, VmContext):
        return
    if isinstance(error, MtvError):
        failure = Failure.of(error)
    else:
        failure = Failure(code=type(error).__name__, message=_words(error), retryable=not isinstance(error, Exception))
    document = {"step": step, **msgspec.to_builtins(failure)}
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.FAILURE, document, subject=step)


def _vm_id(ctx: RunContext) -> str:
    return ctx.vm.id if isinstance(ctx, VmContext) else ""


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:_MAX_ERROR]
