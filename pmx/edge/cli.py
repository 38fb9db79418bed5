"""`pmx-edge`: what a technician runs on a device. Needs numpy and onnxruntime, nothing of training."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pmx.command import Parser, promised


def _parser() -> Parser:
    parser = Parser(prog="pmx-edge", description="Runs a pmx bundle on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = Parser(add_help=False)
    shared.add_argument("bundle", type=Path, metavar="BUNDLE", help="the directory that pmx run wrote")
    shared.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    shared.add_argument("--quiet", action="store_true", help="print no progress")
    shared.add_argument("--debug", action="store_true", help="show tracebacks; scores in this process, without a deadline")
    shared.add_argument(
        "--deadline", type=_seconds, default=60.0, metavar="SECONDS", help="longest silence of the scoring process before it is ended (60)"
    )
    shared.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # the child process of guard.py
    one = commands.add_parser("replay", parents=[shared], help="readings from a CSV file through the bundle; prints the alarm log")
    one.add_argument(
        "--input",
        type=Path,
        metavar="FILE.csv",
        help="columns asset, time and the channels of the bundle's card; or asset, time, channel, value and perhaps quality",
    )
    one.add_argument(
        "--waves",
        type=Path,
        metavar="FILE.npz",
        help="arrays asset, time and [snapshot, sample] for each wave channel, for a bundle that takes waveforms; --input then has the other channels",
    )
    one.add_argument(
        "--repairs",
        type=Path,
        metavar="FILE.csv",
        help="columns asset and time: when a repair was known that made the asset as good as new; what was remembered of it is forgotten",
    )
    one.add_argument("--output", type=Path, metavar="FILE.csv", help="write every verdict there")
    commands.add_parser("selftest", parents=[shared], help="the golden vectors through the bundle; refuses when they differ here")
    two = commands.add_parser("measure", parents=[shared], help="size, memory and time of a step on this machine")
    two.add_argument("--packed-as", metavar="DIGEST", help="core digest of a bundle that is not sealed yet")
    return parser


def _seconds(text: str) -> float:
    if not 0 < float(text) <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return float(text)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the exit code says what went wrong: 2 usage, 3 bad data, 4 digest, 5 incompatible, 6 no space, 7 hang."""
    argv = sys.argv[1:] if argv is None else argv
    with promised(argv):
        options = _parser().parse_args(argv)
    from pmx.contract import PmxError  # after the parser: numpy is not needed to show a help text

    work = {"replay": _replay, "selftest": _selftest, "measure": _measure}[options.command]
    if options.worker:
        return _as_worker(work, options)
    screen = _Screen(options.quiet)
    try:
        if options.debug:
            result = work(options, screen.show)
        else:
            from pmx.edge.guard import guarded

            result = guarded(argv, options.deadline, screen.show)
    except PmxError as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        if options.json:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
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
    except OSError as error:
        what = f"Cannot write {error.filename or 'a file'}: {error.strerror} -> make room, or mend the folder's permissions"
        send("error", {"message": what, "exit_code": 6 if error.errno == errno.ENOSPC else 2})
    return 0


