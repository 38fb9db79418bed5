"""The parity gate: what training computed offline is what the device computes step by step, on the run's own data and on planted fixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import polars as pl
from spox import Tensor, argument, build

from pmx.alarm.state import Policy
from pmx.align import Ticks, tick_text
from pmx.bundle import Bundle, to_npz
from pmx.contract import Contract
from pmx.edge.replay import Replayed
from pmx.edge.step import Stepper, session
from pmx.evaluate.protocol import Protocol
from pmx.feature.features import Now
from pmx.feature.graph import step_graph
from pmx.feature.past import Past
from pmx.gate.result import Gate
from pmx.model import Model
from pmx.pack.classes import probability
from pmx.pack.core import core_files, memory0
from pmx.pack.fitted import Fitted
from pmx.window.label import lives_in

LEAST_EQUAL = 0.99999  # share of features that must be equal to the last bit
BOUND = 1e-5  # of verdicts, relative to the larger of 1 and the value
EXACT_BOUND = 2e-7  # the same for a model that claims to be exact: one rounding to float32
MOST_TICKS = 10_000  # of each asset, from its first on, whose features are compared; verdicts are compared on all
MOST_PLANTED = 2_000  # ticks of a planted history
CHUNKS = (1, 7, 32)  # ticks that the graph takes at once
MOST_CHUNKED, MOST_ALONE = 200, 12  # ticks of an asset, and assets, that are stepped alone
RULE = f"at least {LEAST_EQUAL:.3%} of features bit-equal, no tree leaf changed, verdicts within {EXACT_BOUND:g} (trees) or {BOUND:g}"


def as_ticks(frame: pl.DataFrame, contract: Contract) -> Ticks:
    """Polars ticks as the device's own."""
    parts = frame.partition_by("asset", maintain_order=True)
    names = [p["asset"][0] for p in parts]
    values = [p.select(contract.names).to_numpy().astype(np.float32) for p in parts]
    anew = (
        {n: p["tick"].filter(p["life"].diff() > 0).to_numpy() for n, p in zip(names, parts, strict=True)} if "life" in frame.columns else {}
    )
    return Ticks(names, np.array([p["tick"][0] for p in parts], np.int64), values, anew)


def features_by_step(core: dict[str, bytes], fitted: Fitted, frame: pl.DataFrame) -> np.ndarray:
    """Features float32 [row, feature] of ticks, computed by the step graph one tick after the other.

    Args:
        core: files whose graph shows its features.
        fitted: whose assets have constants of their own.
    """
    ticks = as_ticks(frame, fitted.features.contract_)
    stepper = Stepper(Bundle(core | {"memory0.npz": to_npz(memory0(fitted))}, ""), ticks.assets)
    begin = np.cumsum([0, *map(len, ticks.values)])
    out = np.full((begin[-1], len(fitted.features.names_)), np.nan, np.float32)
    for rank, scored in stepper.through(ticks):
        out[begin[scored.on] + rank] = scored.out["features"]
    return out


