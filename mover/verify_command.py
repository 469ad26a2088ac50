"""`mtv-mover verify`: what lies on a target now, block by block, against what the journal of its copy says."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from mover.digest import ALGORITHM
from mover.events import Events
from mover.failure import EXIT_OK, EXIT_PERMANENT, EXIT_TEMPORARY, exit_code_of, failure_of
from mover.geometry import block_extent, merged
from mover.halt import Halt
from mover.journal import read_journal
from mover.measure import open_from_medium, read_digests
from mover.progress import DiskMeter, Reporter
from mover.sources.raw import RawSource
from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.transfer import Failure

_TOLD_MISMATCHES = 100


class VerifyResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found. `blocks_unproven` are those that the journal does not vouch for; `digest` is the journal's root
    digest, given if all blocks are proven and right.
    """

    ok: bool
    target: str
    size_bytes: int = 0
    blocks_checked: int = 0
    blocks_different: int = 0
    blocks_unproven: int = 0
    digest: str = ""
    seconds: float = 0.0
    failure: Failure | None = None


class _Difference(NamedTuple):
    offset: int
    length: int
    expected: str
    found: str


def verify(arguments: argparse.Namespace, events: Events, halt: Halt) -> int:
    """Compare; returns the exit code. The result is the last thing said."""
    result = VerifyResult(ok=False, target=str(arguments.target))
    try:
        result = _Verification(arguments.target, arguments.journal, events, halt).run()
        code = EXIT_PERMANENT if result.blocks_different else EXIT_TEMPORARY if result.blocks_unproven else EXIT_OK
    except MtvError as error:
        failure = failure_of(error)
        events.error(failure)
        result = msgspec.structs.replace(result, failure=failure)
        code = exit_code_of(failure)
    events.end(result, _sentence(result))
    return code


class _Verification:
    def __init__(self, target: Path, journal: Path, events: Events, halt: Halt) -> None:
        self.target = target
        self.header, (self.digests, self.proven, *_) = read_journal(journal)
        if self.header.algorithm != ALGORITHM:
            raise PermanentError(
                f"{journal} is of the scheme {self.header.algorithm}, this mover knows {ALGORITHM}",
                cure="use the mover that made the copy",
                code="journal",
            )
        if self.header.spoiled:
            raise PermanentError(
                f"{journal} no longer says what {target} holds: {self.header.spoiled}",
                cure="compare its root digest (mtv-mover digest) with the conversion's result",
                code="journal",
            )
        self.events = events
        self.halt = halt
        self.meter = DiskMeter(target.name)
        self.differences: list[_Difference] = []

    def run(self) -> VerifyResult:
        began = time.monotonic()
        source = open_from_medium(self.target, size_bytes=self.header.size_bytes)
        try:
            with Reporter(self.events, [self.meter]):
                self._compare(source)
        finally:
            source.close()
        for difference in self.differences[:_TOLD_MISMATCHES]:
            self.events.log(
                f"the block at {difference.offset} ({difference.length} bytes) differs: the journal says"
                f" {difference.expected}, the target has {difference.found}",
                disk=self.target.name,
            )
        unproven = self.digests.count - sum(self.proven)
        ok = not self.differences and not unproven
        return VerifyResult(
            ok=ok,
            target=str(self.target),
            size_bytes=self.header.size_bytes,
            blocks_checked=sum(self.proven),
            blocks_different=len(self.differences),
            blocks_unproven=unproven,
            digest=self.digests.root() if ok else "",
            seconds=round(time.monotonic() - began, 3),
        )

    def _compare(self, source: RawSource) -> None:
        proven = [index for index, flag in enumerate(self.proven) if flag]
        extents = [block_extent(index, self.header.size_bytes) for index in proven]
        self.meter.enter("verify", total=sum(extent.length for extent in extents))
        found = read_digests(
            source, merged(extents, self.header.size_bytes), self.halt, complain=self.events.log, count=self.meter.add
        )
        if self.halt.is_set():
            raise TemporaryError("stopped on request", cure="start it again", code="interrupted")
        self.differences = [
            _Difference(where.offset, where.length, self.digests[index].hex(), found[index].hex())
            for index, where in zip(proven, extents, strict=True)
            if found[index] != self.digests[index]
        ]
        self.meter.enter("done", total=self.header.size_bytes, done=self.header.size_bytes)


def _sentence(result: VerifyResult) -> str:
    if result.failure:
        return f"{result.target}: not verified"
    if result.ok:
        return f"{result.target}: all {result.blocks_checked} blocks are right; root digest {result.digest}"
    return (
        f"{result.target}: {result.blocks_different} of {result.blocks_checked} blocks differ,"
        f" {result.blocks_unproven} were never proven"
    )
