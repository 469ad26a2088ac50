"""The result as a pod's termination message: at most 4096 bytes, still valid JSON of the same type."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mtv.model.transfer import ConvertResult, TransferResult

MAX_BYTES = 4096
_TEXT_BYTES = 600


def termination_message(result: TransferResult | ConvertResult) -> bytes:
    """The result, shortened if it must be: long texts first, then the least needed values.

    A transfer of very many disks keeps as many as fit and says how many were left out (`disks_left_out`);
    the full result is on the work volume.
    """
    message = msgspec.json.encode(result)
    if len(message) <= MAX_BYTES:
        return message
    if result.failure:
        failure = msgspec.structs.replace(
            result.failure, message=_cut(result.failure.message), cure=_cut(result.failure.cure)
        )
        result = msgspec.structs.replace(result, failure=failure)
    if isinstance(result, ConvertResult):
        warnings = result.warnings
        while warnings and len(msgspec.json.encode(result)) > MAX_BYTES:
            warnings = warnings[:-1]
            result = msgspec.structs.replace(result, warnings=(*warnings, "more warnings are in the full result"))
        return msgspec.json.encode(result)
    disks = tuple(msgspec.structs.replace(disk, source_digest="") for disk in result.disks)
    kept = len(disks)
    while True:
        short = msgspec.structs.replace(result, disks=disks[:kept], disks_left_out=len(disks) - kept)
        message = msgspec.json.encode(short)
        if len(message) <= MAX_BYTES or kept == 0:
            return message
        kept -= 1


def leave_message(path: Path, result: TransferResult | ConvertResult) -> None:
    """Write the termination message; the kubelet reads it when the container has ended."""
    path.write_bytes(termination_message(result))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_BYTES else text[:_TEXT_BYTES] + "…"
