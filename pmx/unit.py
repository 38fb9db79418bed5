"""Units that are taken for one another: values far outside their range that would lie inside it, were they in another unit."""

from __future__ import annotations

import numpy as np

# Families of units; (scale, offset) lead to the family's own base: base = scale * value + offset.
FAMILIES: tuple[dict[str, tuple[float, float]], ...] = (
    {"°C": (1.0, 0.0), "°F": (5 / 9, -160 / 9), "K": (1.0, -273.15), "degR": (5 / 9, -273.15)},
    {"bar": (1e5, 0.0), "kPa": (1e3, 0.0), "psi": (6894.757, 0.0), "mbar": (100.0, 0.0), "Pa": (1.0, 0.0), "MPa": (1e6, 0.0)},
    {"mm/s": (1.0, 0.0), "in/s": (25.4, 0.0), "m/s": (1e3, 0.0)},
    {"kW": (1e3, 0.0), "W": (1.0, 0.0), "MW": (1e6, 0.0), "hp": (745.7, 0.0)},
    {"m3/h": (1.0, 0.0), "l/s": (3.6, 0.0), "l/min": (0.06, 0.0), "m3/s": (3600.0, 0.0), "gpm": (0.2271247, 0.0)},
    {"mm": (1.0, 0.0), "in": (25.4, 0.0), "µm": (1e-3, 0.0), "m": (1e3, 0.0), "mil": (0.0254, 0.0)},
    {"m/s2": (1.0, 0.0), "g": (9.80665, 0.0), "mm/s2": (1e-3, 0.0)},
    {"rpm": (1.0, 0.0), "1/s": (60.0, 0.0)},
    {"A": (1.0, 0.0), "mA": (1e-3, 0.0)},
    {"V": (1.0, 0.0), "mV": (1e-3, 0.0), "kV": (1e3, 0.0)},
    {"kWh": (1.0, 0.0), "Wh": (1e-3, 0.0), "MWh": (1e3, 0.0), "MJ": (1 / 3.6, 0.0)},
    {"%": (1.0, 0.0), "-": (100.0, 0.0)},
)
SAME = {
    "C": "°C", "degC": "°C", "F": "°F", "degF": "°F", "psia": "psi", "psig": "psi", "hPa": "mbar", "ips": "in/s", "Hz": "1/s",
    "1/min": "rpm", "m³/h": "m3/h", "m³/s": "m3/s", "L/s": "l/s", "L/min": "l/min", "m/s²": "m/s2", "mm/s²": "mm/s2", "um": "µm",
}  # fmt: skip
MOST = 0.5  # a share of the values above this is most of them


def looks_like(unit: str, values: np.ndarray, low: float | None, high: float | None, usual: np.ndarray | None = None) -> list[str]:
    """Other units that would bring most of these values into the range, the likeliest first.

    Args:
        unit: that the values should be in.
        values: float64 [value] outside the range.
        low, high: the range in `unit`; None = unbounded.
        usual: float64 [value] inside it; the other units are ordered by how near they bring the values to these, and those that
            bring the middle one beyond nearly all of these are left out.

    Example:
        >>> looks_like("°C", np.array([140.0, 160.0, 180.0]), -20.0, 120.0)
        ['°F']
    """
    name = SAME.get(unit, unit)
    family = next((f for f in FAMILIES if name in f), {})
    values = values[np.isfinite(values)]
    found = []
    for other, (scale, offset) in family.items():
        if other == name or not len(values):
            continue
        turned = (scale * values + offset - family[name][1]) / family[name][0]
        inside = (turned >= (-np.inf if low is None else low)) & (turned <= (np.inf if high is None else high))
        middle = float(np.median(turned))
        far = abs(middle - float(np.median(usual))) if usual is not None and len(usual) else -float(inside.mean())
        near = usual is None or not len(usual) or np.quantile(usual, 0.02) <= middle <= np.quantile(usual, 0.98)
        if inside.mean() > MOST and near:
            found.append((far, other))
    return [other for _, other in sorted(found, key=lambda f: f[0])]
