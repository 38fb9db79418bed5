"""`pmx sweep` and `pmx resume`: a study's trials between the two ends of an MLflow run, and what is told of them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pmx.attempt import RESULT, Call, attempts
from pmx.contract import DigestError, UsageError
from pmx.job import local_folder, revision, short_path, tidy, typed, versions
from pmx.process import process_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

    from pmx.study import Dimension, Row, Study
    from pmx.tracking import Tracker

ABOUT, DATABASE, PICTURE = "sweep.json", "sweep.db", "front.png"
JUDGES = ("window", "evaluate")  # groups that say by what a trial is judged
OWN_WORDS = ("sweep.", "hydra.", "hydra/", "+hydra")  # they steer a sweep and mean nothing to a run


def sweep(name: str, words: list[str], quiet: bool, fresh: bool = False) -> dict[str, Any]:
    """Tries many settings of an experiment on validation, within what a device can carry.

    Returns:
        What `--json` prints; empty after `--help` and its like.
    """
    from pmx import config

    keeper = Sweeping(name, words, quiet, fresh)
    config.launch(name, [*words, "hydra/sweeper=pmx"], keeper, multirun=True)
    return keeper.answer


def resume(which: str | None, quiet: bool) -> dict[str, Any]:
    """Goes on with a sweep that was interrupted.

    Args:
        which: folder of a sweep, or an experiment's name; None = the latest unfinished sweep under `runs`.
    """
    from pmx import config

    folder = _unfinished(which)
    about = json.loads((folder / ABOUT).read_text())
    keeper = Sweeping(about["experiment"], about["words"], quiet, False, about)
    quoted = str(folder).replace("'", "\\'")
    words = [*about["words"], "hydra/sweeper=pmx", f"hydra.sweep.dir='{quoted}'"]
    config.launch(about["experiment"], words, keeper, multirun=True)
    return keeper.answer


def _unfinished(which: str | None) -> Path:
    """The folder of the sweep that is meant."""
    folder = Path(which or "")
    if which and (folder / ABOUT).is_file():
        return folder.resolve()
    there = sorted(Path("runs").glob(f"*/sweep_*/{ABOUT}"), key=lambda p: p.parent.name)
    found = [p for p in there if which in (None, p.parent.parent.name)]
    waiting = [p for p in found if not json.loads(p.read_text())["finished"]]
    if not waiting:
        what = f"{which}: no sweep there" if which and not found else f"No sweep of {which or Path('runs').resolve()} is unfinished"
        raise UsageError(f"{what} -> pmx sweep NAME key=1,2 begins one; pmx resume FOLDER names one elsewhere; a run is simply run again")
    return waiting[-1].parent.resolve()


class Sweeping:
    """A sweep at work: Hydra's sweeper calls `search` once the words are read. `answer` is what came out.

    Args:
        name: the experiment.
        words: what the user typed after it.
        quiet: tell no progress.
        fresh: compute feature tables anew.
        about: of an interrupted sweep, as its `sweep.json` says; None = a new one.
    """

    def __init__(self, name: str, words: list[str], quiet: bool, fresh: bool, about: dict[str, Any] | None = None) -> None:
        self.name, self.words, self.quiet, self.fresh, self.about = name, words, quiet, fresh, about
        self.answer: dict[str, Any] = {}
        self.began = time.monotonic()

    def __call__(self, cfg: DictConfig, folder: Path) -> None:
        raise UsageError("hydra/sweeper=basic runs whole jobs, which meet the test part -> leave hydra/sweeper to pmx sweep")

    def search(self, cfg: DictConfig, fixed: list[str], space: list[Dimension]) -> None:
        """Runs what has no result yet, and tells of the whole."""
        from omegaconf import OmegaConf

        from pmx import config
        from pmx.feature.store import digest_of
        from pmx.front import COSTS
        from pmx.study import Study

        if not space:
            raise UsageError(
                f"Nothing varies -> pmx sweep {self.name} key=1,2 or key='interval(0.01, 0.1)', or sweep.space in the experiment"
            )
        if cfg.sweep.cost not in COSTS or cfg.sweep.trials < 1 or cfg.sweep.jobs < 1:
            raise UsageError(f"sweep: trials and jobs must be 1 or more, and cost one of {', '.join(COSTS)}")
        self.cfg, self.fixed, self.folder = cfg, fixed, Path(cfg.hydra.sweep.dir).resolve()
        first = config.compose(self.name, [*fixed, *(d.word(d.first) for d in space)])
        refuse_other_judges(self.name, fixed, space)
        config.build(first)  # a mistake is told before there is a folder
        self.plain = cast(dict[str, Any], OmegaConf.to_container(first, resolve=True, enum_to_str=True))
        sure = {"code": _code(), "settings": digest_of(self.plain, [asdict(d) for d in space], fixed)}
        with _alone(self.folder):
            if self.about is None and ((self.folder / ABOUT).exists() or (self.folder / DATABASE).exists()):
                where = short_path(self.folder)  # its trials may be of other settings
                raise UsageError(f"{where}: a sweep is there already -> pmx resume {where} goes on with it; a new one needs another folder")
            self._open(sure)
            study = Study(self.folder / DATABASE, space, cfg.sweep.trials, cfg.sweep.jobs, cfg.seed)
            try:
                self._work(study)
                self._ending(study)
            finally:
                study.close()
                self.tracker.close()

    def _open(self, sure: dict[str, str]) -> None:
        """The sweep's own file and its MLflow run: made, or found as they were left."""
        from pmx.tracking import Tracker

        tracking = self.cfg.tracking
        if self.about is not None:
            for what, mine in sure.items():
                if mine != self.about[what]:
                    made = f" (made with revision {self.about['revision']})" if self.about["revision"] else ""
                    raise DigestError(
                        f"Cannot resume {short_path(self.folder)}: the {what} changed since its trials were made{made}"
                        f" -> restore what it was, or begin anew: {self.about['command']}"
                    )
        self.tracker: Tracker = Tracker(local_folder(tracking.store), tracking.experiment)
        if self.about is not None and not self.about["finished"]:
            _reopen(self.tracker, self.about["run_id"])
        tidy(self.tracker)
        if self.about is not None:
            return
        command = " ".join(["pmx sweep", self.name, *typed(self.words)])
        tags = {"pmx.command": command}
        code, seeds = revision(), {"proposals": self.cfg.seed}
        run_id = self.tracker.start(f"{self.cfg.name} · sweep", self.plain, revision=code, tags=tags, seeds=seeds, kind="sweep")
        known = {"experiment": self.name, "words": self.words, "command": command, "revision": code, "run_id": run_id}
        self.about = {**known, **sure, "data": {}, "finished": False}
        self._keep()

    def _keep(self) -> None:
        from pmx.edge.table import replacing

        with replacing(self.folder / ABOUT) as part:
            part.write_text(json.dumps(self.about, indent=1))

    # ---- the trials

    def _work(self, study: Study) -> None:
        before = study.rows()
        done = [r for r in before if r.state != "open"]
        if self.about and before:
            left = [r.number for r in before if r.state == "open"]
            again = f", trial {', '.join(map(str, left))} again" if left else ""
            self._say(f"Resuming {short_path(self.folder)}: {len(done)} of {study.total} trials have a result{again}")
        else:
            how = "every combination once" if study.grid else "proposed by TPE on quality and cost"
            self._say(f"Sweep of {study.total} trials, {how}, in {short_path(self.folder)}")
        try:
            for rows in study.rounds():
                for row, result in self._run(rows, study):
                    self._record(study, row, result)
        except BaseException as error:
            self._say(f"Stopped; what is finished is kept -> pmx resume {short_path(self.folder)}")
            self.tracker.fail(cast(Any, self.about)["run_id"], str(error) or type(error).__name__)
            raise

    def _run(self, rows: list[Row], study: Study) -> Iterator[tuple[Row, dict[str, Any]]]:
        """Results of a round as they come. One that was written before its process or ours was killed is not computed again."""
        todo = []
        for row in rows:
            if (there := _read(self._place(row) / RESULT)) is not None:
                yield row, there
            else:
                todo.append(row)
        hidden = self.quiet or study.jobs > 1 or not sys.stderr.isatty()
        calls = [Call(self.name, (*self.fixed, *row.words), str(self._place(row)), self.fresh, hidden) for row in todo]
        yield from zip(todo, attempts(calls, study.jobs), strict=True)

    def _place(self, row: Row) -> Path:
        return self.folder / f"trial_{row.number:04}"

    def _record(self, study: Study, row: Row, result: dict[str, Any]) -> None:
        """To MLflow, then to the study: the second makes it finished, the first is not repeated where it was the last thing done."""
        from pmx.front import best, cost_of, measure_name, told

        about = cast(dict[str, Any], self.about)
        settings = dict(w.split("=", 1) for w in row.words)
        error = result.get("error", "") or self._stranger(study, result)
        if not error:
            key, digest = result["data"], result["digest"]
            if about["data"].setdefault(key, digest) != digest:
                was = about["data"][key]
                raise DigestError(
                    f"Cannot go on with {short_path(self.folder)}: the data changed since its trials learnt from them ({was[:12]}, now {digest[:12]})"
                    f" -> restore them, or begin anew: {about['command']}"
                )
            self._keep()
            result["value_cost"] = cost_of(result["cost"], self.cfg.sweep.cost)
        metrics = {} if error else {**result["metrics"], "value": result["quality"], **{f"cost/{k}": v for k, v in result["cost"].items()}}
        result["run_id"] = _log_trial(self.tracker, about["run_id"], row.number, settings, metrics, error)
        if error:
            study.fail(row.number, {**result, "error": error})
        else:
            study.finish(row.number, result["quality"], result["value_cost"], result)
        line = f"{row.number + 1} of {study.total}, trial {row.number}: "
        if error:
            line += f"failed: {error.strip().splitlines()[0]}"
        else:
            top = best(study.rows())
            so_far = f"best {told(top.record)} (trial {top.number})" if top else "none fits the device yet"
            line += f"{measure_name(result)} {told(result)}, step {result['cost']['p50_ms']:.2f} ms; {so_far}"
        self._say(f"{time.monotonic() - self.began:6.1f} s  {line}")

    def _stranger(self, study: Study, result: dict[str, Any]) -> str:
        """Why a trial cannot stand beside the others."""
        from pmx.front import finished

        other = next((r.record["task"] for r in finished(study.rows()) if r.record["task"] != result["task"]), "")
        return f"its task is {result['task']}, that of others {other}: their values do not compare" if other else ""

    # ---- what is told

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def _ending(self, study: Study) -> None:
        """The table, the picture of the front, the best that fits and the command that judges it; to the screen and to MLflow."""
        from pmx.front import best, finished, front, picture, table

        rows, about, cost = study.rows(), cast(dict[str, Any], self.about), self.cfg.sweep.cost
        done, taken, text = finished(rows), best(rows), table(rows)
        self.answer = {"sweep": str(self.folder), "run_id": about["run_id"], "cost": cost, "trials": [r.json() for r in rows]}
        print(f"\n{text}\n* no other trial is better in both quality and {cost}; > the best that fits {self.plain['device']['name']}")
        if not done:
            self.tracker.fail(about["run_id"], "no trial has a value")
            error = UsageError(f"No trial has a value; trial 0: {rows[0].record['error']}")
            error.details = self.answer
            raise error
        if len({r.record["judged"] for r in done}) > 1 or len(about["data"]) > 1:
            print("Note: not all trials met the same data and the same questions (source, window, evaluate): their values do not compare")
        figure, file = picture(rows, cost, f"{self.cfg.name}: {len(done)} trials on validation"), self.folder / PICTURE
        figure.savefig(file, dpi=130)
        command, link = self._command(taken) if taken else "", self.tracker.links(about["run_id"])
        print(f"Front {short_path(file)}   MLflow pmx ui --experiment {self.cfg.tracking.experiment}, page {link}")
        if taken:
            print(
                f"The best of {len(done)} looks better on validation than it is; no trial met the test part. It is met once, by\nNext: {command}"
            )
        else:
            print(f"None fits the device; trial {done[0].number}: {done[0].record['fit_detail']} -> smaller settings, or a larger device")
        chosen = {k: v for k, v in taken.json().items() if k in ("number", "words", "quality", "cost")} if taken else None
        self.answer |= {"best": chosen, "front": [r.number for r in front(rows)], "command": command, "picture": str(file)}
        if not about["finished"]:
            self._close(taken, f"```\n{text}\n```\n\nNext: `{command}`", figure)

    def _close(self, taken: Row | None, note: str, figure: Figure) -> None:
        """Ends the sweep: in MLflow, then in its own file."""
        from pmx.tracking import Outcome

        about = cast(dict[str, Any], self.about)
        title = f"{self.cfg.name} · sweep" + (f" · trial {taken.number}" if taken else " · none fits")
        metrics = {"value": taken.record["quality"], **{f"cost/{k}": v for k, v in taken.record["cost"].items()}} if taken else {}
        self.tracker.finish(about["run_id"], Outcome(title, note, metrics=metrics, figures={"front": figure}))
        for left in self.folder.glob("trial_*/bundle_*"):  # of processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        about["finished"] = True
        self._keep()

    def _command(self, taken: Row) -> str:
        last = {w.partition("=")[0]: w for w in [*self.fixed, *taken.words] if not w.startswith(OWN_WORDS)}
        return " ".join(["pmx run", self.name, *typed(list(last.values()))])


