"""Plans written to files, as people would."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mtv.model.plan import Plan


def yaml_form(plan: Plan) -> dict[str, Any]:
    """Return the plan as YAML spells it: waves by name, VMs without ids."""
    document = plan.model_dump(mode="json", exclude_none=True)
    waves = {}
    for wave in document.pop("waves"):
        for vm in wave["vms"]:
            vm.pop("id")
        waves[wave.pop("name")] = wave
    return {**document, "waves": waves}


def write_yaml(path: Path, document: object) -> list[str]:
    """Write a document in block style; return the file's lines."""
    yaml = YAML()
    yaml.width = 10_000
    out = io.StringIO()
    yaml.dump(document, out)
    path.write_text(out.getvalue(), encoding="utf-8")
    return out.getvalue().split("\n")


def write_csv(
    path: Path, rows: list[dict[str, str]], *, delimiter: str = ",", bom: bool = False, hint: bool = False
) -> None:
    """Write rows under a header of all their keys, and that under the separator's name if `hint`."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO(newline="")
    out.write(f"sep={delimiter}\r\n" if hint else "")
    writer = csv.DictWriter(out, columns, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode("utf-8-sig" if bom else "utf-8"))


def lone_rows(count: int = 4) -> list[dict[str, str]]:
    """Return rows of a CSV that stands alone and checks."""
    return [
        {
            "vm": f"vm-{number}", "wave": f"w{number // 2}", "source": "vcenter", "target": "ocp", "namespace": "n",
            "network": "pod", "storage_class": "fast", "type": "cold", "target_name": f"new-{number}",
            "target_power_state": "auto", "volume_mode": "Block", "on_failure": "hold", "shutdown_timeout_s": "60",
            "preserve_static_ips": "true", "verify": "full",
        }
        for number in range(count)
    ]  # fmt: skip
