"""Which rules fire for which documents, and with what words; all documents at once, no data frame needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtv.model.concern import Concern
from mtv.validation.language.columns import Bools, Rows
from mtv.validation.language.evaluation import truth
from mtv.validation.rules import OUTCOMES, Outcome, Rule, RuleSet

Document = Mapping[str, Any]


class Firing(NamedTuple):
    """What one rule says of each document: `true` where it fires, else false where `known`, else undefined.

    `concerns` has an entry for each document where it fires: distinct concerns in the order of the rows.
    """

    rule: Rule
    true: Bools
    known: Bools
    concerns: Mapping[int, Sequence[Concern]]


class BrokenExample(NamedTuple):
    """An example that did not come out as its rule file says."""

    rule: Rule
    expected: Outcome
    seen: Outcome
    document: Document

    def __str__(self) -> str:
        return f"{self.rule.file}: {self.rule.id}: expected {self.expected}, saw {self.seen} for {dict(self.document)}"


def firings(rules: RuleSet, documents: Sequence[Document]) -> list[Firing]:
    """Evaluate all rules over all documents."""
    vms = Rows(documents)
    tables = {table: vms.table(table) for table in {rule.table for rule in rules.rules}}
    return [_firing(rule, tables[rule.table], len(documents)) for rule in rules.rules]


def broken_examples(rules: RuleSet) -> list[BrokenExample]:
    """Run the examples of all rules and return those that do not come out as said."""
    broken: list[BrokenExample] = []
    for rule in rules.rules:
        for expected in OUTCOMES:
            for document in rule.examples[expected]:
                seen = outcome(rule, document)
                if seen != expected:
                    broken.append(BrokenExample(rule, expected, seen, document))
    return broken


def outcome(rule: Rule, document: Document) -> Outcome:
    """Return what a rule does with one document."""
    firing = _firing(rule, Rows([document]).table(rule.table), 1)
    return "fires" if firing.true[0] else "silent" if firing.known[0] else "undefined"


def _firing(rule: Rule, rows: Rows, count: int) -> Firing:
    result = truth(rule.condition, rows)
    fires = result.true
    if rule.unless is not None:
        fires = fires & ~truth(rule.unless, rows).true
    concerns = _concerns(rule, rows, np.flatnonzero(fires))
    true = np.zeros(count, dtype=np.bool_)
    true[list(concerns)] = True
    known = true | rows.empty  # an empty list is known to hold nothing wrong
    # A row that fires but whose text lacks an attribute says nothing: as undefined as a missing attribute elsewhere.
    known[rows.owner[result.known & ~fires]] = True
    return Firing(rule, true, known, concerns)


def _concerns(rule: Rule, rows: Rows, fired: npt.NDArray[np.intp]) -> Mapping[int, Sequence[Concern]]:
    """Return what a rule says of each document by the rows where it fires."""
    owners = rows.owner[fired].tolist()
    if rule.label.is_plain and rule.assessment.is_plain:  # the same words for all
        said = Concern(id=rule.id, category=rule.category, label=rule.label.text, assessment=rule.assessment.text)
        return dict.fromkeys(owners, (said,))
    concerns: dict[int, list[Concern]] = {}
    for owner, row in zip(owners, fired.tolist(), strict=True):
        concern = _concern(rule, rows, row)
        if concern is not None and concern not in concerns.setdefault(owner, []):  # a set of whole objects
            concerns[owner].append(concern)
    return concerns


def _concern(rule: Rule, rows: Rows, row: int) -> Concern | None:
    label = rule.label.render(lambda parts: rows.value(row, parts))
    assessment = rule.assessment.render(lambda parts: rows.value(row, parts))
    if label is None or assessment is None:
        return None
    return Concern(id=rule.id, category=rule.category, label=label, assessment=assessment)
