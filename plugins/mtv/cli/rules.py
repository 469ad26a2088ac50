"""`mtv rules …`."""

from __future__ import annotations

import argparse

from mtv.cli.columns import printable
from mtv.cli.installation import Installation
from mtv.model.errors import PermanentError


def test(arguments: argparse.Namespace, installation: Installation) -> int:
    """Run the examples of every rule file of every provider; print what does not come out as said."""
    from mtv.validation import broken_examples, load_rules  # numpy and pandas, which other commands need not pay for

    folder = arguments.folder or installation.settings.rules_folder
    providers = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not providers:
        raise PermanentError(f"{folder} holds no rules", cure="set MTV_RULES_FOLDER, or give --folder")
    code = 0
    for provider in providers:
        rules = load_rules(folder, provider)
        found = [*rules.problems, *broken_examples(rules)]
        for problem in found:
            print(printable(problem))
        if found:
            code = 1
        examples = sum(len(documents) for rule in rules.rules for documents in rule.examples.values())
        without = [rule.id for rule in rules.rules if not any(rule.examples.values())]
        print(f"{provider}: {len(rules.rules)} rules, {examples} examples, {len(found)} problems")
        for rule_id in without:
            print(f"{provider}: rule {rule_id} has no example")
            code = 1
    return code