class _Screen:
    """Text on stdout; progress on stderr, on one line of a terminal, or a line per quarter elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.last = quiet, ("", 0)

    def show(self, kind: str, value: Any) -> None:
        if kind == "text":
            print(value, flush=True)
            return
        what, done, total = value
        quarter = (what, 4 * done // max(total, 1))
        terminal = sys.stderr.isatty()
        if not self.quiet and (terminal or quarter != self.last):
            print(f"{what}: {done:,} of {total:,}", end="\r" if terminal and done < total else "\n", file=sys.stderr, flush=True)
        self.last = quarter


def _file_of(options: argparse.Namespace) -> Path:
    """The file that is replayed; refused where there is none, or where the verdicts would overwrite what is read."""
    from pmx.contract import UsageError

    if options.output and not options.output.resolve().parent.is_dir():
        raise UsageError(f"--output {options.output}: {options.output.parent} is no folder -> make it first")
    if not (options.input or options.waves):
        raise UsageError("nothing to replay -> name a file with --input or --waves")
    file: Path = options.input or options.waves
    taken = [f for f in (options.input, options.waves, options.repairs, file.with_suffix(".quarantine.csv")) if f]
    if options.output and options.output.resolve() in {f.resolve() for f in taken}:
        raise UsageError(f"--output {options.output} is one of the files that are read or set apart -> name another")
    return file


def _replay(options: argparse.Namespace, send: Any) -> dict[str, Any]:
    from pmx.bundle import Bundle
    from pmx.contract import DataError, shown

    file = _file_of(options)
    bundle = Bundle.open(options.bundle)
    played = _played(options, bundle, send)
    log = played.alarm_log()
    for alarm in log:
        send(
            "text",
            f"{shown(str(alarm['asset']))}  "
            + (f"sensor {shown(str(alarm['channel']))}: {alarm['state']}  " if alarm["kind"] == "sensor" else "")
            + f"raised {alarm['raised']}  "
            + (f"cleared {alarm['cleared']}" if alarm["cleared"] else "still standing"),
        )
    if played.ignored:
        send("text", f"Columns that the bundle does not know, left out: {shown(', '.join(played.ignored), 200)}")
    if played.breaches:
        _tell_refused(file, played, send)
    unwatched = [a for a in played.assets if bundle.known and a not in bundle.known]
    if unwatched:
        send("text", f"No verdict for {shown(', '.join(unwatched), 200)}: the bundle was made for {shown(', '.join(bundle.known), 200)}")
    if not played.assets:
        raise DataError(f"{file}: no reading was accepted of {played.rows} rows, nothing to replay -> correct the file")
    _check_enough(file, played)
    if options.output:
        played.write(options.output)
    speed = played.steps / max(played.seconds, 1e-9)
    sensors = sum(alarm["kind"] == "sensor" for alarm in log)
    counts = f"alarms raised: {len(log) - sensors}, of sensors: {sensors}, assets: {len(played.assets)}, steps: {played.steps} ({speed:,.0f} a second)"
    send("text", f"{counts}, core {played.core[:12]}")
    return {
        "core_digest": played.core,
        "rows": played.rows,
        "quarantined": len(played.refused),
        "cells": played.cells,
        "breaches": _by_channel(played),
        "ignored": list(played.ignored),
        "steps": played.steps,
        "steps_per_second": round(speed),
        "alarms": log,
        "without_verdict": unwatched,
    }


def _played(options: argparse.Namespace, bundle: Any, send: Any) -> Any:
    """The replay of rows, of waveforms, or of both."""
    from pmx.edge.replay import replay
    from pmx.edge.table import count_lines, read_blocks, read_csv, read_repairs
    from pmx.edge.wave import process_contract, wave_rows

    def progress(*at: Any) -> None:
        send("progress", at)

    anew = read_repairs(options.repairs, bundle.spec.contract) if options.repairs else {}
    if not options.waves:
        return replay(bundle, read_blocks(options.input, bundle.spec.contract), progress, count_lines(options.input), anew)
    beside = read_csv(options.input, process_contract(bundle, options.waves)) if options.input else None
    return replay(bundle, wave_rows(options.waves, bundle, beside, progress), progress, anew=anew)


def _check_enough(file: Path, played: Any) -> None:
    """Refuses a file of which more than half is lost, in rows or in the values of those that are left."""
    from pmx.contract import DataError

    refused = len(played.refused)
    strangers = sum(b.reason == "unknown_channel" for b in played.refused)  # other sensors in a long file say nothing against those we know
    if 2 * (refused - strangers) > played.rows - strangers:
        raise DataError(f"{file}: {refused:,} of {played.rows:,} rows refused, what is left tells nothing -> correct the file")
    if played.cells > played.values:
        told = f"{played.cells:,} of {played.cells + played.values:,} values set apart"
        raise DataError(f"{file}: {told}, what is left tells nothing -> correct the file")


def _by_channel(played: Any) -> dict[str, dict[str, int]]:
    """Channel -> reason -> how many breaches of it; without the channels that the bundle does not know."""
    found: dict[str, Counter[str]] = {name: Counter() for name in played.contract.names}
    for b in played.breaches:
        if b.channel in found:
            found[b.channel][b.reason] += 1
    return {name: dict(count) for name, count in found.items() if count}


def _tell_refused(file: Path, played: Any, send: Any) -> None:
    """Sets the refused rows and values apart in a file, and shows the first of them."""
    from pmx.contract import shown
    from pmx.edge.table import write_quarantine
    from pmx.judge import unit_hints

    refused, cells = played.breaches, played.cells
    quarantine = file.with_suffix(".quarantine.csv")
    try:
        write_quarantine(quarantine, refused)
        where = f"set apart in {quarantine}"
    except OSError as error:  # the verdicts are worth more than the list
        where = f"not kept: {quarantine} cannot be written ({error.strerror})"
    rows = f"{len(refused) - cells} of {played.rows} rows refused"
    send("text", f"{rows} and {where}" if not cells else f"{rows}, {cells} values of others; {where}")
    for b in refused[:8]:
        where = f"asset {shown(b.asset) or '?'}" + (f", channel {shown(b.channel)}" if b.channel else "")
        mend = f" -> {b.mend}" if b.why != b.rule.why else ""  # where the value itself tells more than the rule
        send("text", f"  row {b.row}, {where}: {b.value!r} {b.why} ({b.reason}){mend}")
    if len(refused) > 8:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in Counter(b.reason for b in refused[8:]).most_common())
        send("text", f"  … and {len(refused) - 8:,} more ({reasons})")
        of = sorted(_by_channel(played).items(), key=lambda item: -sum(item[1].values()))
        for name, count in of[:8]:
            send("text", f"  channel {shown(name)}: " + ", ".join(f"{n:,} {reason}" for reason, n in count.items()))
    for line in unit_hints(played.contract, refused):
        send("text", line)


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
