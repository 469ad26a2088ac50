"""The JSON Schema of a plan's YAML form, for editors. Derived from the model, so that the two cannot drift apart."""

from __future__ import annotations

from typing import Any

from mtv.model.plan import Plan
from mtv.plan.names import PLAN_NAME_RULE

_PLAN_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"


def json_schema() -> dict[str, Any]:
    """Return the schema: the model's, with waves as a mapping by name and VMs as a name or a mapping."""
    schema = Plan.model_json_schema()
    definitions = schema["$defs"]
    wave = definitions["Wave"]
    wave["properties"].pop("name")
    wave.pop("required", None)
    wave["properties"]["vms"]["items"] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/PlannedVm"}]}
    definitions["PlannedVm"]["required"] = ["name"]
    schema["properties"]["waves"] = {
        "description": f"Waves by name ({PLAN_NAME_RULE}). Their VMs may stand in a CSV of the same stem.",
        "type": "object",
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Wave"}, {"type": "null"}]},
        "propertyNames": {"pattern": _PLAN_NAME},
    }
    schema["required"] = ["target"]
    schema["title"] = "mtv migration plan"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
