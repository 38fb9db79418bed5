"""A fitted candidate to a bundle: the core files, the measured budget, the seal."""

from collections.abc import Iterator, Mapping
from typing import Any

PROFILES = ("ort", "ort-compat", "core")
"""Opset profiles of a step graph, as `pmx.pack.profile` writes them."""


def senseless(device: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the limits of a device, by name; what is no number is left to others.

    Example:
        >>> list(senseless({"step_ms": 0, "headroom": 10.0}))
        ['device.step_ms: 0 allows nothing -> give more than 0']
    """
    for name, value in device.items():
        if type(value) not in (int, float):
            continue
        if name == "headroom" and not 1 <= value < float("inf"):
            yield f"device.headroom: {value:g} -> give 1 or more: how many times the measured step must fit into step_ms"
        elif name in ("bytes_max", "resident_mb_max", "step_ms") and not value > 0:
            yield f"device.{name}: {value:g} allows nothing -> give more than 0"
