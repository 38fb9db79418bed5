"""`pmx-edge`: what a technician runs on a device. Needs numpy and onnxruntime, nothing of training."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pmx-edge", description="Runs a pmx bundle on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("bundle", type=Path, metavar="BUNDLE", help="the directory that pmx run wrote")
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    shared.add_argument("--quiet", action="store_true", help="print no progress")
    shared.add_argument("--debug", action="store_true", help="show tracebacks; scores in this process, without a deadline")
    shared.add_argument(
        "--deadline", type=float, default=60.0, metavar="SECONDS", help="longest silence of the scoring process before it is ended (60)"
    )
    shared.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # the child process of guard.py
    one = commands.add_parser("replay", parents=[shared], help="readings from a CSV file through the bundle; prints the alarm log")
    one.add_argument(
        "--input", type=Path, required=True, metavar="FILE.csv", help="columns asset, time and the channels of the bundle's card"
    )
    one.add_argument("--output", type=Path, metavar="FILE.csv", help="write every verdict there")
    commands.add_parser("selftest", parents=[shared], help="the golden vectors through the bundle; refuses when they differ here")
    two = commands.add_parser("measure", parents=[shared], help="size, memory and time of a step on this machine")
    two.add_argument("--packed-as", metavar="DIGEST", help="core digest of a bundle that is not sealed yet")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the exit code says what went wrong: 2 usage, 3 bad data, 4 digest, 5 incompatible, 7 hang."""
    argv = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(argv)
    from pmx.contract import PmxError  # after the parser: numpy is not needed to show a help text

    work = {"replay": _replay, "selftest": _selftest, "measure": _measure}[options.command]
    if options.worker:
        return _as_worker(work, options)
    try:
        if options.debug or options.command == "measure":
            result = work(options, lambda kind, value: _show(options, kind, value))
        else:
            from pmx.edge.guard import guarded

            result = guarded(argv, options.deadline, lambda kind, value: _show(options, kind, value))
    except PmxError as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps(result))
    return 0


def _as_worker(work: Any, options: argparse.Namespace) -> int:
    from pmx.contract import PmxError
    from pmx.edge.guard import send

    try:
        send("result", work(options, send))
    except PmxError as error:
        send("error", {"message": str(error), "exit_code": error.exit_code})
    return 0


def _show(options: argparse.Namespace, kind: str, value: Any) -> None:
    """Text on stdout; progress on stderr, on one line of a terminal, or a line per quarter elsewhere."""
    if kind == "text":
        print(value, flush=True)
    elif not options.quiet:
        what, done, total = value
        if sys.stderr.isatty():
            print(f"{what}: {done} of {total} steps", end="\n" if done == total else "\r", file=sys.stderr, flush=True)
        elif done == total or 4 * done // total > 4 * (done - 25) // total:
            print(f"{what}: {done} of {total} steps", file=sys.stderr, flush=True)


def _replay(options: argparse.Namespace, send: Any) -> dict[str, Any]:
    from pmx.bundle import Bundle
    from pmx.edge.replay import replay
    from pmx.edge.table import read_csv, write_quarantine

    bundle = Bundle.open(options.bundle)
    played = replay(bundle, read_csv(options.input, bundle.spec.contract), lambda *at: send("progress", at))
    log, refused = played.alarm_log(), played.breaches
    for alarm in log:
        send(
            "text",
            f"{alarm['asset']}  raised {alarm['raised']}  " + (f"cleared {alarm['cleared']}" if alarm["cleared"] else "still standing"),
        )
    if refused:
        quarantine = options.input.with_suffix(".quarantine.csv")
        write_quarantine(quarantine, refused)
        send("text", f"{len(refused)} of {played.rows} rows refused and set apart in {quarantine}")
        for b in refused[:8]:
            where = f"asset {b.asset or '?'}" + (f", channel {b.channel}" if b.channel else "")
            send("text", f"  row {b.row}, {where}: {b.value!r} {b.rule.why} ({b.reason})")
        if len(refused) > 8:
            send("text", f"  … and {len(refused) - 8} more")
    if options.output:
        played.write(options.output)
    speed = played.steps / max(played.seconds, 1e-9)
    send("text", f"{len(log)} alarms, {len(played.assets)} assets, {played.steps} steps ({speed:,.0f} a second), core {played.core[:12]}")
    return {
        "core_digest": played.core,
        "rows": played.rows,
        "quarantined": len(refused),
        "steps": played.steps,
        "steps_per_second": round(speed),
        "alarms": log,
    }


def _selftest(options: argparse.Namespace, send: Any) -> dict[str, Any]:
    from pmx.bundle import Bundle
    from pmx.edge.selftest import selftest

    result = selftest(Bundle.open(options.bundle))
    send(
        "text",
        f"Self-test passed: largest difference {result['largest_difference']:.3g} (bound {result['bound']:g}), no golden alarm changed",
    )
    return result


def _measure(options: argparse.Namespace, send: Any) -> dict[str, Any]:
    from pmx.bundle import Bundle
    from pmx.edge.selftest import measure

    result: dict[str, Any] = measure(Bundle.open(options.bundle, options.packed_as))
    send(
        "text", f"{result['bytes']:,} bytes, {result['resident_mb']} MB resident, step p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms"
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
