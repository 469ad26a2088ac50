"""Read a plan from its files. Every fault is found in one go; a plan is returned only when there is none."""

from __future__ import annotations

from pathlib import Path

import msgspec
from pydantic import ValidationError

from mtv.model.plan import Plan
from mtv.plan.assemble import LONE_COLUMNS, VM_COLUMNS, Draft, from_sheet, from_yaml
from mtv.plan.checks import check
from mtv.plan.csv_reader import Sheet, read_sheet
from mtv.plan.model_errors import problem_of
from mtv.plan.origins import Origins
from mtv.plan.problems import Problem
from mtv.plan.script_sets import SUFFIX as SCRIPTS_SUFFIX
from mtv.plan.script_sets import add_script_files
from mtv.plan.unbuilt import check_unbuilt
from mtv.plan.yaml_reader import YamlDocument, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")
MAX_YAML_BYTES = 2 * 1024 * 1024
MAX_CSV_BYTES = 16 * 1024 * 1024


class LoadResult(msgspec.Struct, frozen=True):
    """A plan, or what is wrong with its files; `origins` finds the place of any field of the plan."""

    plan: Plan | None
    problems: tuple[Problem, ...] = ()
    origins: Origins | None = None


class PlanFiles(msgspec.Struct, frozen=True):
    """The files of one plan: a YAML file, a CSV file, or both of the same stem."""

    stem: str
    yaml: Path | None = None
    csv: Path | None = None
    twin: Path | None = None
    """A second YAML file of the stem (`.yml` beside `.yaml`), which is a fault."""
    scripts: Path | None = None
    """Folder with the plan's own scripts for guests."""

    @property
    def main(self) -> Path:
        """The file that stands for the plan."""
        main = self.yaml or self.csv
        if main is None:
            raise ValueError(f"no file for {self.stem}")
        return main


def files_of(path: Path) -> PlanFiles:
    """Return the files of the plan that `path` (YAML or CSV, or the stem itself) belongs to."""
    stem_path = path.with_suffix("") if path.suffix in {*YAML_SUFFIXES, ".csv"} else path
    folder, stem = stem_path.parent, stem_path.name
    yamls = [folder / f"{stem}{suffix}" for suffix in YAML_SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
    sheet = folder / f"{stem}.csv"
    scripts = folder / f"{stem}{SCRIPTS_SUFFIX}"
    return PlanFiles(
        stem=stem,
        yaml=yamls[0] if yamls else None,
        csv=sheet if sheet.is_file() else None,
        twin=yamls[1] if len(yamls) > 1 else None,
        scripts=scripts if scripts.is_dir() else None,
    )


def files_in(folder: Path) -> list[Path]:
    """Return the main file of every plan of a folder, in order of their stems. Raises `OSError`."""
    stems = sorted({path.stem for path in folder.iterdir() if path.suffix in {*YAML_SUFFIXES, ".csv"}})
    found = [files_of(folder / f"{stem}.yaml") for stem in stems if not stem.startswith(".")]
    return [files.main for files in found if files.yaml or files.csv]


def load(path: Path) -> LoadResult:
    """Read the plan at `path`: its YAML, its CSV, or both. Never raises for what the files hold."""
    files = files_of(path)
    if files.yaml is None and files.csv is None:
        what = "this is a folder" if path.is_dir() else "there is no such plan file"
        return LoadResult(None, (Problem(str(path), 0, 0, what, "name a .yaml or .csv file"),))
    return load_files(files)


def load_files(files: PlanFiles) -> LoadResult:
    """Read a plan from files that exist."""
    problems: list[Problem] = []
    if files.twin is not None:
        problems.append(Problem(str(files.twin), 1, 1, f"{files.main.name} is beside it", "keep one of the two"))
    document = _read_yaml(files.yaml) if files.yaml else None
    sheet = _read_csv(files.csv, alone=document is None) if files.csv else None
    if document is not None:
        draft = from_yaml(document, sheet, files.stem)
    elif sheet is not None:
        draft = from_sheet(sheet, files.stem)
    else:
        raise ValueError(f"no file for {files.stem}")
    draft.problems.extend(problems)
    add_script_files(draft, files.scripts)
    return _finish(draft)


def _finish(draft: Draft) -> LoadResult:
    check(draft)
    plan: Plan | None = None
    if draft.raw:
        try:
            plan = Plan.model_validate(draft.raw)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=True)
            draft.problems.extend(problem_of(detail, draft.origins) for detail in details)
    if draft.problems:
        check_unbuilt(draft)
        ordered = sorted(set(draft.problems), key=lambda problem: (problem.file, problem.line, problem.column))
        return LoadResult(None, tuple(ordered), draft.origins)
    return LoadResult(plan, (), draft.origins)


def _read_yaml(path: Path) -> YamlDocument:
    document = YamlDocument(str(path))
    data = _bytes_of(path, MAX_YAML_BYTES)
    if isinstance(data, Problem):
        document.problems.append(data)
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        document.problems.append(Problem(str(path), line, 1, "the text is not UTF-8", "save the file as UTF-8"))
        return document
    return read_yaml(text, str(path))


def _read_csv(path: Path, *, alone: bool) -> Sheet:
    data = _bytes_of(path, MAX_CSV_BYTES)
    if isinstance(data, Problem):
        sheet = Sheet(str(path))
        sheet.problems.append(data)
        return sheet
    return read_sheet(data, str(path), LONE_COLUMNS if alone else VM_COLUMNS)


def _bytes_of(path: Path, limit: int) -> bytes | Problem:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        return Problem(str(path), 0, 0, f"the file cannot be read: {error.strerror}", "mend its permissions")
    if len(data) > limit:
        return Problem(str(path), 1, 1, f"the file is larger than {limit // 1024**2} MiB", "split the plan")
    return data
