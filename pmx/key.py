"""Names of metrics, parameters and tags as MLflow takes them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

MAX_KEY = 250  # characters


def taken(names: Iterable[str]) -> dict[str, str]:
    """Each name -> the name that MLflow takes for it, all of them different: whoever named a fault or a channel thought of people.

    MLflow refuses most signs, and names that are no clean path. Where two names would become one, those that had to change get
    six digits of their digest.
    """
    clean = {name: _clean(name) for name in names}
    count = Counter(clean.values())
    return {
        name: new if new == name or count[new] == 1 else f"{new[: MAX_KEY - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        for name, new in clean.items()
    }


def _clean(name: str) -> str:
    parts = re.sub(r"[^\w./ -]", "_", name).split("/")
    path = "/".join("_" * max(len(part), 1) if part.strip(".") == "" else part for part in parts)
    return path if len(path) <= MAX_KEY else f"{path[: MAX_KEY - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