# ---- what may vary


def refuse_other_judges(name: str, fixed: list[str], space: list[Dimension]) -> None:
    """Refuses to vary what trials are judged by, `window` and `evaluate`: of values by different measures none is the best.

    Raises:
        UsageError: names the setting, and what follows from it where it is not of these groups itself, as a seed.
    """
    begin = {d.key: d.word(d.first) for d in space}
    before = _judge(name, [*fixed, *begin.values()])
    for d in space:
        own = re.match(rf"[+~]*({'|'.join(JUDGES)})([./@].*)?$", d.key)
        after = before if own else _judge(name, [*fixed, *(begin | {d.key: d.word(d.last)}).values()])
        others = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)] if before and after else []
        if own or others:
            what = f"{d.key}, which sets {' and '.join(others)}" if others else d.key
            how = f", or fix {' '.join(f'{k}={before.get(k)}' for k in others)} beside it" if others else ""
            raise UsageError(
                f"Cannot sweep {what}: it changes what trials are judged by, and of values by different measures none is the best"
                f" -> give it one value{how}; to see what hangs on it, one pmx sweep for each of its values"
            )


def _judge(name: str, words: list[str]) -> dict[str, Any]:
    """The settings that trials are judged by, flat; empty where they do not compose, which the trial itself will tell."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pmx import config
    from pmx.tracking import flatten

    try:
        cfg = config.compose(name, words)
        return flatten({group: OmegaConf.to_container(cfg[group], resolve=True) for group in JUDGES})
    except (UsageError, OmegaConfBaseException):
        return {}


# ---- a sweep in MLflow


def _log_trial(tracker: Tracker, parent: str, number: int, settings: dict[str, str], metrics: dict[str, float], error: str) -> str:
    """Records a trial as a nested run, once however often it is told, and gives its id."""
    known = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`pmx.trial` = '{number}'"
    for run in tracker.client.search_runs([tracker.experiment_id], known):
        if run.info.status != "RUNNING":
            return run.info.run_id
        tracker.client.delete_run(run.info.run_id)  # we were killed while it was being written
    tags = {"pmx.kind": "trial", "pmx.trial": str(number), "pmx.error": error}
    return tracker.log_candidate(parent, f"trial {number}", settings, metrics, tags)


def _reopen(tracker: Tracker, run_id: str) -> None:
    """Lets this process go on with the run that another one began; first whose it is, or another command would take it for a dead one's."""
    for tag, value in process_tags().items():
        tracker.client.set_tag(run_id, tag, value)
    tracker.client.update_run(run_id, status="RUNNING")


# ---- what makes two sweeps the same


def _code() -> str:
    """SHA-256 over our own code and the versions of what computes."""
    from importlib.metadata import version

    root, digest = Path(__file__).resolve().parent, hashlib.sha256(json.dumps([versions(), version("optuna")]).encode())
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any] | None:
    """A result that is there already; replaced whole when it was written, so that it is there or not."""
    return json.loads(file.read_text()) if file.is_file() else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time works on a sweep; the lock ends with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such lock on Windows: there, one must not resume what still runs
        yield
        return
    with open(folder / "sweep.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{short_path(folder)}: another process is at work on this sweep -> wait for it, or end it") from error
        yield
