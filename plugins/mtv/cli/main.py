"""Arguments, exit codes, and errors in one line each."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mtv.cli.examples import EXAMPLES, SINCE
from mtv.cli.installation import Installation
from mtv.model.errors import PermanentError, TemporaryError

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_TRY_AGAIN = 0, 1, 2, 75

_EPILOG = """\
examples:
  mtv plan check include/plans            every plan of a folder; each problem on a line
  mtv plan show include/plans/01-first-wave.yaml
  mtv plan schema > plan.schema.json      for the editor
  mtv inventory lab-vcenter               what a source holds, and what changed; kept in the store
  mtv inventory diff lab-vcenter --since 2d
  mtv validate include/plans/01-first-wave.yaml
  mtv rules test                          run every rule's own examples
  mtv rules evaluate --provider vmware FILE.jsonl    what they say of given VMs
  mtv runs                                what has run
  mtv report RUN                          write a run's report and say where it lies
  mtv store upgrade                       after an upgrade of mtv, where no inventory or wave does it first

environment:
  MTV_CONNECTIONS_FILE   connections as `airflow connections export` writes them (mode 0600)
  MTV_STATE_FOLDER       store and reports, unless the connection mtv_store says otherwise (var/mtv)
  MTV_RULES_FOLDER       validation rules (include/validation_rules)
  MTV_MORE_RULES_FOLDERS rules of your own beside them (several folders separated as in PATH)

