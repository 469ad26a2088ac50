"""`mtv runs`, with what an operator may decide of runs that Airflow has lost, and `mtv report`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mtv.cli.columns import paragraph, table
from mtv.cli.installation import Installation
from mtv.model.errors import PermanentError
from mtv.model.text import count_of, printable
from mtv.reporting import headline, read_run, words, write_report

if TYPE_CHECKING:
    from mtv.model.plan import Target
    from mtv.steps.by_hand import LetGo


def show(arguments: argparse.Namespace, installation: Installation) -> int:
    """List runs, the newest first."""
    with installation.store_to_read() as store:
        runs = [] if store is None else store.runs(arguments.plan)
    if not runs:
        print("no run yet" if store else f"no run yet: {installation.no_store()}")
        return 0
    rows = [
        (run.id, run.plan_name, run.wave, run.state, len(run.frozen_vms or ()), words.instant(run.started_at),
         words.duration((run.finished_at - run.started_at).total_seconds() if run.finished_at else None))
        for run in runs
    ]  # fmt: skip
    print(table(("RUN", "PLAN", "WAVE", "STATE", "VMS", "STARTED", "TIME"), rows, right=(4,)))
    return 0


def close(arguments: argparse.Namespace, installation: Installation) -> int:
    """Finish a run that Airflow has lost, and say what it holds."""
    from mtv.steps.by_hand import close_run

    with installation.store() as store:
        held = close_run(
            store, arguments.run, by=arguments.by, reason=arguments.reason, airflow_lost_it=arguments.airflow_lost_it
        )
        run = store.run(arguments.run)
        rows = [
            (row.vm_id, row.phase.value, _changed(len(store.open_source_changes(row.plan_name, row.vm_id))))
            for row in held
        ]
    print(f"run {run.id} of plan {run.plan_name}, wave {run.wave}: closed as {run.state}")
    if not rows:
        print("it holds no VM")
        return 0
    print(f"it holds {count_of(len(rows), 'VM')}, and nothing was done to them:")
    print(table(("VM", "PHASE", "SOURCE"), rows))
    print(paragraph(f"The next run of plan {run.plan_name} that has them in its wave settles them first."))
    return 0


def forget(arguments: argparse.Namespace, installation: Installation) -> int:
    """Let go of a VM that nobody can settle, and say what is left of it where."""
    from mtv.steps.by_hand import forget_vm

    with installation.store() as store:
        done = forget_vm(
            store, arguments.plan, arguments.vm, gone=arguments.gone, by=arguments.by, reason=arguments.reason
        )
        target = store.plan(done.run.plan_hash).target
        after = store.vm(arguments.plan, arguments.vm)
    print(f"{after.vm_id} of plan {after.plan_name}: run {done.run.id} holds it no more; it is {after.phase.value}")
    print("nothing was done to its source or its target; who has them has to see to this:")
    for line in _left(done, target):
        print(paragraph(printable(line), first="- ", rest="  "))
    return 0


def _left(done: LetGo, target: Target) -> Iterator[str]:
    """Yield what settling would have done and nobody did."""
    from mtv.kubevirt import labels, leases
    from mtv.steps.source import POWER

    for change in done.open_changes:
        name, where = change.detail.get("name", change.vm_id), change.detail.get("connection", "its source")
        when = f"by run {change.run_id} on {words.instant(change.recorded_at)}"
        if change.kind == POWER:
            yield f"{name} on {where} was shut down {when}: it is not started again"
        else:
            yield f"{name} on {where}: what was made there {when} is not removed ({change.kind})"
    row = done.before
    having = f"-l {labels.PLAN}={row.plan_name},{labels.VM}={row.vm_id}"
    yield (
        f"pods, Secrets, claims and VirtualMachines in namespace {target.namespace} of {target.connection} are not"
        f" removed, and none is stopped: {having}"
    )
    yield (
        f"the lease on its source in namespace {leases.NAMESPACE} of {target.connection} stays; runs of this store take"
        f" it over, another mtv needs it removed: kubectl delete lease -n {leases.NAMESPACE} {having}"
    )


def _changed(open_changes: int) -> str:
    return count_of(open_changes, "change") + " not undone" if open_changes else "as it was"


def report(arguments: argparse.Namespace, installation: Installation) -> int:
    """Write the report and print where it lies."""
    folder = arguments.folder or installation.settings.reports_folder
    with installation.store_to_read() as store:
        if store is None:
            raise PermanentError(
                f"there is no run yet: {installation.no_store()}",
                cure="start a wave's DAG in Airflow, or name its store: MTV_STATE_FOLDER, or the connection mtv_store",
            )
        run_id = arguments.run
        if run_id == "last":
            newest = store.runs(limit=1)
            if not newest:
                raise PermanentError("there is no run yet", cure="start a wave's DAG in Airflow")
            run_id = newest[0].id
        files = write_report(store, run_id, folder)
        print(headline(read_run(store, run_id)))
    for path in (files.html, files.csv, files.json):
        print(path)
    return 0
