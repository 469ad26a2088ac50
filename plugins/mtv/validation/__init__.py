"""Rule files to concerns, and the conditions that a plan must meet."""

from mtv.validation.acceptance import accepted
from mtv.validation.conditions import conditions, for_plan, for_vm, merged
from mtv.validation.documents import read_document
from mtv.validation.firing import BrokenExample, broken_examples
from mtv.validation.rules import Rule, RuleProblem, RuleSet, load_rules, require_rules
from mtv.validation.suite import Validation, evaluate, validate

__all__ = [
    "BrokenExample",
    "Rule",
    "RuleProblem",
    "RuleSet",
    "Validation",
    "accepted",
    "broken_examples",
    "conditions",
    "evaluate",
    "for_plan",
    "for_vm",
    "load_rules",
    "merged",
    "read_document",
    "require_rules",
    "validate",
]
