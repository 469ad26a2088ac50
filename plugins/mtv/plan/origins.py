"""From a place in the plan model back to the file, line and column it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mtv.plan.csv_reader import Sheet, SheetRow
from mtv.plan.problems import Problem
from mtv.plan.yaml_reader import Path, YamlDocument

Where = tuple[str, int, int]


class VmOrigin(Protocol):
    """Where one VM was written."""

    def where(self, loc: Path, *, key: bool) -> Where:
        """Return file, line and column of a field of the VM (`()`: of the VM itself)."""
        ...


class YamlVm:
    """A VM written in YAML."""

    __slots__ = ("document", "path")

    def __init__(self, document: YamlDocument, path: Path) -> None:
        self.document = document
        self.path = path

    def where(self, loc: Path, *, key: bool) -> Where:
        """Return the place of a key or value below the VM."""
        return (self.document.file, *self.document.place((*self.path, *loc), key=key))


class SheetVm:
    """A VM written as a row; nested fields are columns with a dot."""

    __slots__ = ("row", "sheet")

    def __init__(self, sheet: Sheet, row: SheetRow) -> None:
        self.sheet = sheet
        self.row = row

    def where(self, loc: Path, *, key: bool) -> Where:  # noqa: ARG002  a cell has no key of its own
        """Return the place of the cell; a whole VM, or a field without a column, is its cell `vm`."""
        column = ".".join(str(part) for part in loc)
        return (self.sheet.file, *self.sheet.place(self.row, column if column in self.sheet.columns else "vm"))


class Origins:
    """The places of one plan. Waves and VMs are found by their index in the model."""

    def __init__(self, file: str, document: YamlDocument | None) -> None:
        self.file = file
        self.document = document
        self.wave_paths: list[Path] = []
        self.vms: list[list[VmOrigin]] = []
        self.cells: dict[Path, Where] = {}
        """Plan-level fields that were written as cells of a CSV."""

    def where(self, loc: Sequence[str | int], *, key: bool = False) -> Where:
        """Return file, line and column for a location in the model, or of the nearest thing around it."""
        path = tuple(loc)
        if path in self.cells:
            return self.cells[path]
        if len(path) >= 2 and path[0] == "waves" and isinstance(path[1], int) and path[1] < len(self.vms):
            return self._in_wave(path[1], path[2:], key)
        if self.document is not None:
            return (self.document.file, *self.document.place(path, key=key))
        return (self.file, 1, 1)

    def _in_wave(self, wave: int, rest: Path, key: bool) -> Where:
        if len(rest) >= 2 and rest[0] == "vms" and isinstance(rest[1], int):
            return self.vms[wave][rest[1]].where(rest[2:], key=key)
        path = self.wave_paths[wave]
        if self.document is not None and path in self.document.values_at:
            if rest in {(), ("name",)}:
                return (self.document.file, *self.document.place(path, key=True))
            return (self.document.file, *self.document.place((*path, *rest), key=key))
        if self.vms[wave]:  # the wave exists only as rows
            return self.vms[wave][0].where(("wave",), key=False)
        return (self.file, 1, 1)

    def problem(self, loc: Sequence[str | int], message: str, cure: str = "", *, key: bool = False) -> Problem:
        """Make a problem about a location in the model."""
        return Problem(*self.where(loc, key=key), message, cure)
