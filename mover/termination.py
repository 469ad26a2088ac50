"""The result as a pod's termination message: at most 4096 bytes, still valid JSON of the same type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mtv.model.transfer import TransferResult

if TYPE_CHECKING:
    from mtv.model.conversion import ConvertResult, PreflightResult

MAX_BYTES = 4096
_TEXT_BYTES = 600


def termination_message(result: TransferResult | ConvertResult | PreflightResult) -> bytes:
    """The result, shortened if it must be: long texts first, then the least needed values.

    A transfer of very many disks keeps as many, whole, as fit and says how many were left out (`disks_left_out`), a
    conversion of them has no digests (`digests_left_out`); the full result is on the work volume, and in parts in the
    log.
    """
    message = msgspec.json.encode(result)
    if len(message) <= MAX_BYTES:
        return message
    if result.failure:
        failure = msgspec.structs.replace(
            result.failure, message=_cut(result.failure.message), cure=_cut(result.failure.cure)
        )
        result = msgspec.structs.replace(result, failure=failure)
    if not isinstance(result, TransferResult):
        return _without_the_least_needed(result)
    kept = len(result.disks)
    while True:
        short = msgspec.structs.replace(result, disks=result.disks[:kept], disks_left_out=len(result.disks) - kept)
        message = msgspec.json.encode(short)
        if len(message) <= MAX_BYTES or kept == 0:
            return message
        kept -= 1


def _without_the_least_needed(result: ConvertResult | PreflightResult) -> bytes:
    """Applications go first, then filesystems and the rest of the inspection, then codes, last sentences."""
    found = result.inspection
    if found:
        left_out = len(found.applications)
        found = msgspec.structs.replace(found, applications=(), applications_left_out=left_out)
        fewer = msgspec.structs.replace(found, filesystems=(), fstab_by_path=(), drive_letters={})
        for inspection in (found, fewer, None):
            result = msgspec.structs.replace(result, inspection=inspection)
            if len(message := msgspec.json.encode(result)) <= MAX_BYTES:
                return message
    from mtv.model.conversion import ConvertResult

    if isinstance(result, ConvertResult):
        result = msgspec.structs.replace(result, notices=())
        warnings = result.warnings
        while warnings and len(msgspec.json.encode(result)) > MAX_BYTES:
            warnings = warnings[:-1]
            result = msgspec.structs.replace(result, warnings=(*warnings, "more warnings are in the full result"))
    else:
        while result.notices and len(msgspec.json.encode(result)) > MAX_BYTES:
            result = msgspec.structs.replace(result, notices=result.notices[:-1])
    if isinstance(result, ConvertResult) and len(msgspec.json.encode(result)) > MAX_BYTES:
        result = msgspec.structs.replace(result, digests={}, digests_left_out=len(result.digests))
    return msgspec.json.encode(result)


def leaves_out_what_is_needed(result: TransferResult | ConvertResult | PreflightResult) -> bool:
    """Whether the message cannot say of every disk what became of it."""
    message = msgspec.json.decode(termination_message(result))
    return "disks_left_out" in message or "digests_left_out" in message


def leave_message(path: Path, result: TransferResult | ConvertResult | PreflightResult) -> None:
    """Write the termination message; the kubelet reads it when the container has ended."""
    path.write_bytes(termination_message(result))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_BYTES else text[:_TEXT_BYTES] + "…"
