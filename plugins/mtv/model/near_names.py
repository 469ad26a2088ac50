"""Which known name was meant by a word that is none of them: the one that differs in case, spaces or punctuation only,
else one that looks much like it.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

LIKENESS = 0.66
"""Of `difflib`, from 0 to 1. `aa` is near `a`, `rvh` is near `rhv`, `volume` is not near `volume_mode_of_all`."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to `word`, None when none is near. The order of `known` does not matter."""
    folded: dict[str, str] = {}
    for name in sorted(known):
        folded.setdefault(_folded(name), name)
    close = difflib.get_close_matches(_folded(word), folded, n=1, cutoff=LIKENESS)
    return folded[close[0]] if close else None


def _folded(name: str) -> str:
    """`targetPowerState`, `Target Power-State` and `target_power_state` are one; what is all punctuation stays."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in plain if c.isalnum()) or plain
