"""One step of a bundle: window buffer, step graph, alarm. What a device runs is what replay runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from pmx.alarm.state import AlarmState, Policy, SensorState, evidence
from pmx.align import Ticks
from pmx.bundle import Bundle
from pmx.contract import IncompatibleError, Verdict

VERDICTS = ("anomaly_score", "rul", "failure_probability", "fault_probability", "contribution", "quality")


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session on one core, from bytes: loading from a path would follow external data and hardlinks."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status code
        raise IncompatibleError(
            f"onnxruntime {onnxruntime.__version__} cannot load the graph: {error} -> update onnxruntime, or pack again"
        ) from None


@dataclass(frozen=True)
class Scored:
    """What one step gave.

    Attributes:
        on: int [asset], the assets that were scored.
        verdict: of those assets.
        standing: bool [asset], whether their alarm stands.
        out: everything the graph gave, by output name.
        sensors: bool [asset, channel], whether the channel's sensor alarm stands.
    """

    on: np.ndarray
    verdict: Verdict
    standing: np.ndarray
    out: dict[str, np.ndarray]
    sensors: np.ndarray


class Stepper:
    """Carries a number of assets through a bundle, tick by tick.

    Args:
        bundle: an opened bundle.
        assets: their names; all of them start as new ones, those that the bundle knows with their own constants.
    """

    def __init__(self, bundle: Bundle, assets: Sequence[str]) -> None:
        self.spec = bundle.spec
        self.graph = session(bundle.files["model.onnx"])
        self.names = [o.name for o in self.graph.get_outputs()]
        if "memory_next" not in self.names or not set(self.spec.outputs) <= set(self.names):
            raise IncompatibleError(
                f"the graph gives {', '.join(self.names)}, the spec promises {', '.join(self.spec.outputs)} -> pack again"
            )
        policy = Policy(**bundle.policy)
        if policy.output not in self.spec.outputs:
            raise IncompatibleError(f"the alarm watches {policy.output!r}, the spec promises {', '.join(self.spec.outputs)} -> pack again")
        self.alarm = AlarmState(policy, len(assets))
        self.sensors = SensorState(policy.k, policy.n, len(assets), len(self.spec.contract.channels))
        self._measured = np.array([c.role != "setting" for c in self.spec.contract.channels])
        self.memory = bundle.memory(assets)
        self._first = self.memory.copy()
        self._window = np.full((len(assets), self.spec.window, len(self.spec.contract.channels)), np.nan, np.float32)
        self._pending = np.zeros(len(assets), np.int64)

    def begin_anew(self, on: np.ndarray) -> None:
        """Another life of the assets in `on`, int [asset], begins with their next reading: what was remembered of them is forgotten.

        What stands of alarms is not: the next verdicts decide.
        """
        self._window[on], self._pending[on], self.memory[on] = np.nan, 0, self._first[on]

    def run(self, window: np.ndarray, fresh: np.ndarray, memory: np.ndarray) -> dict[str, np.ndarray]:
        """The bare graph: window float32 [asset, W, channel], fresh int64 [asset], memory float64 [asset, M]."""
        return dict(zip(self.names, self.graph.run(None, {"window": window, "fresh": fresh, "memory": memory}), strict=True))

    def step(self, on: np.ndarray, readings: np.ndarray) -> Scored:
        """Takes the newest reading float32 [asset, channel] of the assets in `on`; scores those that are due.

        An asset whose newest reading has no value at all is off or silent: its verdict is no evidence for an alarm, nor against. The
        same holds where every value that was measured comes from a faulty sensor.
        """
        self._window[on, :-1] = self._window[on, 1:]
        self._window[on, -1] = readings
        self._pending[on] += 1
        due = on[self._pending[on] >= self.spec.hop]
        if not len(due):
            return Scored(due, Verdict(), np.zeros(0, bool), {}, np.zeros((0, readings.shape[1]), bool))
        out = self.run(self._window[due], self._pending[due], self.memory[due])
        self.memory[due], self._pending[due] = out["memory_next"], 0
        verdict = Verdict(**{name: out[name] for name in VERDICTS if name in out})
        newest = self._window[due, -1]
        quality = np.zeros(newest.shape, np.int64) if verdict.quality is None else verdict.quality
        if quality.any():
            alone = (np.isnan(newest) | (quality > 0) | ~self._measured).all(1)
            newest = np.where(alone[:, None], np.float32(np.nan), newest)
        told = evidence(verdict.output(self.alarm.policy.output), newest)
        return Scored(due, verdict, self.alarm.step(due, told), out, self.sensors.step(due, quality))

    def through(self, ticks: Ticks) -> Iterator[tuple[int, Scored]]:
        """All assets by step rank, in one batch: the rank, and what that step gave."""
        lengths, again = np.array([len(v) for v in ticks.values]), _ranks_anew(ticks)
        for rank in range(int(lengths.max(initial=0))):
            on = np.flatnonzero(lengths > rank)
            if rank in again:
                self.begin_anew(np.array(again[rank]))
            yield rank, self.step(on, np.stack([ticks.values[i][rank] for i in on]))


def _ranks_anew(ticks: Ticks) -> dict[int, list[int]]:
    """Step rank -> the assets, by position, that begin another life there."""
    found: dict[int, list[int]] = {}
    for i, (asset, start, values) in enumerate(zip(ticks.assets, ticks.start, ticks.values, strict=True)):
        for tick in ticks.anew.get(asset, ()):
            if 0 <= tick - start < len(values):
                found.setdefault(int(tick - start), []).append(i)
    return found
