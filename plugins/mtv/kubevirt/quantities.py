"""Quantities as the Kubernetes API writes them."""

from __future__ import annotations

_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip


def whole(text: str) -> int:
    """Return a quantity (`10Gi`, `1073741824`, `1.5G`, `1k`) as a number, rounded up. Raises `ValueError`."""
    number = text.rstrip("kKMGTPi")
    unit = text[len(number) :]
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * _UNITS[unit]
    return int(-(-scaled // 10 ** len(fraction)))
