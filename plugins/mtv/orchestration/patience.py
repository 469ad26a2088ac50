"""How long pods are waited for. It counts from what the cluster says of the pod, not from when a worker or a triggerer
began to look: one that is restarted again and again must not begin to wait anew each time. Only the cluster's silence
counts from when the triggerer last heard of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

END_TIMEOUT_S = 90.0
"""How long a pod may take to end: its grace period of 30 s, the container's end, and the node's report."""
START_TIMEOUT_S = 900.0
"""How long a pod may wait for a node, its volumes and its image."""
LONGEST_LIFE_S = 14 * 24 * 3600.0
"""How old a pod may grow before it counts as one that never ends."""
SILENCE_LIMIT_S = 600.0
"""How long the cluster may be silent towards the triggerer before the task itself has a look."""
ENDED = frozenset({"Succeeded", "Failed"})


def is_worth_watching(*, phase: str, created: datetime, deleted: datetime | None, now: datetime) -> bool:
    """Has the pod not ended, and may it still start, or end by itself? Every moment has a time zone.

    `deleted` is when a pod that is being deleted should be gone. One that is still there long after that stands on a
    node that does not answer, and runs for ever in the eyes of the cluster.
    """
    if phase in ENDED:
        return False
    if deleted is not None and now - deleted >= timedelta(seconds=END_TIMEOUT_S):
        return False
    limit_s = START_TIMEOUT_S if phase == "Pending" else LONGEST_LIFE_S
    return now - created < timedelta(seconds=limit_s)
