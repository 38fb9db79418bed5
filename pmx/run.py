"""The command line: configuration -> problems -> pipeline -> tracking. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import argparse
import errno
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmx.command import Parser, promised

if TYPE_CHECKING:
    from pmx.tracking import Tracker

OWN_FLAGS = ("--json", "--quiet", "--debug", "--fresh", "--help", "-h")
ACCEPT = "--accept-leakage"
NEEDS_TRAIN = "Training needs the train extra: pip install 'pmx-maintenance[train]'"
HYDRA = "Words after NAME are Hydra's: group=choice or key.sub=value. All settings: pmx run NAME --cfg job"
SWEEP = "key=1,2,3 or key='range(1, 9)' or key='interval(0.01, 0.1)' or key='tag(log, interval(0.001, 1))' vary a setting; sweep.trials=N, sweep.jobs=N. "
RESUME = "Only sweeps are resumed: a run that was killed is run again, and reads the feature tables that it had computed."


def _parser() -> Parser:
    parser = Parser(
        prog="pmx",
        description="From the history of a fleet of machines to a small sealed file that predicts failures on the machine itself.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    shared.add_argument("--quiet", action="store_true", help="print no progress")
    shared.add_argument("--debug", action="store_true", help="show tracebacks")

    def command(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:], epilog=epilog, parents=[shared])

    _runs(command)
    data = command("data", "list, fetch, check, profile or export data sets, or compute their features")
    data.add_argument("action", choices=["list", "check", "profile", "export", "features", "fetch"])
    data.add_argument("source", nargs="?", metavar="SOURCE", help="such as cmapss; all but fetch also take an experiment")
    data.add_argument("overrides", nargs="*", metavar="key=value", help="such as source.subset=FD003 or on_error=quarantine")
    data.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the page of profile, the CSV of export, or the folder of features goes (runs/profile/<name>.html, "
        "runs/export/<name>.csv, runs/features/<name>)",
    )
    data.add_argument("--hop", type=int, default=1, metavar="N", help="features: a row every N ticks of an asset (1)")
    data.add_argument("--fresh", action="store_true", help="features: compute them anew, whatever is there")
    new = command("new", "draft a plant's card and experiment from its raw files")
    new.add_argument("plant", metavar="PLANT", help="its name, such as mill_3")
    new.add_argument("--readings", nargs="+", required=True, metavar="FILE", help="CSV, TXT, TSV or Parquet; files, patterns or folders")
    new.add_argument("--orders", nargs="+", default=[], metavar="FILE", help="an export of work orders")
    new.add_argument("--force", action="store_true", help="write anew what is there already")
    verify = command("verify", "check a bundle's digests and its self-test")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    _reviews(command)
    command("version", "print the version")
    return parser


def _reviews(command: Callable[..., argparse.ArgumentParser]) -> None:
    compare = command("compare", "runs side by side; two that are named are paired on the same test assets")
    what = "beginnings of run ids, numbers of versions, champion or challenger; none = the latest runs"
    compare.add_argument("runs", nargs="*", metavar="RUN", help=what)
    compare.add_argument("--model", default="", metavar="NAME", help="whose versions, where there are several registered models")
    compare.add_argument("--output", type=Path, metavar="FOLDER", help="where the plots go (compare, in the store's folder)")
    promote = command("promote", "make a registered version the champion; a gate that failed refuses it (exit code 8)")
    promote.add_argument("name", metavar="NAME", help="a registered model, or how its name begins")
    promote.add_argument("version", nargs="?", default="", metavar="VERSION", help="a number, or challenger, which is meant without a word")
    promote.add_argument(ACCEPT, action="store_true", help="although findings of leakage were let stand in its run")
    promote.add_argument(
        "--other-data", action="store_true", help="although it was not compared with the champion: other data, test part or rules"
    )
    ui = command("ui", "open the page where runs are reviewed (MLflow)")
    ui.add_argument("--port", type=int, default=5000, help="first port that is tried (5000)")
    for one in (compare, ui):
        one.add_argument("--experiment", default="", help="whose runs (those of the newest run's experiment)")
    for one in (compare, ui, promote):
        one.add_argument("--store", type=Path, default=Path("runs/mlflow"), help="folder of the store (runs/mlflow)")


def _runs(command: Callable[..., argparse.ArgumentParser]) -> None:
    for name, text, epilog in (
        ("run", "run an experiment: train, select, package, replay, judge, register", HYDRA),
        ("sweep", "try many settings on validation, for quality and device cost together; the test part is not met", SWEEP + HYDRA),
    ):
        one = command(name, text, epilog)
        one.add_argument("name", metavar="NAME", help="an experiment; a wrong name lists them all")
        one.add_argument("overrides", nargs="*", metavar="key=value", help="changes to its settings")
        one.add_argument("--fresh", action="store_true", help="compute feature tables anew instead of reading what an earlier run computed")
        if name == "run":
            one.add_argument(ACCEPT, metavar="REASON", help="let findings of the leakage gate stand; every table then says why")
    one = command("resume", "go on with a sweep that was interrupted or killed; no finished trial is repeated", RESUME)
    one.add_argument("sweep", nargs="?", metavar="SWEEP", help="its folder, or its experiment's name; none = the latest unfinished one")


def main(argv: list[str] | None = None) -> int:
    """Runs a command; exit codes: 0 ok, 2 usage, 3 bad data, 4 digest, 5 incompatible, 7 hang, 8 gate failed."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    with promised(argv):
        if argv[:1] and argv[0] in ("run", "sweep"):  # the rest belongs to Hydra, flags included
            accepted, argv = _reason(argv)
            own = [a for a in argv if a in OWN_FLAGS]
            rest = [a for a in argv[1:] if a not in OWN_FLAGS]
            options = parser.parse_args([argv[0], *own, *rest[:1], *accepted])
            options.overrides = rest[1:]
        else:
            options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    return _guarded(options)