def fixtures(frame: pl.DataFrame, contract: Contract, window: int, seed: int = 0) -> pl.DataFrame:
    """Planted degenerate histories: constant, a channel without values, a repair, a 1e9 spike, an offset of 1e4, 5 % missing, and a
    history of every length up to one more than `window` ticks."""
    base = frame.filter(pl.col("asset") == _longest(frame)).head(MOST_PLANTED)
    measured = [c.name for c in contract.channels if c.role == "measurement"]
    row, rng = pl.int_range(pl.len()), np.random.default_rng(seed)
    holes = [pl.when(pl.Series(rng.random(len(base)) >= 0.05)).then(pl.col(c)).alias(c) for c in measured]
    made = {
        "constant": base.with_columns([pl.col(c).drop_nulls().first().alias(c) for c in measured]),
        "no values": base.with_columns(pl.lit(None, pl.Float32).alias(measured[0])),
        "spike": base.with_columns(
            [pl.when(row == len(base) // 2).then(pl.lit(1e9, pl.Float32)).otherwise(pl.col(c)).alias(c) for c in measured]
        ),
        "offset": base.with_columns([(pl.col(c) + 1e4).alias(c) for c in measured]),
        "missing": base.with_columns(holes),
        "settings missing": base.with_columns([pl.lit(None, pl.Float32).alias(c.name) for c in contract.channels if c.role == "setting"]),
        "repaired": base.with_columns(life=(row > len(base) // 3).cast(pl.Int64)),
        **{f"short {n:03}": base[:n] for n in range(1, window + 2)},
    }
    named = [part.with_columns(pl.lit(f"fixture {name}").alias("asset")) for name, part in made.items()]
    whole = [part if "life" in part.columns else part.with_columns(life=pl.lit(0, pl.Int64)) for part in named]
    return pl.concat(part.select(whole[0].columns) for part in whole).sort("asset", "tick")


def _longest(frame: pl.DataFrame) -> str:
    return str(frame.group_by("asset").len().sort("len", "asset")["asset"][-1])


def parity(
    fitted: Fitted, policy: Policy, protocol: Protocol, frame: pl.DataFrame, played: Replayed, verdicts: np.ndarray, seed: int = 0
) -> Gate:
    """Compares the Polars path with the step graph, and the shipped bundle's verdicts with the model's own.

    Args:
        frame: the ticks that were replayed.
        played: the replay of the bundle over them.
        verdicts: the model's own on the Polars path, float32 [row].
    """
    begun = frame.group_by("asset", maintain_order=True).head(MOST_TICKS)
    planted = fixtures(frame, fitted.features.contract_, fitted.features.rows, seed)
    found = compare_features(fitted, policy, protocol, begun, planted)
    equal, total, changed = 1 - found.unequal / found.total, found.total, found.changed
    shipped = np.concatenate(played.outputs[fitted.output])
    if len(shipped) != len(verdicts):
        culprit = f"the replay scored {len(shipped):,} ticks, the training path {len(verdicts):,}"
        return Gate("parity", False, "they cannot be compared", culprit=culprit, rule=RULE)
    if np.isnan(verdicts).all():
        told = "no tick has a verdict: every setting of the test part lies in no regime that two assets taught, or no feature has a value"
        return Gate("parity", False, told, culprit="nothing could be compared", rule=RULE)
    apart = _relative(shipped, verdicts)
    if "interval" in played.outputs:
        apart = max(apart, _relative(np.concatenate(played.outputs["interval"]), fitted.interval(frame, verdicts)))
    if "fault_probability" in played.outputs:
        apart = max(apart, _relative(np.concatenate(played.outputs["fault_probability"]), fitted.probability(frame)))
    head = _head_difference(fitted, fitted.table(begun), seed)
    figures = {
        "bit_equal": equal,
        "compared": float(total),
        "largest_relative": found.relative,
        "leaf_changes": float(changed),
        "verdict_difference": apart,
        "head_difference": head,
    }
    detail = (
        f"{equal:.6%} of {total:,} features bit-equal, {changed} tree leaves changed, verdicts differ by at most {max(apart, head):.2g}"
    )
    bound = EXACT_BOUND if fitted.model.model.exact else BOUND
    if equal < LEAST_EQUAL or changed or not max(apart, head) <= bound:
        culprit = found.worst or f"model {fitted.name}" + (_where(frame, shipped, verdicts) if not apart <= bound else "")
        return Gate("parity", False, detail, culprit=culprit, rule=RULE, figures=figures)
    return Gate("parity", True, detail, figures=figures)


@dataclass
class Comparison:
    """What two paths gave: how much was compared, how much differed, and where the largest difference is."""

    fitted: Fitted
    unequal: int = 0
    total: int = 0
    changed: int = 0
    size: float = 0.0
    relative: float = 0.0
    worst: str = ""

    def add(self, part: pl.DataFrame, first: np.ndarray, second: np.ndarray, how: str) -> None:
        """Features float32 [row, feature] of the same ticks on two paths; `how` says which, such as `offline, stepped`."""
        differs = ~((first == second) | (np.isnan(first) & np.isnan(second)))
        self.unequal, self.total = self.unequal + int(differs.sum()), self.total + differs.size
        if not differs.any():
            return
        at = np.argwhere(differs)
        a, b = first[differs].astype(np.float64), second[differs].astype(np.float64)
        apart = np.nan_to_num(np.abs(a - b), nan=np.inf)
        self.relative = max(self.relative, float(np.max(apart / np.maximum(1.0, np.nan_to_num(np.abs(a), posinf=1.0, neginf=1.0)))))
        if not self.worst or apart.max() > self.size:
            row, column = at[int(np.argmax(apart))]
            ways = [f"{value!r} {way}" for value, way in zip((first[row, column], second[row, column]), how.split(", "), strict=True)]
            self.size, self.worst = float(apart.max()), f"{_place(self.fitted, part, row, column)}: {', '.join(ways)}"
        rows, model = differs.any(1), self.fitted.model.model
        self.changed += int((model.leaves(first[rows]) != model.leaves(second[rows])).sum())


def _place(fitted: Fitted, part: pl.DataFrame, row: int, column: int) -> str:
    """Kernel, feature (which names the channel), asset and time of a value."""
    features, tick = fitted.features, int(part["tick"][int(row)])
    kernel = features.kernel_of(int(column)).label
    return f"kernel {kernel}, feature {features.names_[column]} of asset {part['asset'][int(row)]} at tick {tick} ({tick_text(features.contract_, tick)})"


def compare_features(fitted: Fitted, policy: Policy, protocol: Protocol, frame: pl.DataFrame, planted: pl.DataFrame) -> Comparison:
    """The offline path against the step graph, and the step graph against itself in chunks of ticks, with each asset alone."""
    planting = fitted.stand_in(planted["asset"].unique().to_list(), _longest(frame))
    found, core = Comparison(fitted), core_files(fitted, policy, protocol, "parity", show_features=True)
    chunks = sorted({min(c, fitted.features.rows) for c in CHUNKS})
    graphs = {c: session(core["model.onnx"] if c == 1 else _graph(fitted, c)) for c in chunks}
    for part, one in ((frame, fitted), (planted, planting)):  # what is an asset's own lies in its memory: one graph serves both
        stepped = features_by_step(core, one, part)
        found.add(part, one.table(part), stepped, "offline, stepped")
        few = part.with_row_index("place").group_by("asset", maintain_order=True).head(MOST_CHUNKED)
        few = few.filter(pl.col("asset").is_in(part["asset"].unique(maintain_order=True).head(MOST_ALONE).to_list()))
        for chunk, graph in graphs.items():
            rows, values = features_in_chunks(one, graph, few.drop("place"), chunk)
            at = few["place"].to_numpy()[rows]
            found.add(part[at], stepped[at], values, f"stepped with other assets, stepped alone in chunks of {chunk}")
    return found


def _graph(fitted: Fitted, hop: int) -> bytes:
    return step_graph(fitted.features, hop, fitted.head, fitted.slots, show_features=True)


def features_in_chunks(
    fitted: Fitted, graph: onnxruntime.InferenceSession, frame: pl.DataFrame, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features of an asset's every `chunk`-th tick and its last one, each asset alone: their rows int [n], and float32 [n, feature].

    Args:
        graph: built for a hop of `chunk`; its memory takes that many ticks at once, and fewer at the end.
    """
    features = fitted.features
    width, rows, found, begin = features.rows, [], [], 0
    for part in frame.partition_by(lives_in(frame), maintain_order=True):
        asset, values = part["asset"][0], as_ticks(part, features.contract_).values[0]
        padded = np.concatenate([np.full((width, values.shape[1]), np.nan, np.float32), values])
        memory = fitted.memory0([asset])
        ends = [*range(chunk, len(values), chunk), len(values)]
        for end, last in zip(ends, [0, *ends[:-1]], strict=True):
            given = {"window": padded[None, end : end + width], "fresh": np.array([end - last]), "memory": memory}
            memory, vector = graph.run(["memory_next", "features"], given)
            rows.append(begin + end - 1)
            found.append(vector[0])
        begin += len(values)
    return np.array(rows), np.stack(found)


def _where(frame: pl.DataFrame, shipped: np.ndarray, verdicts: np.ndarray) -> str:
    apart = np.where(np.isnan(shipped) & np.isnan(verdicts), 0.0, np.abs(shipped - verdicts))
    row = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))  # NaN on one side alone is the largest difference
    return f", asset {frame['asset'][row]} at tick {frame['tick'][row]}: {verdicts[row]:g} offline, {shipped[row]:g} shipped"


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if (~same & ~(np.isfinite(a) & np.isfinite(b))).any():
        return float("inf")
    a, b = a[~same], b[~same]
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)), initial=0.0))


def _head_difference(fitted: Fitted, x: np.ndarray, seed: int) -> float:
    """The model alone, on rows of the run and on rows that lie exactly on, just below and just above tree thresholds; batch 1 against many."""
    known = fitted.assets[:1]  # any one: the head is the same for all
    start = fitted.memory0(known or [""])[:, fitted.features.slots :]
    vector, present = argument(Tensor(np.float32, ("asset", x.shape[1]))), argument(Tensor(np.bool_, ("asset",)))
    memory = argument(Tensor(np.float64, ("asset", fitted.slots)))
    regime = argument(Tensor(np.int64, ("asset",)))
    said, kept = fitted.head(Now(vector, present, regime), memory)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = build(
        {"x": vector, "present": present, "regime": regime, "memory": memory}, {**{n: said[n] for n in fitted.outputs}, "kept": kept}
    )
    graph = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def score(part: np.ndarray) -> list[np.ndarray]:
        given = {
            "x": part,
            "present": np.ones(len(part), bool),
            "regime": np.full(len(part), -1),
            "memory": np.repeat(start, len(part), axis=0),
        }
        return [np.asarray(y).reshape(len(part), -1) for y in graph.run(list(fitted.outputs), given)]

    rng = np.random.default_rng(seed)
    rows = x[rng.choice(len(x), min(len(x), 500), replace=False)].copy()
    rows = np.concatenate([rows, _on_thresholds(fitted.model.model, rows, rng)])
    batched, single = score(rows), [np.concatenate(y) for y in zip(*(score(r[None]) for r in rows[:64]), strict=True)]
    point = 1 if fitted.output == "rul" else 0
    # each row is the first of an asset of its own: no running mean reaches from one to the next
    alone = np.array([f"row {i}" for i in range(len(rows))])
    past = Past.alone(rows, fitted.features.names_)
    model_says = fitted.stand_in(alone.tolist(), known[0] if known else "").verdict_of(past, alone, alone, np.ones(len(rows), bool))
    pairs = [(batched[0][:, point], model_says), (single[0][:, point], batched[0][:64, point])]
    if fitted.task == "fault":
        of_classes = probability(fitted.model.score(past, alone)).astype(np.float32)
        pairs += [(batched[1], of_classes), (single[1], batched[1][:64])]
    return max(_relative(a, b) for a, b in pairs)


def _on_thresholds(model: Model, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows whose features are replaced by float32 values on, below and above the thresholds that split on them."""
    planted = rows.copy()
    for feature, thresholds in model.thresholds().items():
        limit = np.finfo(np.float32).max / 2  # a split on missingness alone has a threshold near the end of float64
        near = np.clip(thresholds, -limit, limit).astype(np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
        planted[:, feature] = rng.choice(near, len(planted))
    return planted
