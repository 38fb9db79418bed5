"""Hydra's sweeper for `pmx sweep`: reads Hydra's words for several values as a search space, and hands it on.

Optuna is imported where trials are proposed, not here: Hydra imports every plugin at each start.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class PmxSweeperConf:
    """`params` vary settings as in Hydra's own sweeper, beside `sweep.space`, where the command line varies none."""

    _target_: str = "hydra_plugins.pmx_sweeper.PmxSweeper"
    params: dict[str, Any] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="pmx", node=PmxSweeperConf, provider="pmx")


class PmxSweeper(Sweeper):
    """Splits the words of a sweep into what is fixed and what varies; the task that `pmx sweep` gave does the rest."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task_function, self.settings, self.loader = task_function, config, hydra_context.config_loader

    def sweep(self, arguments: list[str]) -> Any:
        search = getattr(getattr(self.task_function, "task", None), "search", None)
        if search is None:
            raise HydraException("hydra/sweeper=pmx belongs to one command -> pmx sweep NAME key=1,2")
        fixed, space = self._split(arguments)
        if not space:  # what is typed takes the place of what the experiment would vary
            inside = {**(self.settings.sweep.space or {}), **self.params}
            fixed, space = self._split([*(f"{k}={v}" for k, v in inside.items()), *arguments])
        search(self.settings, fixed, space)

    def _split(self, words: list[str]) -> tuple[list[str], list[Any]]:
        """The overrides that all trials share, and the dimensions; of two for one key the last one holds."""
        parser = OverridesParser.create(config_loader=self.loader)
        last = {o.get_key_element(): o for o in parser.parse_overrides(words)}
        fixed = [
            f"{k}={o.get_value_element_as_str()}" if not k.startswith("~") else str(o.input_line)
            for k, o in last.items()
            if not o.is_sweep_override()
        ]
        return fixed, [_dimension(o) for o in last.values() if o.is_sweep_override()]


def _dimension(override: Override) -> Any:
    from pmx.study import Dimension, dimension

    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None  # Hydra's grammar has read both
        return dimension(key, value.start, value.end, "log" in value.tags)
    return Dimension(key, tuple(dict.fromkeys(override.sweep_string_iterator())), isinstance(value, RangeSweep))
