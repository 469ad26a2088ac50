"""Names: DNS labels made from what people call their VMs, and names that are taken."""

from __future__ import annotations

import hashlib
import re

RESERVED = frozenset({"inventory", "precopy", "invalid"})
"""Names that DAG ids use themselves; no plan and no wave may have them."""
PLAN_NAME_RULE = "lower-case letters, digits and dashes, at most 40, no dash at either end"
LABEL_RULE = "lower-case letters, digits and dashes, at most 63, no dash at either end"
_SEPARATORS = re.compile(r"[_+*./\\\s-]+")
_DROPPED = re.compile(r"[^a-z0-9-]")
_LABEL_LENGTH = 63
_PLAN_NAME_LENGTH = 40


def dns_label(name: str, *, length: int = _LABEL_LENGTH) -> str:
    """Make a DNS label from any name: a pure function, so that a VM keeps its id whatever joins the plan.

    Lower case; dots, blanks and the like become dashes; anything else is dropped. What had to be cut, or had nothing
    usable, carries a piece of the name's hash, so that different names stay different.
    """
    label = _DROPPED.sub("", _SEPARATORS.sub("-", name.lower()))
    label = re.sub(r"-+", "-", label).strip("-")
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    if not label:
        return f"vm-{mark}"
    if len(label) > length:
        return f"{label[: length - 7].rstrip('-')}-{mark}"
    return label


def plan_name(stem: str) -> str:
    """Make a usable plan name from a file's stem, for plans whose own name cannot be used."""
    return dns_label(stem, length=_PLAN_NAME_LENGTH)
