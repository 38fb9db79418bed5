"""Configuration of a run: the typed root, where its YAML lives, the composition, and the checks before any data is read.

A YAML may build only classes of pmx that stand in the right group (`model` builds `pmx.model.*`) or that `OUTSIDE`
names. Hydra's own block-list is no security boundary, so a target is refused by its name before anything is imported,
and then by the identity of what it resolves to. Interpolations are resolved once, into plain data: what is checked is
what is built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import env_override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmx.allow import hidden_targets, locate, wrong_kind
from pmx.contract import PmxError, UsageError
from pmx.pack import PROFILES, senseless
from pmx.place import cache_folder, conf_dirs, experiment_dirs, experiment_file
from pmx.signature import arguments, nearest
from pmx.study import SweepConfig

T = TypeVar("T")

GROUPS = ("source", "window", "feature", "model", "alarm", "evaluate")
"""The groups whose YAML builds objects; all others hold typed plain data."""


class OnError(StrEnum):
    """What happens to rows that break the contract."""

    refuse = "refuse"
    quarantine = "quarantine"


class FitScope(StrEnum):
    """Whether constants are fitted for the fleet, or for each asset apart."""

    fleet = "fleet"
    asset = "asset"


@dataclass
class Device:
    """The budget of the machine that runs the bundle.

    Attributes:
        bytes_max: size of the bundle in bytes.
        resident_mb_max: resident memory of the scoring process in MB.
        step_ms: time allowed for one step of one asset at the 99th percentile, in milliseconds.
        headroom: how many times faster than `step_ms` the measured step must be.
        profile: what its runtime takes: `ort`, `ort-compat` (older runtimes) or `core` (no operators for trees).
    """

    name: str = MISSING
    bytes_max: int = MISSING
    resident_mb_max: float = MISSING
    step_ms: float = MISSING
    headroom: float = 10.0
    profile: str = "ort"


@dataclass
class Tracking:
    """Where runs are recorded.

    Attributes:
        store: a folder for the embedded database and the artifacts.
        experiment: the name under which the runs are listed.
        register: whether a run that passes its gates becomes a registered version.
    """

    store: str = MISSING
    experiment: str = "${name}"
    register: bool = True


@dataclass
class RunConfig:
    """The root of a run's configuration; a key that is not here is refused."""

    name: str = MISSING
    question: str = ""
    seed: int = 0
    threads: int = 1  # of LightGBM; no result depends on it
    on_error: OnError = OnError.refuse
    fit_scope: FitScope = FitScope.fleet
    out: str = "runs"
    data_root: str = "${oc.env:PMX_DATA_ROOT,${pmx.cache_folder:}}"
    source: Any = MISSING
    window: Any = MISSING
    feature: Any = MISSING
    model: dict[str, Any] = field(default_factory=dict)
    alarm: Any = MISSING
    evaluate: Any = MISSING
    device: Device = field(default_factory=Device)
    tracking: Tracking = field(default_factory=Tracking)
    sweep: SweepConfig = field(default_factory=SweepConfig)


OmegaConf.register_new_resolver("pmx.cache_folder", lambda: str(cache_folder()), replace=True)
OmegaConf.register_new_resolver("pmx.pick", lambda key, otherwise, table: table.get(key, otherwise), replace=True)  # hangs on another one
ConfigStore.instance().store(name="run_schema", node=RunConfig)


# ---- composition


_search: ContextVar[tuple[Path, ...]] = ContextVar("_search", default=())


class _SearchPath(SearchPathPlugin):
    """Adds our folders as they are: an override `hydra.searchpath=[...]` would have to be quoted, and hide the user's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in _search.get():
            search_path.append("pmx", f"file://{folder}")


@contextmanager
def _composing(name: str, overrides: list[str]) -> Iterator[Path]:
    """Gives the experiment's folder; inside, Hydra finds our folders, and its errors come out as UsageError."""
    folder = experiment_file(name).parent
    Plugins.instance().register(_SearchPath)
    token = _search.set((*conf_dirs(), *experiment_dirs()))
    try:
        yield folder
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(_reason(error, name, overrides)) from error
    finally:
        _search.reset(token)


