"""A configuration is refused before any data is read: every mistake at once, each with its place and a way to mend it."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from pmx import allow, config, place
from pmx.contract import UsageError

CLASSES = {
    "source": """
        class Fleet(Source):
            load = None
            def __init__(self, assets: int, noise: float = 0.1, root: Path | str = ".", subset: str | list[str] = "a",
                         clock: Literal["life", "calendar"] = "life") -> None:
                self.assets, self.noise, self.root, self.subset = assets, noise, root, subset
        """,
    "window": """
        class Split(split.Split):
            divide = None
            def __init__(self, test: float | None = 0.3) -> None:
                self.test = test
        """,
    "feature": """
        class Kernel(ABC):
            @abstractmethod
            def nodes(self) -> None: ...

        class Mean(Kernel):
            def __init__(self, window: int) -> None:
                self.window = window
            def nodes(self) -> None: ...

        class Features(FeatureSet):
            def __init__(self, kernels: list[Kernel], named: dict[str, Kernel] | None = None) -> None:
                self.kernels, self.named = kernels, named
        """,
    "model": """
        class Tree(Model):
            fit = score = to_onnx = None
            def __init__(self, num_leaves: int = 31, learning_rate: float = 0.1, layers: list[int] | None = None,
                         bagging: bool = False) -> None:
                self.num_leaves, self.learning_rate, self.layers = num_leaves, learning_rate, layers
                if num_leaves < 2:
                    raise ValueError("num_leaves must be at least 2")

        def make_tree() -> Tree:
            return Tree()

        alias = Tree
        """,
    "alarm": """
        class Policy(KofN):
            def __init__(self, k: int = 3, raise_at: float = 10.0) -> None:
                self.k = k
        """,
    "evaluate": """
        class Protocol(protocol.Protocol):
            def __init__(self, cap: float) -> None:
                self.cap = cap
        """,
}
HEADER = """
from __future__ import annotations
import os
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Literal
from pmx.alarm.policy import KofN
from pmx.evaluate import protocol
from pmx.feature.features import FeatureSet
from pmx.model import Model
from pmx.source import Source
from pmx.window import split
"""
CHOICES = {
    "source": "_target_: pmx.source.planted.Fleet\nassets: 4\nroot: ${data_root}/fleet\n",
    "window": "_target_: pmx.window.planted.Split\n",
    "feature": "_target_: pmx.feature.planted.Features\nkernels:\n  - {_target_: pmx.feature.planted.Mean, window: 10}\n",
    "model": "planted:\n  _target_: pmx.model.planted.Tree\n  num_leaves: 31\n",
    "alarm": "_target_: pmx.alarm.planted.Policy\n",
    "evaluate": "_target_: pmx.evaluate.planted.Protocol\ncap: 125\n",
}
EXPERIMENT = "defaults:\n  - run\n" + "".join(f"  - override {g}: {'[planted]' if g == 'model' else 'planted'}\n" for g in CHOICES)
EXPERIMENT += "  - _self_\nname: planted\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a user with an own `conf` and `experiments`, and a class planted in each group."""
    for group, source in CLASSES.items():
        folder = tmp_path / "planted" / group
        folder.mkdir(parents=True)
        (folder / "planted.py").write_text(HEADER + inspect.cleandoc(source))
        package = importlib.import_module(f"pmx.{group}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    # a folder's name may hold whatever a file system allows
    home = tmp_path / "plant 7, [Süd] it's=$x"
    for group, text in CHOICES.items():
        (home / "conf" / group).mkdir(parents=True)
        (home / "conf" / group / "planted.yaml").write_text(text)
    # the base's own choices, so that these tests do not depend on the packaged ones
    for group, name in {"source": "synthetic", "window": "by_asset", "feature": "history", "alarm": "k_of_n", "evaluate": "rul"}.items():
        (home / "conf" / group / f"{name}.yaml").write_text(CHOICES[group])
    (home / "experiments").mkdir()
    (home / "experiments" / "planted.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(home)
    importlib.invalidate_caches()
    yield home
    for group in CLASSES:
        sys.modules.pop(f"pmx.{group}.planted", None)
        vars(sys.modules[f"pmx.{group}"]).pop("planted", None)


@functools.cache
def base() -> DictConfig:
    """The planted configuration; the same in every test, so it is composed once."""
    return config.compose("planted")


def changed(key: str, value: Any) -> DictConfig:
    """The planted configuration with one node replaced, as a YAML file could have it."""
    cfg = copy.deepcopy(base())
    OmegaConf.set_struct(cfg, False)
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    return cfg


# ---- what is right passes


def test_a_sound_configuration_has_no_problems_and_is_built(planted: Path) -> None:
    cfg = config.compose("planted", ["source.assets=7", "model.planted.num_leaves=15", "data_root=/plant/data"])
    assert config.problems(cfg) == []
    parts = config.build(cfg)
    assert (parts.source.assets, parts.source.root, parts.source.subset) == (7, "/plant/data/fleet", "a")
    assert [type(k).__name__ for k in parts.feature.kernels] == ["Mean"]
    assert list(parts.model) == ["planted"] and parts.model["planted"].num_leaves == 15


def test_values_of_the_annotated_type_pass(planted: Path) -> None:
    for key, value in [
        ("source.noise", 1),
        ("source.subset", ["a", "b"]),
        ("source.clock", "calendar"),
        ("model.planted.layers", [8, 4]),
        ("model.planted.layers", None),
        ("window.test", None),
        ("window.test", "${seed}"),
    ]:
        assert config.problems(changed(key, value)) == [], key
    mean = {"_target_": "pmx.feature.planted.Mean", "window": 3}
    assert config.problems(changed("feature.named", {"short": mean})) == []


def test_data_root_comes_from_the_environment_else_the_cache(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMX_DATA_ROOT", "/plant/it's here")
    assert config.build(config.compose("planted")).source.root == "/plant/it's here/fleet"
    monkeypatch.delenv("PMX_DATA_ROOT")
    assert config.compose("planted").data_root == str(place.cache_folder())


# ---- mistakes in names and types


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.planted.num_leafs", 31, "model.planted.num_leafs: unknown argument -> did you mean num_leaves?"),
        ("model.planted.num_leaves", "many", "model.planted.num_leaves: 'many' is of type str -> give int"),
        ("model.planted.num_leaves", True, "model.planted.num_leaves: True is of type bool -> give int"),
        ("model.planted.num_leaves", 3.5, "model.planted.num_leaves: 3.5 is of type float -> give int"),
        ("model.planted.num_leaves", None, "model.planted.num_leaves: None is of type NoneType -> give int"),
        ("model.planted.bagging", 1, "model.planted.bagging: 1 is of type int -> give bool"),
        ("model.planted.layers", [8, "x"], "model.planted.layers: [8, 'x'] is of type list -> give list[int] | None"),
        ("model.planted.layers", "8", "model.planted.layers: '8' is of type str -> give list[int] | None"),
        ("source.subset", 3, "source.subset: 3 is of type int -> give str | list[str]"),
        ("source.clock", "wall", "source.clock: 'wall' is of type str -> give Literal['life', 'calendar']"),
        ("feature.kernels", ["mean"], "feature.kernels: ['mean'] is of type list -> give list[pmx.feature.planted.Kernel]"),
        ("feature.kernels", [{"window": 3}], "feature.kernels: [{'window': 3}] is of type list -> give list[pmx.feature.planted.Kernel]"),
        ("feature.kernels", [{"_target_": "pmx.feature.planted.Mean"}], "feature.kernels[0].window: is missing -> give it a value"),
        ("source.root", "${nowhere}/x", "source.root: Interpolation key 'nowhere' not found -> correct the ${...}"),
        ("source.assets", "???", "source.assets: is missing -> give it a value"),
        ("sorce", {"root": "x"}, "sorce: unknown argument -> did you mean source?"),
        ("device.step", 3, "device.step: unknown argument -> did you mean step_ms?"),
        ("device.headroom", -1.0, "device.headroom: -1 -> give 1 or more"),
        ("device.headroom", 0.99, "device.headroom: 0.99 -> give 1 or more"),
        ("device.headroom", float("inf"), "device.headroom: inf -> give 1 or more"),
        ("device.bytes_max", 0, "device.bytes_max: 0 allows nothing -> give more than 0"),
        ("device.resident_mb_max", -5, "device.resident_mb_max: -5 allows nothing -> give more than 0"),
        ("device.step_ms", float("nan"), "device.step_ms: nan allows nothing -> give more than 0"),
        ("tracking.stor", "x", "tracking.stor: unknown argument -> did you mean store?"),
        ("model", {}, "model: names no class to build -> model=NAME with one of "),
        ("model.planted", {"num_leaves": 3}, "model: names no class to build -> model=NAME with one of "),
        ("source", None, "source: names no class to build -> source=NAME with one of "),
    ],
)
def test_a_wrong_name_or_value_is_told_with_its_place(planted: Path, key: str, value: Any, expected: str) -> None:
    found = config.problems(changed(key, value))
    assert [line for line in found if line.startswith(expected)], found


def test_all_mistakes_are_told_at_once(planted: Path) -> None:
    cfg = config.compose("planted", ["+model.planted.num_leafs=3", "source.assets=lots", "+colour=red", "+window.tst=1"])
    cfg.evaluate._target_ = "os.system"
    with pytest.raises(UsageError) as refused:
        config.build(cfg)
    text = str(refused.value)
    assert text.startswith("Cannot run planted: 5 mistakes in its configuration, no data was read\n  ")
    for where in ["model.planted.num_leafs", "source.assets", "colour", "window.tst", "evaluate._target_"]:
        assert f"\n  {where}: " in text
    assert refused.value.exit_code == 2


def test_a_value_that_the_class_refuses_names_its_place(planted: Path) -> None:
    with pytest.raises(UsageError, match="model.planted: num_leaves must be at least 2"):
        config.build(config.compose("planted", ["model.planted.num_leaves=1"]))


# ---- targets


REFUSED = [
    "os.system",
    "logging.os.system",
    "functools.partial",
    "builtins.eval",
    "eval",
    "subprocess.Popen",
    "pmx.run.os.system",
    "pmx.model.planted.os.system",
    "pmx.model.planted.logging.os.system",
    "pmx.model.planted.partial",
    "pmx.model.planted.OrderedDict",
    "pmx.model.planted.make_tree",
    "pmx.model.planted.alias",
    "pmx.model.planted.Tree.__init__",
    "pmx.model.planted.__loader__.get_data",
    "pmx.model.planted",
    "pmx.model..planted.Tree",
    "pmx.modelx.planted.Tree",
    "pmx.source.planted.Fleet",
    "pmx.feature.planted.Kernel",
    "",
    3,
    ["os.system"],
    {"_target_": "os.system"},
]


@pytest.mark.parametrize("target", REFUSED, ids=str)
@pytest.mark.parametrize("place", ["model.planted._target_", "model.planted.layers"])
def test_a_target_outside_its_group_is_refused(planted: Path, place: str, target: Any) -> None:
    nested = place.endswith("layers")
    cfg = changed(place, [1, [{"deep": [{"_target_": target, "command": "true"}]}]] if nested else target)
    where = "model.planted.layers[1][0].deep[0]._target_: " if nested else "model.planted._target_: "
    assert [line for line in config.problems(cfg) if line.startswith(where)], config.problems(cfg)
    with pytest.raises(UsageError):
        config.build(cfg)


def test_an_interface_is_refused(planted: Path) -> None:
    found = config.problems(changed("feature.kernels", [{"_target_": "pmx.feature.planted.Kernel"}]))
    assert found == [
        "feature.kernels[0]._target_: 'pmx.feature.planted.Kernel' is an interface and cannot be built -> name one of its implementations"
    ]


@pytest.mark.parametrize("place", ["model.planted._target_", "source._target_", "feature.kernels", "device._target_", "extra"])
def test_an_outside_module_is_refused_before_it_is_imported(planted: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (planted / "pmx_side_effect.py").write_text("from pathlib import Path\nPath('imported').touch()\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(planted))
    target = "pmx_side_effect.Thing"
    found = config.problems(changed(place, target if place.endswith("_target_") else [{"_target_": target}]))
    assert [line for line in found if "_target_" in line], found
    assert "pmx_side_effect" not in sys.modules and not (planted / "imported").exists()


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_recursive_", "_convert_", "_anything_"])
def test_the_instantiation_words_are_refused(planted: Path, key: str) -> None:
    assert config.problems(changed(f"model.planted.{key}", True)) == [f"model.planted.{key}: may not stand here -> remove it"]


@pytest.mark.parametrize("place", ["device", "tracking"])
def test_a_target_where_nothing_is_built_is_refused(planted: Path, place: str) -> None:
    assert f"{place}._target_: may not stand here -> remove it" in config.problems(changed(f"{place}._target_", "pmx.model.planted.Tree"))


def test_an_escaped_interpolation_is_text_and_never_resolved_again(planted: Path) -> None:
    cfg = changed("source.root", "\\${oc.create:{_target_:os.system}}")
    assert config.problems(cfg) == []
    assert config.build(cfg).source.root == "${oc.create:{_target_:os.system}}"


def test_an_interpolation_cannot_smuggle_a_target(planted: Path) -> None:
    found = config.problems(changed("model.planted.layers", "${oc.create:'{_target_: os.system, command: \"true\"}'}"))
    assert [line for line in found if line.startswith("model.planted.layers._target_: 'os.system' may not be built here")], found


def test_a_misspelt_class_or_module_gets_the_nearest_name(planted: Path) -> None:
    assert "did you mean Tree?" in config.problems(changed("model.planted._target_", "pmx.model.planted.Treee"))[0]
    assert "did you mean pmx.model.planted?" in config.problems(changed("model.planted._target_", "pmx.model.plantd.Tree"))[0]


def test_a_missing_package_is_named(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "planted" / "model" / "needy.py").write_text("import a_package_nobody_has\n")
    found = config.problems(changed("model.planted._target_", "pmx.model.needy.Tree"))
    assert "needs the package a_package_nobody_has, which is missing -> pip install 'pmx-maintenance[train]'" in found[0]


def test_an_allowed_outside_class_is_built_under_its_public_name_inside_of_one_of_ours(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = changed("model.planted.layers", {"_target_": "json.JSONDecoder"})
    assert config.problems(cfg)
    monkeypatch.setitem(allow.OUTSIDE, "model", {"json.JSONDecoder": "json.decoder.JSONDecoder"})
    assert config.problems(cfg) == []
    assert type(config.build(cfg).model["planted"].layers).__name__ == "JSONDecoder"
    alone = config.problems(changed("model.planted", {"_target_": "json.JSONDecoder"}))
    assert alone == ["model.planted._target_: json.JSONDecoder is no Model -> put it under estimator: of pmx.model.estimator.Estimator"]


def test_an_estimator_of_scikit_learn_is_a_yaml_alone_and_one_without_a_graph_is_refused_by_name(planted: Path) -> None:
    wrapped = {
        "_target_": "pmx.model.estimator.Estimator",
        "estimator": {"_target_": "sklearn.ensemble.ExtraTreesRegressor", "n_estimators": 7},
    }
    built = config.build(changed("model.planted", wrapped)).model["planted"]
    assert (built.task, built.exact, built.estimator.n_estimators) == ("rul", True, 7)
    found = config.problems(changed("model.planted", wrapped | {"estimator": {"_target_": "sklearn.svm.SVR"}}))
    assert len(found) == 1 and "'sklearn.svm.SVR' may not be built here" in found[0] and "sklearn.linear_model.Ridge" in found[0]
    found = config.problems(changed("model.planted", wrapped | {"estimator": {"_target_": "sklearn.linear_model.Ridge", "alhpa": 1}}))
    assert found == ["model.planted.estimator.alhpa: unknown argument -> did you mean alpha?"]
    with pytest.raises(UsageError, match="n_estimators.*ExtraTreesRegressor must be an int"):
        config.build(
            changed("model.planted", wrapped | {"estimator": {"_target_": "sklearn.ensemble.ExtraTreesRegressor", "n_estimators": -1}})
        )


def test_every_estimator_that_may_be_named_can_be_lowered_and_is_where_it_is_said_to_be() -> None:
    from pmx.model.estimator import LOWERED

    named = allow.OUTSIDE["model"]
    assert sorted(path.rpartition(".")[2] for path in named) == sorted(LOWERED)
    assert all(isinstance(allow.locate(path, "model"), type) for path in named)


# ---- composition


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("source=plantd", "source: there is no 'plantd' -> did you mean planted?"),
        ("model=[planted,plantd]", "model: there is no 'plantd' -> did you mean planted?"),
        ("sorce=planted", "sorce: there is no such setting -> did you mean source?"),
        ("sorce.assets=3", "sorce.assets: there is no such setting -> did you mean source.assets?"),
        ("model.planted.num_leafs=3", "model.planted.num_leafs: there is no such setting -> did you mean model.planted.num_leaves?"),
        ("device.step=3", "device.step: there is no such setting -> did you mean device.step_ms?"),
        ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
        ("on_error=ignore", "on_error: Invalid value 'ignore', expected one of [refuse, quarantine]"),
        ("device.step_ms=fast", "device.step_ms: Value 'fast' of type 'str' could not be converted to Float"),
        ("seed", "Cannot read the override 'seed'"),
    ],
)
def test_a_wrong_override_is_one_short_usage_error(planted: Path, capfd: pytest.CaptureFixture[str], override: str, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        config.compose("planted", [override])
    assert str(refused.value).startswith(expected) and "\n" not in str(refused.value)
    assert refused.value.exit_code == 2 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("overrides", [["source=plantd"], ["sorce.assets=3"], ["--multirun", "source=planted,plantd"]])
def test_a_launch_refuses_a_wrong_override_without_hydras_noise(
    planted: Path, capfd: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    with pytest.raises(UsageError, match="did you mean (planted|source.assets)?"):
        config.launch("planted", overrides, lambda cfg, out: None)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_key_in_a_file_is_refused(planted: Path) -> None:
    (planted / "experiments" / "typo.yaml").write_text(EXPERIMENT + "quetsion: why\n")
    with pytest.raises(UsageError, match="quetsion: there is no such setting -> did you mean question?"):
        config.compose("typo")
    (planted / "experiments" / "broken.yaml").write_text("a: [1,\nb: 2\n")
    with pytest.raises(UsageError, match="not valid YAML.*broken.yaml"):
        config.compose("broken")


def test_a_missing_experiment_is_refused_with_the_names(planted: Path) -> None:
    for run in (lambda: config.compose("plantd"), lambda: config.launch("plantd", [], lambda cfg, out: None)):
        with pytest.raises(UsageError, match="(?s)No experiment 'plantd'.*did you mean planted?.*there are: .*planted"):
            run()


def test_experiments_are_found_from_any_folder_and_the_users_own_come_first(planted: Path, tmp_path: Path) -> None:
    packaged = Path(config.__file__).parents[1]
    assert place.conf_dirs() == [planted / "conf", packaged / "conf"]
    assert place.experiment_dirs() == [planted / "experiments", packaged / "experiments"]
    assert place.experiments()["demo"] == packaged / "experiments" / "demo.yaml"
    (planted / "conf" / "device").mkdir()
    (planted / "conf" / "device" / "gateway.yaml").write_text("name: mine\nbytes_max: 1\nresident_mb_max: 1\nstep_ms: 1\n")
    (planted / "conf" / "model" / "lightgbm.yaml").write_text(CHOICES["model"].replace("planted:", "lightgbm:"))
    assert config.compose("demo", ["model=lightgbm"]).device.name == "mine"
    (planted / "experiments" / "demo.yaml").write_text(EXPERIMENT)
    assert config.compose("demo").name == "planted"


def test_model_on_the_command_line_replaces_the_list(planted: Path) -> None:
    for name in ("first", "second"):
        (planted / "conf" / "model" / f"{name}.yaml").write_text(CHOICES["model"].replace("planted:", f"{name}:"))
    (planted / "experiments" / "two.yaml").write_text(EXPERIMENT.replace("[planted]", "[first, second]"))
    assert list(config.compose("two").model) == ["first", "second"]
    assert list(config.compose("two", ["model=second"]).model) == ["second"]


# ---- launch


def test_a_run_has_its_own_folder_and_stays_where_it_was(planted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = list(sys.argv)
    [(seed, out, cwd)] = config.launch("planted", ["seed=3"], lambda cfg, out: (cfg.seed, out, Path.cwd()))
    assert seed == 3 and out.parent == planted / "runs" / "planted" and cwd == planted
    assert OmegaConf.load(out / ".hydra" / "config.yaml").seed == 3
    assert sys.argv == argv and capfd.readouterr() == ("", "")


def test_a_sweep_runs_every_value_in_folders_of_one_sweep(planted: Path) -> None:
    def task(cfg: DictConfig, out: Path) -> tuple[int, Path]:
        return cfg.seed, out

    done = config.launch("planted", ["seed=1,2", "out=swept"], task, multirun=True)
    assert [seed for seed, _ in done] == [1, 2]
    assert {out.parents[1] for _, out in done} == {planted / "swept" / "planted"} and len({out.parent for _, out in done}) == 1


@pytest.mark.parametrize("overrides", [["seed=1"], ["--multirun", "seed=1,2"]])
def test_an_error_of_the_task_comes_out_as_itself(planted: Path, overrides: list[str]) -> None:
    error = UsageError("mine")

    def task(cfg: DictConfig, out: Path) -> None:
        raise error

    with pytest.raises(UsageError) as raised:
        config.launch("planted", overrides, task)
    assert raised.value is error


def test_hydras_own_flags_work(planted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def never(cfg: DictConfig, out: Path) -> None:
        raise AssertionError("the task ran")

    assert config.launch("planted", ["--cfg", "job", "seed=5"], never) == []
    assert yaml.safe_load(capfd.readouterr().out)["seed"] == 5
    assert config.launch("planted", ["--help"], never) == []
    assert "Settings of the experiment planted" in capfd.readouterr().out
    with pytest.raises(UsageError, match="--nonsense: Hydra refuses such a flag -> .*--hydra-help"):
        config.launch("planted", ["--nonsense"], never)


# ---- what the project ships


CONF = place.conf_dirs()[-1]


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in plain YAML, at any depth."""
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from targets(item)


def shipped(group: str) -> dict[Path, list[str]]:
    return {path: list(targets(yaml.safe_load(path.read_text()))) for path in sorted((CONF / group).glob("*.yaml"))}


@pytest.mark.parametrize("group", config.GROUPS)
def test_every_yaml_points_into_its_group(group: str) -> None:
    assert shipped(group), f"conf/{group} is empty"
    for path, found in shipped(group).items():
        assert found, f"{path} names no class"
        groups = (group, *allow.PARTS.get(group, ()))
        wrong = [t for t in found if t.split(".")[:2] not in [["pmx", g] for g in groups] and t not in allow.OUTSIDE.get(group, {})]
        assert not wrong, f"{path} points outside pmx.{group}: {wrong}"
        if group == "model":
            assert list(yaml.safe_load(path.read_text())) == [path.stem], f"{path} must have one top-level key, its own name"


def public_classes(path: Path) -> list[str]:
    """The concrete public classes that a module defines, read without importing it."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            interface = {"ABC", "Protocol", "abstractmethod"} & {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            found += [] if interface else [node.name]
    return found


@pytest.mark.parametrize("group", ["source", "model", "alarm"])
def test_every_module_with_a_public_class_has_a_yaml(group: str) -> None:
    named = {t for found in shipped(group).values() for t in found}
    modules = sorted((Path(config.__file__).parent / group).glob("*.py"))
    # what a sibling imports is a part of it and no choice of its own
    parts = {m for path in modules for m in re.findall(rf"^from pmx\.{group}\.(\w+) import", path.read_text(), re.M)}
    for path in modules:
        classes = [] if path.stem in {"__init__", *parts} else public_classes(path)
        here = {f"pmx.{group}.{path.stem}.{name}" for name in classes}
        assert not classes or here & named, f"pmx/{group}/{path.name} defines {classes}, and no conf/{group}/*.yaml names one"


@pytest.mark.parametrize("name", sorted(p.stem for p in place.experiment_dirs()[-1].glob("*.yaml")))
def test_every_shipped_experiment_is_sound_and_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = config.build(config.compose(name))
    assert parts.model and parts.source is not None


def test_every_shipped_yaml_fits_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = ",".join(path.stem for path in shipped("model"))
    others = [[f"{group}={path.stem}" for path in shipped(group)] for group in config.GROUPS if group != "model"]
    for row in itertools.zip_longest(*others):  # groups do not depend on each other: one composition tries one of each
        choices = [choice for choice in row if choice]
        assert config.problems(config.compose("demo", [f"model=[{models}]", *choices])) == [], choices


@pytest.mark.parametrize(("name", "scope"), [("skab", "asset"), ("tep", "fleet"), ("demo", "fleet")])
def test_constants_are_fitted_for_the_fleet_unless_an_experiment_says_otherwise(name: str, scope: str) -> None:
    assert str(config.compose(name).fit_scope) == scope
    assert str(config.compose(name, ["fit_scope=asset"]).fit_scope) == "asset"


def test_a_mistyped_fit_scope_is_refused_with_the_valid_names() -> None:
    with pytest.raises(UsageError, match=r"fit_scope(.|\n)*fleet, asset"):
        config.build(config.compose("demo", ["fit_scope=assets"]))


@pytest.mark.parametrize("experiment", ["demo", "cmapss"])
@pytest.mark.parametrize("model", ["lightgbm", "mlp", "autoencoder", "[lightgbm,mlp]"])
def test_any_candidate_can_be_chosen_in_any_experiment(experiment: str, model: str) -> None:
    chosen = config.build(config.compose(experiment, [f"model={model}"])).model
    assert sorted(chosen) == sorted(model.strip("[]").split(","))


@pytest.mark.parametrize(
    "words",
    [
        ["+hydra.callbacks.x._target_=shutil.copyfile"],
        ["+hydra.callbacks.x._target_=hydra.experimental.callbacks.LogJobReturnCallback"],
        ["hydra.sweeper._target_=os.system"],
        ["hydra.launcher._target_=subprocess.Popen"],
        ["+hydra.job_logging.handlers.x.class=os.system"],
        ["+hydra.job_logging.filters.x._target_=os.system"],
    ],
)
def test_hydra_builds_nothing_but_its_own_before_the_checks(words: list[str], workdir: Path) -> None:
    ran: list[object] = []
    with pytest.raises(UsageError, match="nothing was built"):
        config.launch("demo", words, lambda cfg, folder: ran.append(cfg))
    assert not ran
