"""Bring the file forms into the one shape that the model checks: YAML alone, YAML with a sheet, a sheet alone."""

from __future__ import annotations

from typing import Any

from mtv.model.plan import BootProof, VmOptions
from mtv.plan.csv_reader import Sheet, SheetRow
from mtv.plan.names import dns_label
from mtv.plan.origins import Origins, SheetVm, YamlVm
from mtv.plan.problems import Problem, did_you_mean
from mtv.plan.yaml_reader import YamlDocument

Raw = dict[str, Any]

_PROOF_COLUMNS = frozenset(f"boot_proof.{name}" for name in BootProof.model_fields)
VM_COLUMNS = (frozenset(VmOptions.model_fields) - {"boot_proof"}) | _PROOF_COLUMNS | {"vm", "id", "wave"}
"""Columns of a sheet beside a YAML file."""
LONE_COLUMNS = VM_COLUMNS | {"target", "namespace"}
"""Columns of a sheet that stands alone."""
_FIRST_WAVE = "1"


class Draft:
    """A plan on its way into the model: raw values, their places, and what is wrong so far."""

    def __init__(self, raw: Raw, origins: Origins, problems: list[Problem]) -> None:
        self.raw = raw
        self.origins = origins
        self.problems = problems
        self.waves: list[Raw] = []

    def problem(self, loc: tuple[str | int, ...], message: str, cure: str = "", *, key: bool = False) -> None:
        """Note a problem at a place of the model."""
        self.problems.append(self.origins.problem(loc, message, cure, key=key))

    def add_wave(self, name: str, body: Raw, path: tuple[str | int, ...]) -> Raw:
        """Append a wave and return it; its VMs come later."""
        wave = {**body, "name": name, "vms": []}
        self.waves.append(wave)
        self.origins.wave_paths.append(path)
        self.origins.vms.append([])
        return wave

    def add_vm(self, wave_index: int, vm: Raw, origin: YamlVm | SheetVm) -> None:
        """Append a VM, giving it the id that its name makes."""
        name = vm.get("name")
        vm.setdefault("id", dns_label(name if isinstance(name, str) else str(name)))
        self.waves[wave_index]["vms"].append(vm)
        self.origins.vms[wave_index].append(origin)


def from_yaml(document: YamlDocument, sheet: Sheet | None, stem: str) -> Draft:
    """Assemble a plan from YAML and, if there is one, the sheet that holds more of its VMs."""
    origins = Origins(document.file, document)
    problems = [*document.problems, *(sheet.problems if sheet else ())]
    value = document.value
    if not isinstance(value, dict):
        if not document.problems:
            problems.append(
                Problem(document.file, *document.place(()), "a plan is a mapping", "begin with `target:` and `waves:`")
            )
        return Draft({}, origins, problems)
    draft = Draft({"name": stem, **value}, origins, problems)
    _yaml_waves(draft, document, value.get("waves"), allow_none=sheet is not None)
    if sheet is not None:
        _sheet_waves(draft, sheet, chained=not draft.waves)
    draft.raw["waves"] = draft.waves
    return draft


def from_sheet(sheet: Sheet, stem: str) -> Draft:
    """Assemble a plan from a sheet alone; source, target and namespace are columns."""
    origins = Origins(sheet.file, None)
    draft = Draft({"name": stem}, origins, list(sheet.problems))
    if sheet.columns:
        draft.raw["target"] = {
            "connection": _same_in_all_rows(draft, sheet, "target", "connection"),
            "namespace": _same_in_all_rows(draft, sheet, "namespace", "namespace"),
        }
    _sheet_waves(draft, sheet, chained=True)
    draft.raw["waves"] = draft.waves
    return draft


def _yaml_waves(draft: Draft, document: YamlDocument, waves: Any, *, allow_none: bool) -> None:
    if waves is None and allow_none:
        return
    if waves is None:
        draft.problem((), "waves are missing", "add `waves: {pilot: {vms: [{name: …}]}}`, or a CSV of the same stem")
        return
    if not isinstance(waves, dict):
        draft.problem(("waves",), "waves is not a mapping", "write `waves:` and below it one key for each wave")
        return
    for name, body in waves.items():
        path = ("waves", name)
        if body is None:
            body = {}
        if not isinstance(body, dict):
            draft.problems.append(
                Problem(document.file, *document.place(path), f"wave {name} is not a mapping", "write `vms:` below it")
            )
            continue
        if "name" in body:
            place = document.place((*path, "name"), key=True)
            draft.problems.append(Problem(document.file, *place, "unknown key name", "a wave's name is its key"))
        index = len(draft.waves)
        draft.add_wave(name, body, path)
        _yaml_vms(draft, document, index, body.get("vms"), path)


