"""Write a run's report: HTML for people, CSV for spreadsheets, JSON for machines."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mtv.model.errors import PermanentError
from mtv.model.whole_files import write_whole
from mtv.reporting.html import as_html
from mtv.reporting.reading import read_run
from mtv.reporting.tables import as_csv, as_json
from mtv.store import Store


class ReportFiles(msgspec.Struct, frozen=True):
    """Where the three forms of a report lie."""

    html: Path
    csv: Path
    json: Path


def write_report(store: Store, run_id: str, folder: Path) -> ReportFiles:
    """Write the report of a run into `<folder>/<run id>/`, over an older one of the same run; return the files.

    Raises `NotFound` for an unknown run, `PermanentError` when the folder cannot be written.
    """
    facts = read_run(store, run_id)
    files = ReportFiles(*(folder / run_id / f"report.{suffix}" for suffix in ("html", "csv", "json")))
    # The byte order mark makes spreadsheets read the CSV as UTF-8.
    contents = (as_html(facts).encode(), as_csv(facts).encode("utf-8-sig"), as_json(facts))
    try:
        files.html.parent.mkdir(parents=True, exist_ok=True)
        for path, content in zip((files.html, files.csv, files.json), contents, strict=True):
            write_whole(path, content)
    except OSError as error:
        raise PermanentError(
            f"the report cannot be written to {folder}: {error.strerror}", cure="check MTV_STATE_FOLDER"
        ) from error
    return files
