"""`mtv runs` and `mtv report`."""

from __future__ import annotations

import argparse

from mtv.cli.columns import table
from mtv.cli.installation import Installation
from mtv.model.errors import PermanentError
from mtv.reporting import headline, read_run, words, write_report


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