def _yaml_vms(draft: Draft, document: YamlDocument, index: int, vms: Any, path: tuple[str | int, ...]) -> None:
    if vms is None:
        return
    if not isinstance(vms, list):
        place = document.place((*path, "vms"))
        draft.problems.append(Problem(document.file, *place, "vms is not a list", "write `vms: [{name: …}]`"))
        return
    for position, vm in enumerate(vms):
        here = (*path, "vms", position)
        if isinstance(vm, str):
            vm = {"name": vm}
        if not isinstance(vm, dict):
            place = document.place(here)
            draft.problems.append(
                Problem(document.file, *place, f"a VM is a name or a mapping, not {vm!r}", 'write `{name: "…"}`')
            )
            continue
        draft.add_vm(index, dict(vm), YamlVm(document, here))


def _sheet_waves(draft: Draft, sheet: Sheet, *, chained: bool) -> None:
    """Add the sheet's rows. `chained`: the sheet itself names the waves, each starting after the one before."""
    if sheet.columns and "vm" not in sheet.columns:
        header = min(sheet.columns.values())
        draft.problems.append(
            Problem(sheet.file, sheet.header_line, header, "column vm is missing", "name each row's VM in it")
        )
        return
    by_name = {wave["name"]: index for index, wave in enumerate(draft.waves)}
    only_wave = next(iter(by_name)) if len(by_name) == 1 else _FIRST_WAVE if chained else None
    for row in sheet.rows:
        if "vm" not in row.cells:
            draft.problems.append(sheet.problem(row, "vm", "a row without a VM", "name the VM, or remove the row"))
            continue
        wave_name = row.cells.get("wave")
        if wave_name is None:
            if "wave" in sheet.columns or only_wave is None:
                draft.problems.append(
                    sheet.problem(row, "wave", f"VM {row.cells['vm']} has no wave", "fill the column wave")
                )
                continue
            wave_name = only_wave
        index = by_name.get(wave_name)
        if index is None:
            if not chained:
                draft.problems.append(
                    sheet.problem(row, "wave", f"the YAML has no wave {wave_name}", did_you_mean(wave_name, by_name))
                )
                continue
            index = by_name[wave_name] = len(draft.waves)
            before = [draft.waves[-1]["name"]] if draft.waves else []
            draft.add_wave(wave_name, {"start_after": before} if before else {}, ("waves", wave_name))
        draft.add_vm(index, _vm_of(row), SheetVm(sheet, row))


def _vm_of(row: SheetRow) -> Raw:
    vm: Raw = {}
    for column, cell in row.cells.items():
        if column == "vm":
            vm["name"] = cell
        elif column in _PROOF_COLUMNS:
            vm.setdefault("boot_proof", {})[column.partition(".")[2]] = cell
        elif column in VM_COLUMNS and column != "wave":
            vm[column] = cell
    return vm


def _same_in_all_rows(draft: Draft, sheet: Sheet, column: str, field: str) -> str:
    """Return the one value of a column that belongs to the plan, and note what is missing or differs."""
    stand_in = "missing"  # keeps the model from reporting again what is reported here
    if column not in sheet.columns:
        draft.problems.append(
            Problem(
                sheet.file,
                sheet.header_line,
                1,
                f"column {column} is missing",
                "a CSV without a YAML beside it needs target,namespace",
            )
        )
        return stand_in
    first: SheetRow | None = None
    for row in sheet.rows:
        cell = row.cells.get(column)
        if cell is None:
            draft.problems.append(sheet.problem(row, column, f"{column} is missing", "fill the cell"))
        elif first is None:
            first = row
            draft.origins.cells[("target", field)] = (sheet.file, *sheet.place(row, column))
        elif cell != first.cells[column]:
            draft.problems.append(
                sheet.problem(
                    row,
                    column,
                    f"{column} {cell} differs from {first.cells[column]} in row {first.line}",
                    "one plan has one target: make another file for the other",
                )
            )
    return stand_in if first is None else first.cells[column]