exit codes: 0 fine, 1 problems found or refused, 2 wrong arguments, 75 try again later
"""

Handler = Callable[[argparse.Namespace, Installation], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(with_default(sys.argv[1:] if argv is None else argv))
    try:
        code = handler(arguments.handler)(arguments, Installation.from_environ())
        sys.stdout.flush()
    except TemporaryError as error:
        return _complain(str(error), EXIT_TRY_AGAIN)
    except PermanentError as error:
        return _complain(str(error), EXIT_REFUSED)
    except BrokenPipeError:
        # The reader (`head`) has gone; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return code


def handler(name: str) -> Handler:
    """Return `module.function` of this package: what one command needs (SDKs, SQLAlchemy) is loaded for no other."""
    module, function = name.split(".")
    found: Handler = getattr(importlib.import_module(f"mtv.cli.{module}"), function)
    return found


def _complain(message: str, code: int) -> int:
    print(f"mtv: {message}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(
        prog="mtv",
        description="Migrate VMs to KubeVirt in batches.\nWaves run in Airflow; this command looks and checks.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=16),
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    plan = _group(commands, "plan", "check, show and approve plan files")
    check = _command(plan, "check", "plans.check", "say everything that is wrong with plans; exit 1 if anything is")
    check.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="a YAML or CSV plan, or a folder of them")
    show = _command(plan, "show", "plan_show.show", "show a plan's waves and VMs with every option decided")
    show.add_argument("path", type=Path, metavar="FILE")
    show.add_argument("--json", action="store_true", help="the plan as its model sees it")
    approve = _command(plan, "approve", "approvals.approve", "pin the VMs of waves as the newest inventory has them")
    approve.add_argument("path", type=Path, metavar="FILE")
    approve.add_argument("--wave", help="only this wave")
    approve.add_argument("--by", required=True, metavar="WHO", help="who approves")
    _command(plan, "schema", "plans.schema", "print the JSON Schema of the YAML form")

    report = _command(commands, "report", "runs.report", "write a run's report (HTML, CSV, JSON)")
    report.add_argument("run", metavar="RUN", help="a run's id, as `mtv runs` shows it, or `last`")
    report.add_argument("--folder", type=Path, help="where to (default: reports below MTV_STATE_FOLDER)")
    _runs(commands)

    store = _group(commands, "store", "bring the store up to date")
    upgrade = _command(store, "upgrade", "stores.upgrade", "make the store's tables, or bring them up to this version")
    upgrade.add_argument("--despite-runs", action="store_true", help="though runs are active that an older mtv began")

    _inventory(commands)
    validate = _command(
        commands, "validate", "sources.validate", "read a plan's VMs and say what rules find; changes nothing"
    )
    validate.add_argument("path", type=Path, metavar="FILE")
    validate.add_argument("--wave", help="only this wave")
    validate.add_argument("--json", action="store_true", help="the same as JSON, by VM and by concern")

    rule = _group(commands, "rules", "list and try validation rules")
    listing = _command(rule, "list", "rules.show", "list rules with the ids that accept_concerns takes")
    listing.add_argument("--provider", help="only rules of this folder, such as vmware or ova")
    test = _command(rule, "test", "rules.test", "run the examples that every rule file carries")
    evaluate = _command(
        rule, "evaluate", "rules.evaluate", "say what rules find in VM documents, one JSON object a line"
    )
    evaluate.add_argument("path", type=Path, metavar="FILE", help="JSON Lines; - is standard input")
    evaluate.add_argument("--provider", required=True, help="whose rules: a folder of them, such as vmware or ova")
    for command in (listing, test, evaluate):
        command.add_argument("--folder", type=Path, help="rules folder (default: MTV_RULES_FOLDER)")
    return top


_INVENTORY_COMMANDS = ("take", "show", "diff")


def with_default(argv: Sequence[str]) -> list[str]:
    """`mtv inventory SOURCE` is short for `mtv inventory take SOURCE`, which also serves a source called `show`.

    `mtv runs` is short for `mtv runs list`.
    """
    words = list(argv)
    if words[:1] == ["runs"] and (len(words) == 1 or words[1].startswith("--plan")):
        words.insert(1, "list")
    if words[:1] == ["inventory"] and len(words) > 1 and words[1] not in (*_INVENTORY_COMMANDS, "-h", "--help"):
        words.insert(1, "take")
    return words


def _runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    what = _group(commands, "runs", "list runs, and let go of what Airflow has lost")
    listing = _command(what, "list", "runs.show", "list runs, the newest first (the default)")
    listing.add_argument("--plan", help="only runs of this plan")
    close = _command(what, "close", "runs.close", "finish a run that Airflow has lost; its VMs stay as they are")
    close.add_argument("run", metavar="RUN", help="its id, as `mtv runs` shows it")
    close.add_argument("--airflow-lost-it", action="store_true", help="though its last trace is fresh or a step open")
    forget = _command(what, "forget", "runs.forget", "let go of a VM whose source or target is gone for good")
    forget.add_argument("plan", metavar="PLAN", help="the plan's name")
    forget.add_argument("vm", metavar="VM", help="the VM's id")
    forget.add_argument("--gone", required=True, choices=("source", "target", "both"), help="what is gone")
    for command in (close, forget):
        command.add_argument("--reason", required=True, metavar="WHY", help="kept as evidence")
        command.add_argument("--by", required=True, metavar="WHO", help="who decides it; kept, too")


def _inventory(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    top = commands.add_parser(
        "inventory",
        help="read what a source holds, keep it, say what changed",
        description="Read what a source holds, keep it, say what changed.",
        usage="mtv inventory [take] CONNECTION | show CONNECTION VM | diff CONNECTION",
        epilog=EXAMPLES["inventory"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = top.add_subparsers(required=True, metavar="CONNECTION, show or diff", prog="mtv inventory")
    take = _command(what, "take", "inventories.take", "read a source, keep what it holds and print it (the default)")
    show = _command(what, "show", "inventories.show", "show a VM as the newest inventory knows it")
    diff = _command(what, "diff", "inventories.diff", "say what changed between two moments")
    for command in (take, show, diff):
        command.add_argument("connection", metavar="CONNECTION", help="a connection of MTV_CONNECTIONS_FILE")
    take.add_argument("--vm", action="append", metavar="NAME", help="only this VM (may be repeated); nothing is kept")
    show.add_argument("vm", metavar="VM", help="its name")
    show.add_argument("--at", metavar="WHEN", help="as it was then; see --since of diff")
    for command in (take, show):
        command.add_argument("--json", action="store_true", help="everything that is known, as JSON")
    diff.add_argument("--since", default="last", metavar="WHEN", help=f"{SINCE} (default)")
    diff.add_argument("--until", metavar="WHEN", help="default: the newest inventory")


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    group = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return group.add_subparsers(required=True, metavar="WHAT")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, handler: str, what: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.epilog = EXAMPLES[command.prog.removeprefix("mtv ")]
    command.set_defaults(handler=handler)
    return command
