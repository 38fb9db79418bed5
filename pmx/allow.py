"""The allow-list: which class a YAML may build. Refused by name before anything is imported, then by the identity of what was found.

Hydra's own block-list is no security boundary: a path such as `logging.os.system` has reached `os.system` through it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from pmx.contract import UsageError
from pmx.signature import nearest

OUTSIDE: dict[str, dict[str, str]] = {}
"""Per group the classes of other packages that may be built: the path a YAML writes -> the path where it is defined."""


def locate(target: Any, group: str) -> type:
    """The class that a target names, if it may be built in this group; UsageError with the reason if not."""
    path = str(target)  # a YAML may hold anything here
    outside = OUTSIDE.get(group, {})
    parts = path.split(".")
    ours = parts[:2] == ["pmx", group] and len(parts) > 3 and all(p.isidentifier() and not p.startswith("_") for p in parts)
    if not (ours or path in outside):
        raise UsageError(f"{path!r} may not be built here -> name a class as pmx.{group}.<module>.<Class>")
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("pmx"):
            raise UsageError(f"there is no module {module_name} -> {nearest(module_name, _modules(group))}") from error
        raise UsageError(f"{path} needs the package {error.name}, which is missing -> pip install 'pmx-maintenance[train]'") from error
    classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module_name and not n.startswith("_")]
    found = vars(module).get(name)
    if found is None:
        raise UsageError(f"module {module_name} has no class {name} -> {nearest(name, classes)}")
    # the identity decides: a name that a module merely imported is not its own
    if not isinstance(found, type) or f"{found.__module__}.{found.__qualname__}" != outside.get(path, path):
        raise UsageError(f"{path!r} is no class of {module_name} -> {nearest(name, classes)}")
    if inspect.isabstract(found):
        raise UsageError(f"{path!r} is an interface and cannot be built -> name one of its implementations")
    return found


def _modules(group: str) -> list[str]:
    """The modules of a group's package, found without importing them."""
    package = importlib.import_module(f"pmx.{group}")
    return [f"pmx.{group}.{m.name}" for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
