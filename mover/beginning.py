"""How the copy of a disk begins: what its journal proves already, and a target that holds no more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mover.block_set import BlockSet
from mover.delta import NOTHING, Carried, carry_over, changed_extents
from mover.digest import ALGORITHM
from mover.feed import Patience
from mover.geometry import Extent
from mover.journal import Journal
from mover.journal_format import Header
from mover.ledger import Ledger
from mover.sources.base import Source
from mover.targets.base import Target
from mover.worklock import WorkLock
from mtv.model.transfer import DiskTransfer


class Begun(NamedTuple):
    """An open journal and what of it is proven: by earlier attempts (`resumed`), by the base of a delta (`carried`)."""

    journal: Journal
    ledger: Ledger
    resumed: BlockSet
    carried: Carried


def begin(
    disk: DiskTransfer,
    source: Source,
    target: Target,
    path: Path,
    lock: WorkLock,
    say: Callable[[str], None],
    patience: Patience,
) -> Begun:
    """Open the journal at `path`, moved on to the disk's generation where the spec gives a delta."""
    header = Header(
        identity=disk.identity,
        generation=" ".join(text for text in (disk.generation, source.generation) if text),
        size_bytes=disk.size_bytes,
        algorithm=ALGORITHM,
        target=target.mark,
        epoch=lock.epoch,
    )
    target.before_write = lock.check
    carried = NOTHING
    if disk.base_generation and target.is_intact:

        def changed() -> list[Extent]:
            return patience.persist(lambda: changed_extents(disk, source))

        carried = carry_over(path, header, disk.base_generation, changed, lock.check)
    distrust = "" if target.is_intact else "the target was cut or made anew"
    opened = Journal.open(path, header, prepare=target.prepare, distrust=distrust, check_lock=lock.check)
    if opened.restart_reason:
        say(f"an earlier copy is not resumed ({opened.restart_reason}): the copy starts from zero")
    ledger = Ledger(opened.journal, target, opened.replayed, check_lock=lock.check)
    resumed = ledger.proven()
    if carried.blocks:
        say(f"a delta: {ledger.digests.count - len(resumed)} of {ledger.digests.count} blocks are copied again")
    elif resumed:
        say(f"resuming: {len(resumed)} of {ledger.digests.count} blocks are proven by an earlier attempt")
    if opened.goes_on and target.holes_are_zeros:
        try:
            if cleared := ledger.clear_unproven():
                say(f"{cleared} bytes that are on the target but not proven are cleared")
        except BaseException:
            opened.journal.close()
            raise
    return Begun(opened.journal, ledger, resumed, carried)
