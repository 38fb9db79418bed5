"""The allow-list: which class a YAML may build. Refused by name before anything is imported, then by the identity of what was found.

Hydra's own block-list is no security boundary: a path such as `logging.os.system` has reached `os.system` through it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

from pmx.contract import UsageError
from pmx.signature import nearest

OUTSIDE: dict[str, dict[str, str]] = {
    "model": {
        "sklearn.cluster.KMeans": "sklearn.cluster._kmeans.KMeans",
        "sklearn.decomposition.PCA": "sklearn.decomposition._pca.PCA",
        "sklearn.ensemble.ExtraTreesRegressor": "sklearn.ensemble._forest.ExtraTreesRegressor",
        "sklearn.ensemble.GradientBoostingRegressor": "sklearn.ensemble._gb.GradientBoostingRegressor",
        "sklearn.ensemble.IsolationForest": "sklearn.ensemble._iforest.IsolationForest",
        "sklearn.ensemble.RandomForestRegressor": "sklearn.ensemble._forest.RandomForestRegressor",
        "sklearn.linear_model.ElasticNet": "sklearn.linear_model._coordinate_descent.ElasticNet",
        "sklearn.linear_model.HuberRegressor": "sklearn.linear_model._huber.HuberRegressor",
        "sklearn.linear_model.Lasso": "sklearn.linear_model._coordinate_descent.Lasso",
        "sklearn.linear_model.LinearRegression": "sklearn.linear_model._base.LinearRegression",
        "sklearn.linear_model.LogisticRegression": "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model.Ridge": "sklearn.linear_model._ridge.Ridge",
        "sklearn.neural_network.MLPRegressor": "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
        "sklearn.tree.DecisionTreeRegressor": "sklearn.tree._classes.DecisionTreeRegressor",
    },
}
"""Per group the classes of other packages that may be built: the path a YAML writes -> the path where it is defined."""

PARTS = {"source": ("feature",)}
"""Groups whose objects are made of another group's classes: the snapshot of a source is made of kernels."""

# The class that a group's object must be: another one of its package passes the allow-list and fails much later.
KINDS = {
    "source": "pmx.source.Source",
    "window": "pmx.window.split.Split",
    "feature": "pmx.feature.features.FeatureSet",
    "model": "pmx.model.Model",
    "alarm": "pmx.alarm.policy.KofN",
    "evaluate": "pmx.evaluate.protocol.Protocol",
}
OWN_OF_HYDRA = ("hydra._internal.core_plugins.", "hydra_plugins.hydra_joblib_launcher.", "hydra_plugins.pmx_")


def locate(target: Any, group: str) -> type:
    """The class that a target names, if it may be built in this group; UsageError with the reason if not."""
    path = str(target)  # a YAML may hold anything here
    outside = OUTSIDE.get(group, {})
    parts = path.split(".")
    groups = (group, *PARTS.get(group, ()))
    ours = len(parts) > 3 and parts[0] == "pmx" and parts[1] in groups and all(p.isidentifier() and not p.startswith("_") for p in parts)
    if not (ours or path in outside):
        others = f", or one of {', '.join(sorted(outside))}" if path.startswith("sklearn.") and outside else ""
        raise UsageError(f"{path!r} may not be built here -> name a class as pmx.{group}.<module>.<Class>{others}")
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("pmx"):
            raise UsageError(
                f"there is no module {module_name} -> {nearest(module_name, [m for g in groups for m in _modules(g)])}"
            ) from error
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


def wrong_kind(path: str, target: Any, group: str) -> list[str]:
    """The problem with a class that may be built but is not of the kind that its place needs; empty when it is."""
    try:
        found = locate(target, group)
    except UsageError:
        return []  # refused already, for a better reason
    module, _, name = KINDS[group].rpartition(".")
    base = getattr(importlib.import_module(module), name)
    if issubclass(found, base):
        return []
    mend = "put it under estimator: of pmx.model.estimator.Estimator" if str(target) in OUTSIDE.get(group, {}) else "name one that is"
    return [f"{path}._target_: {target} is no {name} -> {mend}"]


def hidden_targets(node: Any) -> list[str]:
    """What in Hydra's own settings would build something other than Hydra's own launcher and sweeper, before a run's checks."""

    def walk(path: str, value: Any) -> Iterator[str]:
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from walk(f"{path}[{i}]", item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key == "()" or (key == "_target_" and not str(item).startswith(OWN_OF_HYDRA)):
                    yield f"{path}.{key}: {item!r} may not be built here -> remove it"
                yield from walk(f"{path}.{key}", item)

    found = list(walk("hydra", node))
    if node.get("callbacks"):
        found.append("hydra.callbacks: run code of their own -> remove them")
    for log in ("job_logging", "hydra_logging"):
        if (node.get(log) or {}).get("handlers"):
            found.append(f"hydra.{log}: its handlers are built by name -> leave it at none")
    return found
