"""`mtv rules …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mtv.cli.columns import table
from mtv.cli.installation import Installation
from mtv.model.errors import PermanentError
from mtv.model.near_names import nearest
from mtv.model.text import printable

if TYPE_CHECKING:
    from mtv.validation import RuleSet

# Documents judged at once: enough for the suite's own cost to be small beside that of the rules, and memory is bounded.
_BATCH = 2000
_STANDARD_INPUT = Path("-")


def show(arguments: argparse.Namespace, installation: Installation) -> int:
    """List the rules of all providers or of one; 1 when a rule file cannot be used."""
    from mtv.validation import load_rules

    folders = _folders(arguments, installation)
    providers = [arguments.provider] if arguments.provider else _providers(folders)
    if not providers:
        raise _no_rules(folders[0])
    sets = [load_rules(folders[0], provider, folders[1:]) for provider in providers]
    problems = dict.fromkeys(printable(problem) for rules in sets for problem in rules.problems)
    for problem in problems:
        print(f"mtv: {problem}", file=sys.stderr)
    found = [rule for rules in sets for rule in rules.rules]
    if not found:
        raise _no_rules(folders[0] / sets[0].provider, folders)
    rows = [(rule.category, rule.id, rule.label.text) for rule in found]
    print(table(("CATEGORY", "ID", "LABEL"), rows))
    return 1 if problems else 0


def test(arguments: argparse.Namespace, installation: Installation) -> int:
    """Run the examples of every rule file of every provider; print what does not come out as said."""
    from mtv.validation import broken_examples, load_rules  # numpy and pandas, which other commands need not pay for

    folders = _folders(arguments, installation)
    providers = _providers(folders)
    if not providers:
        raise _no_rules(folders[0])
    code = 0
    for provider in providers:
        rules = load_rules(folders[0], provider, folders[1:])
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


def evaluate(arguments: argparse.Namespace, installation: Installation) -> int:
    """Write for each line that is not blank, in its order, one JSON object with the concerns and the errors of it.

    What is wrong with rule files goes to standard error; the other rules are evaluated all the same.
    """
    from mtv.validation import load_rules

    folders = _folders(arguments, installation)
    rules = load_rules(folders[0], arguments.provider, folders[1:])
    for problem in rules.problems:
        print(f"mtv: {printable(problem)}", file=sys.stderr)
    if not rules.rules:
        raise _no_rules(folders[0] / rules.provider, folders)
    with _opened(arguments.path) as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        while batch := list(islice(numbered, _BATCH)):
            for answer in _answers(rules, batch):
                sys.stdout.write(answer.decode() + "\n")
    return 0


def _answers(rules: RuleSet, lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    from mtv.validation import evaluate as concerns_of
    from mtv.validation import read_document

    read = [read_document(line, number) for number, line in lines]
    documents = [document for document, _ in read if document is not None]
    concerns = iter(concerns_of(rules, documents))
    for document, errors in read:
        yield msgspec.json.encode({"concerns": [] if document is None else next(concerns), "errors": errors})


def _folders(arguments: argparse.Namespace, installation: Installation) -> tuple[Path, ...]:
    return (arguments.folder or installation.settings.rules_folder, *installation.settings.more_rules_folders)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == _STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}", cure="name a file of JSON Lines") from error
    with file:
        yield file


def _providers(folders: Sequence[Path]) -> list[str]:
    return sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()})


def _no_rules(folder: Path, folders: Sequence[Path] = ()) -> PermanentError:
    providers = _providers(folders)
    near = nearest(folder.name, providers)
    known = f"did you mean {near}? " if near else ""
    known += f"there are rules for {', '.join(providers)}; else " if providers else ""
    return PermanentError(f"{folder} holds no rules", cure=f"{known}set MTV_RULES_FOLDER, or give --folder")
