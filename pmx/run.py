"""The command line: configuration -> problems -> pipeline -> tracking. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmx.contract import PmxError
    from pmx.pipeline import Result
    from pmx.tracking import Outcome

OWN_FLAGS = ("--json", "--quiet", "--debug", "--help", "-h")
NEEDS_TRAIN = "Training needs the train extra: pip install 'pmx-maintenance[train]'"
HYDRA = "Words after NAME are Hydra's: group=choice, key.sub=value, key=1,2 with pmx sweep; pmx run NAME --cfg job shows all settings."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pmx",
        description="From the history of a fleet of machines to a small sealed file that predicts failures on the machine itself.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    shared.add_argument("--quiet", action="store_true", help="print no progress")
    shared.add_argument("--debug", action="store_true", help="show tracebacks")

    def command(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:], epilog=epilog, parents=[shared])

    for name, text in (
        ("run", "run an experiment: train, select, package, replay, judge, register"),
        ("sweep", "run an experiment for several values of a setting"),
    ):
        one = command(name, text, HYDRA)
        one.add_argument("name", metavar="NAME", help="an experiment; a wrong name lists them all")
        one.add_argument("overrides", nargs="*", metavar="key=value", help="changes to its settings")
    data = command("data", "list, check or fetch data sets")
    data.add_argument("action", choices=["list", "check", "fetch"])
    data.add_argument("source", nargs="?", metavar="SOURCE", help="such as cmapss")
    data.add_argument("overrides", nargs="*", metavar="key=value", help="such as source.subset=FD003 or on_error=quarantine")
    verify = command("verify", "check a bundle's digests and its self-test")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    compare = command("compare", "runs side by side")
    compare.add_argument("runs", nargs="*", metavar="RUN", help="run ids; none = the latest runs of the experiment")
    ui = command("ui", "open the page where runs are reviewed (MLflow)")
    ui.add_argument("--port", type=int, default=5000, help="first port that is tried (5000)")
    for one in (compare, ui):
        one.add_argument("--experiment", default="demo", help="whose runs (demo)")
        one.add_argument("--store", type=Path, default=Path("runs/mlflow"), help="folder of the store (runs/mlflow)")
    command("version", "print the version")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; exit codes: 0 ok, 2 usage, 3 bad data, 4 digest, 5 incompatible, 7 hang, 8 gate failed."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    if argv[:1] and argv[0] in ("run", "sweep"):  # the rest belongs to Hydra, flags included
        own = [a for a in argv if a in OWN_FLAGS]
        rest = [a for a in argv[1:] if a not in OWN_FLAGS]
        options = parser.parse_args([argv[0], *own, *rest[:1]])
        options.overrides = rest[1:]
    else:
        options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    return _guarded(options)


def _guarded(options: argparse.Namespace) -> int:
    from pmx.contract import PmxError

    work = {"run": _run, "sweep": _run, "data": _data, "verify": _verify, "compare": _compare, "ui": _ui, "version": _version}[
        options.command
    ]
    try:
        result = work(options)
    except PmxError as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        if options.json:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code, **getattr(error, "details", {})}))
        return error.exit_code
    except ModuleNotFoundError as error:
        if options.debug or (error.name or "").split(".")[0] == "pmx":
            raise
        print(NEEDS_TRAIN, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
    return 0


# ---- run and sweep


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from pmx import config
    from pmx.contract import UsageError

    if any(o.startswith("--experimental-rerun") for o in options.overrides):
        raise UsageError(
            "--experimental-rerun reads a pickled file, which pmx never does -> run the experiment again with the overrides in .hydra/overrides.yaml"
        )
    sweep = options.command == "sweep" or any(o in ("-m", "--multirun") for o in options.overrides)
    results = config.launch(options.name, options.overrides, lambda cfg, folder: _job(cfg, folder, options), multirun=sweep)
    if not sweep:
        return results[0] if results else {}
    for r in sorted(results, key=lambda r: r["metrics"].get("validation/rmse_cut_capped") or float("inf")):
        print(f"{r['title']}   {r['bundle']}")
    return {"runs": results}


def _job(cfg: DictConfig, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One job of a run or sweep: the pipeline between two ends of an MLflow run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from pmx import config

    begin, parts = time.perf_counter(), config.build(cfg)
    from pmx.pipeline import Plan, run  # after the checks: a typo should not wait for heavy imports
    from pmx.progress import Progress
    from pmx.tracking import Tracker

    tracker = Tracker(Path(cfg.tracking.store), cfg.tracking.experiment)
    _report_killed(tracker.mark_killed())
    command, revision = " ".join(["pmx run", options.name, *HydraConfig.get().overrides.task]), _revision()
    plain: dict[str, Any] = cast(Any, OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    run_id = tracker.start(cfg.name, plain, revision=revision, seeds={"run": cfg.seed}, tags={"pmx.command": command})
    provenance = {"run_id": run_id, "git_revision": revision, "experiment": cfg.name, "seed": cfg.seed, "versions": _versions()}
    objects = (parts.source, parts.window, parts.feature, parts.model, parts.alarm, parts.evaluate)
    plan = Plan(cfg.name, *objects, dict(cfg.device), folder, str(cfg.on_error), cfg.seed, provenance)
    try:
        with Progress(options.quiet) as progress:
            result = run(plan, progress)
    except BaseException as error:  # an interrupt too must not leave the run RUNNING
        tracker.fail(run_id, str(error) or type(error).__name__)
        raise
    tracker.data(run_id, result.history.name, result.history.digest, str(plain["source"].get("root") or "simulated"))
    for trial in result.trials:
        tracker.log_candidate(run_id, trial.name, plain["model"][trial.name], trial.metrics)
    outcome = _outcome(result, plan, command)
    _show(result)
    summary = {
        "run_id": run_id,
        "experiment": cfg.name,
        "title": outcome.title,
        "winner": result.winner.name,
        "bundle": str(result.bundle),
        "metrics": {k: None if v != v else v for k, v in result.metrics.items()},
        "gates": {g.name: g.passed for g in result.gates},
    }
    if result.refused:
        tracker.refuse(run_id, result.refused.culprit, result.refused.detail, outcome)
        raise _refusal(result, summary | {"seconds": round(time.perf_counter() - begin, 1)})
    tracker.finish(run_id, outcome)
    version = tracker.register(run_id, cfg.name, result.core) if cfg.tracking.register else ""
    _ending(result, cfg.name, version, tracker.links(run_id))
    return summary | {"seconds": round(time.perf_counter() - begin, 1), "version": version}


def _show(result: Result) -> None:
    for table in result.tables[:-1]:
        print(f"\n{table}")
    print(f"\nWinner {result.winner.name} · {len(result.played.assets)} test {result.history.noun}, replayed through the device code")
    print(f"{result.tables[-1]}\nGates: " + "  ".join(g.line() for g in result.gates))


def _refusal(result: Result, summary: dict[str, Any]) -> PmxError:
    from pmx.contract import GateError

    gate = cast(Any, result.refused)
    evidence = f"Nothing was registered. The evidence is in MLflow: pmx ui --experiment {summary['experiment']}"
    refusal = GateError(f"\n{gate.refusal()}\n{evidence}", gate.culprit)
    refusal.details = summary | {"refused_by": gate.culprit, "gate": gate.name}
    return refusal


def _outcome(result: Result, plan: Any, command: str) -> Outcome:
    import numpy as np

    from pmx.evaluate import plot
    from pmx.tracking import Outcome

    name, m, unit = result.winner.output, result.metrics, result.history.contract.life_unit
    key = "test/rmse_last_capped" if result.history.contract.clock == "life" else "test/rmse_all_capped"
    number = (
        f"RMSE {m[key]:.1f} [{m[key + '_lo']:.1f}, {m[key + '_hi']:.1f}] {unit}"
        if name == "rul"
        else f"caught {m['test/event_recall']:.0%}"
    )
    title = f"{result.history.name} · {result.winner.name} · {number}"
    gates = "\n".join(
        f"- {'✓' if g.passed else '✗'} **{g.name}**: {g.detail}" + (f" — culprit {g.culprit}" if g.culprit else "") for g in result.gates
    )
    tables = "\n\n".join(f"```\n{t}\n```" for t in result.tables)
    verdict = "All gates passed." if result.refused is None else "Refused: nothing was registered."
    reads = f"Test part met {len(result.rows)} times, once per row."
    description = f"{verdict} {reads}\n\n{tables}\n\n{gates}\n\nAgain: `{command}`\n\nBundle core digest `{result.core}`"
    ticks = {"trajectories": plot.trajectories(result.played, result.truth, plan.protocol)}
    if name == "rul":
        ticks["error_by_true_rul"] = plot.error_by_life(result.played, result.truth, plan.protocol)
    ticks["parity"] = plot.device_against_model(np.concatenate(result.played.outputs[name]), result.offline, name)
    quarantine = plan.folder / "quarantine.parquet"
    return Outcome(
        title,
        description,
        winner=result.winner.name,
        core_digest=result.core,
        test_reads=len(result.rows),
        metrics=m | {f"gate/{g.name}/{k}": v for g in result.gates for k, v in g.figures.items()},
        gates={g.name: g.passed for g in result.gates},
        figures=ticks,
        files=(quarantine,) if result.counts["quarantined"] else (),
        bundle=None if result.refused else result.bundle,
    )


def _ending(result: Result, experiment: str, version: str, link: str) -> None:
    registered = f", registered as {experiment} v{version} (champion)" if version else ""
    print(f"Bundle {_short(result.bundle)}{registered}   MLflow pmx ui --experiment {experiment}, page {link}")
    following = "pmx run demo feature=leaky     (watch it refuse)" if experiment == "demo" else f"pmx verify {_short(result.bundle)}"
    print(f"Next: {following}")


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _report_killed(killed: list[str]) -> None:
    if killed:
        print(
            f"{len(killed)} earlier run{'s' * (len(killed) > 1)} had been killed and {'are' if len(killed) > 1 else 'is'} now marked KILLED",
            file=sys.stderr,
        )


def _revision() -> str:
    import subprocess

    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {n: version(n) for n in ("pmx-maintenance", "numpy", "onnxruntime", "polars", "lightgbm", "torch", "spox")}


# ---- the other commands


def _data(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.data import check_data, fetch_data, list_data

    if options.action == "list":
        return list_data()
    from pmx.contract import UsageError

    if not options.source:
        raise UsageError(f"pmx data {options.action} needs a source -> pmx data list shows them")
    return (check_data if options.action == "check" else fetch_data)(options.source, options.overrides)


def _verify(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.bundle import Bundle
    from pmx.contract import DigestError
    from pmx.edge.guard import guarded

    bundle = Bundle.open(options.bundle)
    evidence = bundle.evidence
    if evidence.get("replayed_core_digest") != bundle.core:
        raise DigestError(f"{options.bundle}: the evidence is about another core than {bundle.core[:12]} -> pack and replay again")
    tested = guarded(["selftest", str(options.bundle)], 60.0, lambda *_: None)
    gates = {name: gate["passed"] for name, gate in evidence["gates"].items()}
    print(
        f"{bundle.spec.name}: {len(bundle.files)} files as sealed, {bundle.size:,} bytes, core {bundle.core[:12]}, the one that was replayed"
    )
    print("Gates: " + "  ".join(f"{n} {'✓' if ok else '✗'}" for n, ok in gates.items()))
    print(f"Self-test: largest difference {tested['largest_difference']:.3g} (bound {tested['bound']:g}), no golden alarm changed")
    print("Not signed: digests show that nothing changed since it was sealed, not who sealed it")
    return {"core_digest": bundle.core, "gates": gates, "selftest": tested}


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.tracking import Tracker, table

    tracker = Tracker(_store(options.store), options.experiment)
    _report_killed(tracker.mark_killed())
    rows = tracker.compare(options.runs or None)
    print(table(rows) if rows else f"No runs of {options.experiment} yet -> pmx run {options.experiment}")
    return {"runs": rows}


def _ui(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.page import ui
    from pmx.tracking import Tracker

    tracker = Tracker(_store(options.store), options.experiment)
    _report_killed(tracker.mark_killed())
    ui(tracker, options.port)
    return {}


def _store(folder: Path) -> Path:
    from pmx.contract import UsageError

    if not (folder / "mlflow.db").is_file():
        raise UsageError(f"{folder}: no store of runs there -> pmx run demo makes one, or name it with --store")
    return folder


def _version(options: argparse.Namespace) -> dict[str, Any]:
    import pmx

    print(f"pmx {pmx.__version__}")
    return {"version": pmx.__version__}


if __name__ == "__main__":
    sys.exit(main())
