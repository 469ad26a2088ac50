"""Which rules fire for which documents, and with what words; all documents at once, no data frame needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

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
    concerns: dict[int, list[Concern]]


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
    tables = {table: Rows(documents, table) for table in {rule.table for rule in rules.rules}}
    return [_firing(rule, tables[rule.table], documents) for rule in rules.rules]


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
    firing = _firing(rule, Rows([document], rule.table), [document])
    return "fires" if firing.true[0] else "silent" if firing.known[0] else "undefined"


def _firing(rule: Rule, rows: Rows, documents: Sequence[Document]) -> Firing:
    result = truth(rule.condition, rows)
    fires = result.true
    if rule.unless is not None:
        fires = fires & ~truth(rule.unless, rows).true
    concerns: dict[int, list[Concern]] = {}
    for row in np.flatnonzero(fires):
        concern = _concern(rule, rows, int(row))
        if concern is not None:
            said = concerns.setdefault(int(rows.owner[row]), [])
            if concern not in said:  # concerns are a set of whole objects
                said.append(concern)
    true = np.zeros(len(documents), dtype=np.bool_)
    true[list(concerns)] = True
    known = true.copy()
    # A row that fires but whose text lacks an attribute says nothing: as undefined as a missing attribute elsewhere.
    known[rows.owner[result.known & ~fires]] = True
    # An empty list is known to hold nothing wrong.
    known |= rows.listed & (np.bincount(rows.owner, minlength=len(documents)) == 0)
    return Firing(rule, true, known, concerns)


def _concern(rule: Rule, rows: Rows, row: int) -> Concern | None:
    label = rule.label.render(lambda parts: rows.value(row, parts))
    assessment = rule.assessment.render(lambda parts: rows.value(row, parts))
    if label is None or assessment is None:
        return None
    return Concern(id=rule.id, category=rule.category, label=label, assessment=assessment)
