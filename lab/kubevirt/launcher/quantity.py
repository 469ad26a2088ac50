"""Kubernetes quantities such as ``512Mi`` or ``100m``."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_SUFFIXES = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{suffix: Fraction(1024**power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}


def amount(quantity: str | int) -> Fraction:
    """The exact value of a quantity; ValueError if it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)", str(quantity))
    if not match or match[2] not in _SUFFIXES:
        raise ValueError(f"not a quantity: {quantity!r}")
    return Fraction(match[1]) * _SUFFIXES[match[2]]


def size_bytes(quantity: str | int) -> int:
    """A quantity of bytes, rounded up to whole bytes."""
    return math.ceil(amount(quantity))


def size_mib(quantity: str | int) -> int:
    """A quantity of bytes in MiB, rounded down: a guest never gets more memory than its spec says."""
    return size_bytes(quantity) >> 20


def cpus(quantity: str | int) -> int:
    """A quantity of CPUs, rounded up to whole ones as KubeVirt does."""
    return math.ceil(amount(quantity))
