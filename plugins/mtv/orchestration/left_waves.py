"""Waves that have left the plans folder while they run: a file removed or renamed, a wave renamed or cut shorter.

Airflow never looks again at a run whose DAG is no longer drawn: its VMs would stand where they are, shut down and
unsettled. So the DAGs of such a wave, all of its parts, are drawn until it has ended; only the store knows when.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from airflow.sdk.exceptions import AirflowRuntimeError

from mtv.model.errors import MtvError
from mtv.orchestration.outline import Outline, OutlineFolder, outlines_of

if TYPE_CHECKING:
    from mtv.store import Store

STAYS = timedelta(days=1)
"""So long the DAGs stay when a run has ended: the following part may wait for its turn, a task may be cleared."""
_log = logging.getLogger(__name__)


def still_running(
    drawn: Iterable[Outline], folder: OutlineFolder, store: Callable[[], AbstractContextManager[Store]]
) -> list[Outline]:
    """Return the outlines of waves that run and are not among `drawn`; forget the others that have left.

    The store is asked only when a wave has left. While it does not answer, all of them stay.
    """
    left = folder.others_than({outline.dag_id for outline in drawn})
    if not left:
        return []
    begun = _begun(left, store)
    for outline in left:
        if begun is not None and outline.dag_id not in begun:
            folder.forget(outline.dag_id)
    return [_closed(outline) for outline in left if begun is None or outline.dag_id in begun]


def _begun(left: Sequence[Outline], store: Callable[[], AbstractContextManager[Store]]) -> set[str] | None:
    """Return the DAGs of all parts of those waves that run, as their runs have frozen them; None: nobody knows."""
    plans = {outline.plan for outline in left}
    try:
        with store() as opened:
            if not opened.is_made():
                return set()
            runs = [run for run in opened.runs_since(datetime.now(UTC) - STAYS) if run.plan_name in plans]
            waves = {(run.plan_hash, run.wave) for run in runs}
            return {
                outline.dag_id
                for plan_hash, wave in waves
                for outline in outlines_of(opened.plan(plan_hash), "", "")
                if outline.wave == wave
            }
    except (MtvError, AirflowRuntimeError) as trouble:  # it must not take the DAGs of all other plans away
        _log.warning("waves that have left the plans folder stay: the store cannot be asked: %s", trouble)
        return None


def _closed(outline: Outline) -> Outline:
    words = f"{outline.file} no longer has it: what runs goes on as it began, and no new run may start"
    return msgspec.structs.replace(outline, problems=(words,))