def compose(name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration of an experiment with these overrides, without a run folder."""
    overrides, state = overrides or [], GlobalHydra.instance()
    outer, state.hydra = state.hydra, None  # a sweeper composes its trials while Hydra is at work
    try:
        with _composing(name, overrides) as folder, hydra.initialize_config_dir(str(folder), job_name="pmx", version_base="1.3"):
            return hydra.compose(name, overrides)
    finally:
        state.hydra = outer


class _Job(Generic[T]):
    """The function that Hydra runs for each job; keeps what came out, which `hydra.main` drops."""

    def __init__(self, task: Callable[[DictConfig, Path], T]) -> None:
        self.task = task
        self.results: list[tuple[int, T]] = []
        self.errors: list[Exception] = []

    def __call__(self, cfg: DictConfig) -> T | None:
        job = HydraConfig.get()
        try:
            result = self.task(cfg, Path(job.runtime.output_dir))
        except Exception as error:
            self.errors.append(error)
            if job.mode == RunMode.MULTIRUN:  # a sweeper must see that this job failed, and a launcher may sit in another process
                raise
            return None
        self.results.append((job.job.num if job.mode == RunMode.MULTIRUN else 0, result))
        return result


def launch(name: str, overrides: list[str], task: Callable[[DictConfig, Path], T], multirun: bool = False) -> list[T]:
    """Runs the task for each job of an experiment, with Hydra's whole command line.

    Args:
        name: the experiment.
        overrides: what the user typed after it, flags such as `--cfg job` included.
        task: gets the composed configuration and the job's own folder.
        multirun: whether overrides with several values are a sweep.

    Returns:
        What the task returned, in the order of the jobs; empty after `--help` and its like. Jobs that a launcher ran
        in another process are missing: their results are what they wrote into their folders.
    """
    _refuse_hidden_targets(name, overrides)
    job = _Job(task)
    argv, sys.argv = sys.argv, [sys.argv[0], *(["--multirun"] if multirun else []), *overrides]
    try:
        # HYDRA_FULL_ERROR: without it Hydra prints its errors itself and exits with 1
        with _composing(name, overrides) as folder, env_override({"HYDRA_FULL_ERROR": "1"}):
            hydra.main(config_path=str(folder), config_name=name, version_base="1.3")(job)()
    except SystemExit as stop:
        flags = " ".join(o for o in overrides if o.startswith("-"))
        if stop.code and flags:
            raise UsageError(f"{flags}: Hydra refuses such a flag -> pmx run {name} --hydra-help lists those it takes") from stop
        if stop.code:
            raise
    except Exception:
        if not job.errors:
            raise
    finally:
        sys.argv = argv
    if job.errors:
        raise job.errors[0]
    return [result for _, result in sorted(job.results, key=lambda pair: pair[0])]


def _refuse_hidden_targets(name: str, overrides: list[str]) -> None:
    """Hydra builds its callbacks, launcher, sweeper and log handlers before a run's own checks: they may be its own classes alone."""
    own = [o for o in overrides if re.match(r"[+~]*hydra[./@=]", o)]
    with _composing(name, own) as folder, hydra.initialize_config_dir(str(folder), job_name="pmx", version_base="1.3"):
        node = OmegaConf.to_container(hydra.compose(name, own, return_hydra_config=True).hydra, resolve=False)

    found = hidden_targets(node)
    if found:
        raise UsageError("\n  ".join([f"Cannot run {name}: {len(found)} of Hydra's own settings refused, nothing was built", *found]))


def _reason(error: Exception, name: str, overrides: list[str]) -> str:
    """Hydra's error in a few words, with the nearest valid name."""
    message = f"{error}\n{error.__cause__ or ''}".strip()
    first = message.partition("\n")[0]
    wrong = re.search(r"Could not override '([^']+)'|full_key: (\S+)", message)
    key = (wrong[1] or wrong[2]) if wrong else ""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return f"{group}: there is no {option!r} -> {nearest(option, error.options or _options(group))}"
    if isinstance(error, OverrideParseException):
        return f"Cannot read the override {error.override!r}: {first} -> write key=value"
    if isinstance(error, yaml.YAMLError):
        return f"Experiment {name} or a file it uses is not valid YAML: {' '.join(message.split())}"
    if key and re.search(r"No match in the defaults list|not in (struct|')|does not exist", message):
        known = _paths(_plain(name) if overrides else {f.name: None for f in fields(RunConfig)})
        more = " (an argument that its YAML leaves out is added with +key=value)" if key.split(".")[0] in GROUPS else ""
        return f"{key}: there is no such setting -> {nearest(key, [k for k in known if k != key], f'pmx run {name} --cfg job shows all of them')}{more}"
    if key:
        return f"{key}: {next((line for line in message.splitlines() if 'Value' in line or 'Invalid' in line), first)}"
    return " ".join(message.split())


def _plain(name: str) -> Any:
    """An experiment as its files give it, or only the root's keys where they do not compose."""
    try:
        return OmegaConf.to_container(compose(name))
    except UsageError:
        return {f.name: None for f in fields(RunConfig)}


def _paths(node: Any) -> list[str]:
    """Every dotted key of nested mappings."""
    if not isinstance(node, dict):
        return []
    return [path for key, value in node.items() for path in (str(key), *(f"{key}.{below}" for below in _paths(value)))]


def _options(group: str) -> list[str]:
    """The YAML names of a group."""
    return sorted({path.stem for folder in conf_dirs() for path in (folder / group).glob("*.yaml")})


# ---- the checks


@dataclass
class Parts:
    """The objects of a run; `model` maps each candidate's name to its object."""

    source: Any
    window: Any
    feature: Any
    alarm: Any
    evaluate: Any
    model: dict[str, Any]


def problems(cfg: DictConfig) -> list[str]:
    """All mistakes of a configuration, each with its place and the nearest valid name. Reads no data."""
    return _check(*_resolve(cfg))


def build(cfg: DictConfig) -> Parts:
    """The objects that a configuration describes; UsageError with all its problems."""
    plain, broken = _resolve(cfg)
    found = _check(plain, broken)
    if found:
        count = f"{len(found)} mistake{'s' * (len(found) > 1)}"
        raise UsageError("\n  ".join([f"Cannot run {plain.get('name', 'this')}: {count} in its configuration, no data was read", *found]))
    return Parts(**{group: _build(group, plain[group], group) for group in GROUPS})


def _resolve(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration as plain data without interpolations, and the top-level keys where that failed."""
    plain: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for key in map(str, cfg):  # one by one, so that a bad interpolation does not hide the other mistakes
        if OmegaConf.is_missing(cfg, key):
            continue
        try:
            value = cfg[key]
            value = OmegaConf.to_container(value, resolve=True, enum_to_str=True) if OmegaConf.is_config(value) else value
            plain[key] = value.name if isinstance(value, Enum) else value
            if key == "model" and isinstance(value, dict):
                # an experiment tunes candidates; what it says of one that was not chosen on the command line is not needed
                known = _options("model")
                plain[key] = {n: c for n, c in value.items() if n not in known or not isinstance(c, dict) or "_target_" in c}
        except OmegaConfBaseException as error:
            where = re.search(r"full_key: (\S+)", str(error))
            broken[key] = f"{where[1] if where else key}: {str(error).splitlines()[0]} -> correct the ${{...}}"
    return plain, broken


def _check(plain: dict[str, Any], broken: dict[str, str]) -> list[str]:
    """The problems of a resolved configuration."""
    found = list(broken.values())
    typed = {
        key: cls for key, cls in {"device": Device, "tracking": Tracking, "sweep": SweepConfig}.items() if isinstance(plain.get(key), dict)
    }
    root = {key: MISSING if key in typed else value for key, value in plain.items()}  # these have a check of their own
    found += [line for line in arguments("", RunConfig, root) if line.partition(":")[0] not in broken]
    for key, cls in typed.items():
        found += arguments(key, cls, plain[key])
    device = plain["device"] if "device" in typed else {}
    found += senseless(device)
    profile = device.get("profile")
    if isinstance(profile, str) and profile not in PROFILES:
        found.append(f"device.profile: there is no {profile!r} -> {nearest(profile, PROFILES)}")
    for key, value in plain.items():
        found += _walk(key, value, key if key in GROUPS else "")
        for path, node in _roots(key, value) if key in GROUPS else ():
            if not isinstance(node, dict) or "_target_" not in node:
                found.append(f"{path}: names no class to build -> {key}=NAME with one of {', '.join(_options(key))}")
            else:
                found += wrong_kind(path, node["_target_"], key)
    return found


def _roots(group: str, value: Any) -> list[tuple[str, Any]]:
    """The nodes of a group that must have a target: the group itself, or each candidate of `model`."""
    if group != "model":
        return [(group, value)]
    if not isinstance(value, dict) or not value or "_target_" in value:
        return [(group, None)]
    return [(f"model.{name}", candidate) for name, candidate in value.items()]


def _walk(path: str, value: Any, group: str) -> Iterator[str]:
    """The problems of a node and of all below it. `group` is empty where no target may stand."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(f"{path}[{index}]", item, group)
    elif isinstance(value, dict):
        for key in value:
            if str(key).startswith("_") and str(key).endswith("_") and not (key == "_target_" and group):
                yield f"{path}.{key}: may not stand here -> remove it"
        if "_target_" in value and group:
            yield from _target(path, value, group)
        for key, item in value.items():
            yield from _walk(f"{path}.{key}", item, group)
    elif value == MISSING:
        yield f"{path}: is missing -> give it a value"


def _target(path: str, node: dict[Any, Any], group: str) -> Iterator[str]:
    """The problems of a node that names a class: the class itself, then its arguments."""
    try:
        cls = locate(node["_target_"], group)
    except UsageError as error:
        yield f"{path}._target_: {error}"
    else:
        yield from arguments(path, cls, {key: value for key, value in node.items() if key != "_target_"})


def _build(path: str, value: Any, group: str) -> Any:
    """The checked node as an object. Not `hydra.utils.instantiate`: it would resolve interpolations a second time."""
    if isinstance(value, list):
        return [_build(f"{path}[{index}]", item, group) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    given = {key: _build(f"{path}.{key}", item, group) for key, item in value.items() if key != "_target_"}
    if "_target_" not in value:
        return given
    try:
        return locate(value["_target_"], group)(**given)
    except PmxError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