def _reason(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our own flag that takes a value, as one word for argparse, and the words without it."""
    for i, word in enumerate(argv):
        if word == ACCEPT and i + 1 < len(argv) and not argv[i + 1].startswith("--"):
            return [f"{ACCEPT}={argv[i + 1]}"], argv[:i] + argv[i + 2 :]
        if word == ACCEPT or word.startswith(f"{ACCEPT}="):
            return [word], argv[:i] + argv[i + 1 :]
    return [], argv


def _guarded(options: argparse.Namespace) -> int:
    from pmx.contract import PmxError

    work = {
        "run": _run, "sweep": _run, "resume": _resume, "data": _data, "new": _new, "verify": _verify,
        "compare": _compare, "promote": _promote, "ui": _ui, "version": _version,
    }[options.command]  # fmt: skip
    try:
        result = work(options)
    except PmxError as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        if options.json:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code, **error.details}))
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; what had begun is marked FAILED", file=sys.stderr)
        return _told(options, "interrupted", 130)
    except OSError as error:
        if options.debug:
            raise
        said = f"Cannot use {error.filename or 'a file'}: {error.strerror} -> make room, or mend the path or its permissions"
        print(said, file=sys.stderr)
        return _told(options, said, 6 if error.errno == errno.ENOSPC else 2)
    except ModuleNotFoundError as error:
        if options.debug or (error.name or "").split(".")[0] == "pmx":
            raise
        print(NEEDS_TRAIN, file=sys.stderr)
        return _told(options, NEEDS_TRAIN, 2)
    if options.json:
        print(json.dumps(result))
    return 0


def _told(options: argparse.Namespace, error: str, code: int) -> int:
    """The exit code, after the last line that `--json` promises."""
    if options.json:
        print(json.dumps({"error": error, "exit_code": code}))
    return code


# ---- run and sweep


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from pmx import config
    from pmx.contract import UsageError
    from pmx.job import job

    if any(o.startswith("--experimental-rerun") for o in options.overrides):
        raise UsageError(
            "--experimental-rerun reads a pickled file, which pmx never does -> run the experiment again with the overrides in .hydra/overrides.yaml"
        )
    words = [o for o in options.overrides if o not in ("-m", "--multirun")]
    if options.command == "sweep" or words != options.overrides:
        from pmx.tune import sweep

        return sweep(options.name, words, options.quiet, options.fresh)
    accept = _accepted(options.accept_leakage)
    results = config.launch(
        options.name, options.overrides, lambda cfg, folder: job(cfg, folder, options.name, options.quiet, accept, options.fresh)
    )
    return results[0] if results else {}


def _resume(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.tune import resume

    return resume(options.sweep, options.quiet)


def _accepted(reason: str | None) -> str:
    """The reason in one line, empty where findings are not to stand; refused where it is no reason."""
    from pmx.contract import UsageError

    said = " ".join((reason or "").split())
    if reason is not None and (not said or re.match(r"[+~]*[\w./@]+=", said)):
        what = f"{said!r} is a setting" if said else "it is empty"
        raise UsageError(f"{ACCEPT} needs a reason, and {what} -> {ACCEPT} 'why the findings may stand', after all settings")
    return said


# ---- the other commands


def _data(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.data import check_data, export_data, features_data, fetch_data, list_data, profile_data

    if options.action == "list":
        return list_data()
    from pmx.contract import UsageError

    if not options.source:
        raise UsageError(f"pmx data {options.action} needs a source -> pmx data list shows them")
    if options.action == "profile":
        return profile_data(options.source, options.overrides, options.output)
    if options.action == "features":
        return features_data(options.source, options.overrides, options.output, options.hop, options.fresh, options.quiet)
    if options.action == "export":
        return export_data(options.source, options.overrides, options.output)
    return (check_data if options.action == "check" else fetch_data)(options.source, options.overrides)


def _new(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.new import new_plant

    return new_plant(options.plant, options.readings, options.orders, options.force)


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
    for name, gate in evidence["gates"].items():
        print(f"  {name} {'✓' if gate['passed'] else '✗'}  {gate['detail']}")
    print(f"Self-test: largest difference {tested['largest_difference']:.3g} (bound {tested['bound']:g}), no golden alarm changed")
    print("Not signed: digests show that nothing changed since it was sealed, not who sealed it")
    return {"core_digest": bundle.core, "gates": gates, "selftest": tested}


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.contest import compare

    return compare(_reader(options.store, options.experiment), options.runs, options.model, options.output)


def _promote(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.contest import promote

    return promote(_reader(options.store, ""), options.name, options.version, options.accept_leakage, options.other_data)


def _ui(options: argparse.Namespace) -> dict[str, Any]:
    from pmx.page import ui

    tracker = _reader(options.store, options.experiment)
    print("Starting MLflow, which takes some seconds ...", file=sys.stderr, flush=True)
    ui(tracker, options.port)
    return {}


def _reader(folder: Path, experiment: str) -> Tracker:
    """An existing store, after runs that were killed are marked, or registered where that alone was left."""
    from pmx.job import tidy
    from pmx.tracking import Tracker

    tracker = Tracker(_store(folder), experiment, new=False)
    tidy(tracker)
    return tracker


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
