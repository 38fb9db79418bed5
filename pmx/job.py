"""A run: the pipeline between the two ends of an MLflow run, and what is told of it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmx.config import Parts
    from pmx.contest import Beside
    from pmx.contract import PmxError
    from pmx.gate.result import Gate
    from pmx.plan import Plan, Result
    from pmx.tracking import Outcome, Tracker


ALARMS_SHOWN = 5


def job(cfg: DictConfig, folder: Path, name: str, quiet: bool, accept: str = "", fresh: bool = False) -> dict[str, Any]:
    """The pipeline between two ends of an MLflow run; `accept` is why findings of leakage may stand,
    `fresh` computes feature tables anew.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from pmx import config
    from pmx.contract import GateError

    begin, parts = time.perf_counter(), config.build(cfg)
    from pmx.pipeline import run  # after the checks: a typo should not wait for heavy imports
    from pmx.progress import Progress
    from pmx.reads import Reads
    from pmx.registry import Registry
    from pmx.tracking import Tracker

    tracker = Tracker(local_folder(cfg.tracking.store), cfg.tracking.experiment)
    tidy(tracker)
    flag = ["--accept-leakage", shlex.quote(accept)] if accept else []
    command, code = " ".join(["pmx run", name, *typed(HydraConfig.get().overrides.task), *flag]), revision()
    plain: dict[str, Any] = cast(Any, OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    run_id = tracker.start(cfg.name, plain, revision=code, seeds={"run": cfg.seed}, tags={"pmx.command": command})
    provenance = {"run_id": run_id, "git_revision": code, "experiment": cfg.name, "seed": cfg.seed, "versions": versions()}
    plan = plan_of(plain, parts, folder, fresh)
    plan = replace(plan, provenance=provenance, accept_leakage=accept, meet=Reads(tracker.folder).noting(run_id, provenance))
    try:
        with Progress(quiet) as progress, one_thread():
            result = run(plan, progress)
        outcome = _record(tracker, run_id, plan, result, plain, command)
        summary = _summary(run_id, result, outcome.title, cfg.name)
        if result.refused:
            tracker.refuse(run_id, result.refused.culprit, result.refused.detail, outcome)
            raise _refusal(result, summary | {"seconds": round(time.perf_counter() - begin, 1)})
        model = _model_name(cfg.name, result)
        tracker.finish(run_id, outcome, model if cfg.tracking.register else "")
    except GateError:
        raise
    except BaseException as error:  # an interrupt too must not leave the run RUNNING
        tracker.fail(run_id, str(error) or type(error).__name__)
        raise
    version, told = "", ""
    if cfg.tracking.register:
        registered = Registry(tracker).register(run_id, model, result.core)
        version, told = registered.version.number, f", {registered.told}"
    _ending(result, told, cfg.name, tracker.links(run_id))
    return summary | {"seconds": round(time.perf_counter() - begin, 1), "version": version}


def plan_of(plain: dict[str, Any], parts: Parts, folder: Path, fresh: bool) -> Plan:
    """What a run or a trial is made of, from its resolved settings and the objects that they build."""
    from pmx.feature.cache import TableCache
    from pmx.plan import Plan

    objects = (parts.source, parts.window, parts.feature, parts.model, parts.alarm, parts.evaluate)
    plan = Plan(plain["name"], *objects, plain["device"], folder, plain["on_error"], plain["fit_scope"], plain["seed"])
    return replace(plan, tables=TableCache(local_folder(plain["out"]) / "tables", fresh=fresh))


def _record(tracker: Tracker, run_id: str, plan: Plan, result: Result, plain: dict[str, Any], command: str) -> Outcome:
    """Data, candidates and tables to MLflow and to the screen."""
    from pmx.contest import beside
    from pmx.evaluate.alarm import alarm_list, write_alarms
    from pmx.evaluate.versus import evaluation
    from pmx.gate.leakage import write_checks
    from pmx.pack.budget import Limits
    from pmx.review.gather import gather
    from pmx.review.page import write_page
    from pmx.select.cost import candidate_table

    tracker.data(run_id, result.history.name, result.history.digest, str(plain["source"].get("root") or "simulated"))
    for trial in result.trials:
        cost = {f"cost/{k}": v for k, v in trial.cost.items()}
        tracker.log_candidate(run_id, trial.name, plain["model"][trial.name], trial.metrics | cost)
    if any(t.cost for t in result.trials):
        print(f"\nCandidates on validation, and on the device\n{candidate_table(result.trials, result.winner.name, Limits(**plan.limits))}")
    alarms = alarm_list(result.played, result.truth, plan.protocol)
    write_alarms(plan.folder / "alarms.csv", alarms)
    write_checks(plan.folder / "leakage.csv", _leakage(result))
    report = plan.folder / "report.html"
    facts = gather(plan, result, alarms, command)
    write_page(report, facts)
    kept = evaluation(result.rows, result.truth, plan.protocol, result.history.contract, result.history.digest)
    others = beside(tracker, run_id, _model_name(plan.name, result), kept)
    against = facts.verdict.reasons[0].rstrip(".") if facts.verdict.answer == "no" else ""
    outcome = _outcome(result, plan, command, others, against)
    longest = sorted(alarms, key=lambda a: -a.length)
    _show(result, [a.line() for a in longest])
    print("\n".join(said for said in (others.versus, others.reads) if said))
    print(f"Report {short_path(report)}")
    return outcome


def _leakage(result: Result) -> Gate:
    return next(g for g in result.gates if g.name == "leakage")


def _summary(run_id: str, result: Result, title: str, experiment: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "experiment": experiment,
        "title": title,
        "winner": result.winner.name,
        "bundle": str(result.bundle),
        "report": str(result.bundle.parent / "report.html"),
        "metrics": {k: None if v != v else v for k, v in result.metrics.items()},
        "gates": {g.name: g.passed for g in result.gates},
        **({"leakage_accepted": _leakage(result).accepted} if _leakage(result).accepted else {}),
    }


def _model_name(experiment: str, result: Result) -> str:
    """Registered models are apart by data and task: a champion of one fleet is none for another."""
    data = result.history.name + ("" if result.winner.task == "rul" else f" {result.winner.task}")
    return data if data.startswith(experiment) else f"{experiment} {data}"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch and numpy at one thread, LightGBM's own `threads` aside: more would make the small networks slower, and other ones."""
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _show(result: Result, alarms: list[str]) -> None:
    from pmx.evaluate.report import accepted_line, no_better
    from pmx.gate.leakage import check_table

    leak = _leakage(result)
    for note in result.history.notes:
        print(f"Note: {note}")
    for table in result.tables[:-1]:
        print(f"\n{table}")
    if alarms and result.winner.task != "rul":
        print("\nAlarms of the test part, the longest first, with the channels furthest from normal in standard deviations")
        print(
            "\n".join(alarms[:ALARMS_SHOWN] + [f"... and {len(alarms) - ALARMS_SHOWN} more in alarms.csv"] * (len(alarms) > ALARMS_SHOWN))
        )
        print(accepted_line(leak.accepted), end="\n" if leak.accepted else "")
    if leak.findings:
        print(f"\nLeakage audit\n{check_table(leak)}")
    age = "with age" if any(k.reads_age for k in result.winner.features.kernels) else "without age"
    assets = f"{len(result.played.assets)} test {result.history.noun}"
    print(f"\nWinner {result.winner.name} · {assets}, replayed through the device code ({age})")
    if said := no_better(result.rows):
        print(said)
    print(f"{result.tables[-1]}\nGates: " + "  ".join(g.line() for g in result.gates))


def _refusal(result: Result, summary: dict[str, Any]) -> PmxError:
    from pmx.contract import GateError

    gate = cast(Any, result.refused)
    evidence = f"Nothing was registered. The evidence is in MLflow: pmx ui --experiment {summary['experiment']}"
    others = "".join(f"Gate {g.name} refused it too: {g.detail}\n" for g in result.gates if not g.passed and g is not gate)
    refusal = GateError(f"\n{gate.refusal()}\n{others}{evidence}", gate.culprit)
    refusal.details = summary | {"refused_by": gate.culprit, "gate": gate.name}
    return refusal


def _outcome(result: Result, plan: Plan, command: str, others: Beside, against: str) -> Outcome:
    import numpy as np

    from pmx.evaluate import plot
    from pmx.evaluate.report import no_better
    from pmx.evaluate.versus import main_error
    from pmx.select.cost import points_of
    from pmx.tracking import Outcome

    name, m = result.winner.output, result.metrics
    key = f"test/{main_error(result.history.contract)}"
    if name == "rul":
        number = f"RMSE {m[key]:.1f} [{m[key + '_lo']:.1f}, {m[key + '_hi']:.1f}]"
    elif name == "failure_probability" and m["test/n_failures"]:
        number = f"AUROC {m['test/auroc']:.2f}, caught {m['test/event_recall']:.0%} of {m['test/n_failures']:.0f}"
    elif result.truth.episodes is not None:
        number = f"F1 {m['test/f1']:.2f}, FAR {m['test/far']:.2f}"
    else:
        number = f"caught {m['test/event_recall']:.0%} of {m['test/n_failures']:.0f}" if m["test/n_failures"] else "no failure to catch"
    leak = _leakage(result)
    title = f"{result.history.name} · {result.winner.name} · {number}" + (" · leakage accepted" if leak.accepted else "")
    limit = next(t.policy.raise_at for t in result.trials if t.name == result.winner.name)
    figures = {"trajectories": plot.trajectories(result.played, result.truth, plan.protocol, limit)}
    if name == "rul":
        figures["error_by_true_rul"] = plot.error_by_life(result.played, result.truth, plan.protocol)
    if points := points_of(result.trials, result.winner.name):
        figures["candidates"] = plot.candidates(points, plan.limits["step_ms"] / plan.limits["headroom"])
    figures["parity"] = plot.device_against_model(np.concatenate(result.played.outputs[name]), result.offline, name)
    quarantine = plan.folder / "quarantine.parquet"
    return Outcome(
        title,
        _description(result, command, others),
        winner=result.winner.name,
        core_digest=result.core,
        test_reads=len(result.rows),
        metrics=m | {f"gate/{g.name}/{k}": v for g in result.gates for k, v in g.figures.items()} | dict(others.metrics),
        gates={g.name: g.passed for g in result.gates},
        figures=figures,
        files=(
            plan.folder / "report.html",
            plan.folder / "alarms.csv",
            plan.folder / "leakage.csv",
            *((quarantine,) if result.counts["quarantined"] or result.counts["cells"] else ()),
        ),
        bundle=None if result.refused else result.bundle,
        accepted=leak.accepted,
        doubt=no_better(result.rows).partition(":")[0] or against,
        data_reads=int(others.metrics["reads/this_data"]),
        evaluation=others.evaluation,
    )


def _description(result: Result, command: str, others: Beside) -> str:
    """What the run's page says, in Markdown; what decides comes first, since the page folds the rest away."""
    from pmx.evaluate.report import no_better
    from pmx.gate.leakage import check_table
    from pmx.markdown import from_text

    refused = result.refused is not None
    verdict = [
        "**Refused: nothing was registered.**" if refused else "**All gates passed.**",
        no_better(result.rows),
        others.versus,
        others.reads,
    ]
    gates = "\n".join(
        f"- {'✓' if g.passed else '✗'} **{g.name}**: {g.detail}" + (f" — culprit {g.culprit}" if g.culprit else "") for g in result.gates
    )
    first, *rest = [from_text(t) for t in [*reversed(result.tables), check_table(_leakage(result))]]
    again = f"Again: `{command}`\n\nBundle core digest `{result.core}`"
    return "\n\n".join([" ".join(v if v.endswith((".", "*")) else f"{v}." for v in verdict if v), first, gates, again, *rest])


def _ending(result: Result, registered: str, experiment: str, link: str) -> None:
    print(f"Bundle {short_path(result.bundle)}{registered}   MLflow pmx ui --experiment {experiment}, page {link}")
    following = "pmx run demo feature=leaky     (watch it refuse)" if experiment == "demo" else f"pmx verify {short_path(result.bundle)}"
    print(f"Next: {following}")


def typed(words: Sequence[str]) -> list[str]:
    """Overrides as a shell takes them; the value of a key that names a secret is masked."""
    from pmx.tracking import SECRET

    keys = [w.partition("=")[0] for w in words]
    return [shlex.quote(f"{k}=***" if SECRET.search(k) else w) for k, w in zip(keys, words, strict=True)]


def short_path(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def revision() -> str:
    """The code's own git revision, with `-dirty` where it has local changes; empty when it was installed from a wheel."""
    import subprocess

    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {n: version(n) for n in ("pmx-maintenance", "numpy", "onnxruntime", "polars", "lightgbm", "torch", "spox")}


def local_folder(store: str) -> Path:
    from pmx.contract import UsageError

    if "://" in store:
        raise UsageError(f"tracking.store: {store} is an address -> name a folder; runs are kept in an embedded database there")
    return Path(store)


def tidy(tracker: Tracker) -> None:
    """Marks runs that were killed, registers those that were killed between their end and that, and tells both on stderr."""
    from pmx.registry import Registry

    if killed := tracker.mark_killed():
        several = len(killed) > 1
        print(
            f"{len(killed)} earlier run{'s' * several} had been killed and {'are' if several else 'is'} now marked KILLED", file=sys.stderr
        )
    for told in Registry(tracker).late():
        print(told, file=sys.stderr)
