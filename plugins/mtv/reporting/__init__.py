"""Evidence → reports."""

from __future__ import annotations

from mtv.reporting.facts import RunFacts, VmFacts
from mtv.reporting.html import headline
from mtv.reporting.reading import read_run
from mtv.reporting.write import ReportFiles, write_report

__all__ = ["ReportFiles", "RunFacts", "VmFacts", "headline", "read_run", "write_report"]
