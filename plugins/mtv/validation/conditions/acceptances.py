"""What a plan accepts and nobody ever says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mtv.model.condition import Condition
from mtv.model.near_names import nearest
from mtv.model.plan import Plan
from mtv.validation.conditions.case import warning
from mtv.validation.conditions.ids import CONDITION_IDS, PREFLIGHT, UNKNOWN_FACT
from mtv.validation.rules import load_rules


def unknown_acceptances(plan: Plan, folder: Path, beside: Sequence[Path] = ()) -> list[Condition]:
    """Return a condition for each id that the plan accepts and that is no rule's (of any provider) and no condition's.

    `folder` and `beside` hold the rules. A misspelt id accepts nothing, and the VM stays blocked.
    """
    wanted = {
        entry.id for entry in plan.accept_concerns if not entry.id.startswith((UNKNOWN_FACT, PREFLIGHT))
    } - CONDITION_IDS
    if not wanted:
        return []
    known = CONDITION_IDS | _rule_ids(folder, beside)
    return [_unknown(id_, known) for id_ in sorted(wanted - known)]


def _rule_ids(folder: Path, beside: Sequence[Path]) -> set[str]:
    providers = sorted(
        {place.name for one in (folder, *beside) if one.is_dir() for place in one.iterdir() if place.is_dir()}
    )
    return {rule.id for provider in providers for rule in load_rules(folder, provider, beside).rules}


def _unknown(id_: str, known: Collection[str]) -> Condition:
    near = nearest(id_, known)
    cure = f"Is it {near}?" if near else "Copy the id from `mtv validate`, the report or `mtv rules list`."
    return warning(
        "AcceptedConcernUnknown",
        "plan.accepted_concern_unknown",
        "NotKnown",
        f"The plan accepts {id_}, which no rule and no condition is called: it accepts nothing",
        cure,
    )
