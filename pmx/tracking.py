"""Every run in MLflow, for review: an embedded SQLite store, plain artifacts, no pickle.

It knows nothing of the pipeline: plain values come in, run ids, links and rows go out. A run of `pmx run` is one
parent, which carries the winner's numbers, with a nested run for each candidate. This module and `registry`, which knows
the versions that runs become, are all that imports MLflow.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# MLflow reads these when it is imported: nothing is sent to anybody, and no tips are printed between our own lines.
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_DISABLE_AGENT_HINT"):
    os.environ.setdefault(_name, "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # nor bars for files of a few kilobytes

import yaml  # noqa: E402  (the environment must be set first)
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from pmx.contract import DataError, UsageError  # noqa: E402
from pmx.database import check_database  # noqa: E402
from pmx.key import taken  # noqa: E402
from pmx.process import gone, process_tags  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two lines of INFO about creating tables, on the first use of every store: nothing that a user could act on.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
# Alembic would tell each of its 60 migrations where the application has set the root logger to INFO (Hydra does).
logging.getLogger("alembic").setLevel(logging.WARNING)

MAX_PARAM, MAX_TAG, MAX_DATASET_DIGEST = 6000, 8000, 36  # characters that MLflow's SQL store takes
SECRET = re.compile(r"passw(or)?d|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
PARENTS = ("run", "sweep")  # kinds that stand at the top, with children below them
GROUPS = ("test", "vs_champion", "validation", "test_no_age", "crossfit", "reads")  # baselines and gates follow
EVALUATION = "evaluation.json"
AWAITS = "pmx.register"  # the model that a finished run is still to become a version of


@dataclass(frozen=True)
class Outcome:
    """What a run found, for its reader. Everything but title and description may be absent when a run is refused early.

    Attributes:
        title: the run's name in the list, with its main number and interval.
        description: Markdown: verdict, table, gates, command that reproduces it.
        winner: the winning candidate's name.
        core_digest: identity of the packaged winner.
        test_reads: how often this run met the test part.
        metrics: the winner's, named as on the command line; absent, NaN and infinite ones are left out.
        gates: gate name -> passed.
        figures: file name without suffix -> figure, kept as PNG.
        files: further files to keep.
        bundle: the directory to keep as artifact `bundle`.
        accepted: why findings of leakage stand; empty where none had to.
        doubt: what needs no sensor and does as well, or why the report says not to deploy it; empty where nothing speaks against it.
        data_reads: how often the test part of these data was met by all runs of this store.
        evaluation: what a paired comparison needs, as plain data; kept as `evaluation.json`.

    Example:
        >>> Outcome("demo · ridge · RMSE 11", "Passed.", gates={"parity": True}).tags()["pmx.gate.parity"]
        'pass'
    """

    title: str
    description: str
    winner: str = ""
    core_digest: str = ""
    test_reads: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    gates: Mapping[str, bool] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    bundle: Path | None = None
    accepted: str = ""
    doubt: str = ""
    data_reads: int = 0
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """The tags that the run list can be filtered by."""
        gates = {f"pmx.gate.{name}": "pass" if passed else "fail" for name, passed in self.gates.items()}
        found = {"pmx.winner": self.winner, "pmx.core_digest": self.core_digest, "pmx.test_reads": str(self.test_reads)}
        may_lack = {"pmx.leakage_accepted": self.accepted, "pmx.doubt": self.doubt, "pmx.data_reads": str(self.data_reads or "")}
        return gates | found | {k: v for k, v in may_lack.items() if v}


class Tracker:
    """Writes the runs of one experiment into the MLflow store of a folder, creating both on first use.

    The store is `mlflow.db` and the artifacts lie under `artifacts`, both in `folder` and both known by absolute
    address, so that a command may be given from anywhere. Nothing global is set: several trackers do not meet.

    Args:
        folder: where the store is.
        experiment: name of the experiment on MLflow's page; empty = the one of the newest run, for who only reads.
        new: whether it may be created; who only reads must not.

    Raises:
        DataError: `mlflow.db` is damaged, or was written by another MLflow.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tracker = Tracker(Path(folder), "pumps")
        ...     run = tracker.start("trial", {"model": {"leaves": 31}})
        ...     tracker.finish(run, Outcome("pumps · lightgbm · RMSE 11", "Passed.", metrics={"test/rmse": 11.0}))
        ...     row = tracker.compare()[0]
        ...     tracker.close()
        >>> row["name"], row["metrics"]
        ('pumps · lightgbm · RMSE 11', {'test/rmse': 11.0})
    """

    def __init__(self, folder: Path, experiment: str, new: bool = True) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.artifacts = (self.folder / "artifacts").as_uri()
        file = self.folder / "mlflow.db"
        with alone(self.folder / "mlflow.lock"):
            check_database(file, self.folder / "artifacts")
            try:
                self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                self.experiment_id = self._experiment(experiment, new)
            except MlflowException as error:
                mend = f"use the MLflow that wrote it, or, on a copy: mlflow db upgrade '{self.uri}'"
                raise DataError(f"Cannot use {file}: {error.message.partition('. ')[0]} -> {mend}") from error

    def _experiment(self, name: str, new: bool) -> str:
        newest = self._search("tags.`pmx.kind` = 'run'", everywhere=True, latest=1) if not name else []
        if newest:
            return newest[0].info.experiment_id
        found = self.client.get_experiment_by_name(name) if name else None
        if found is None and not name:
            raise UsageError(f"no run in {self.folder} yet -> pmx run demo makes one")
        if found is None and not new:
            there = sorted(e.name for e in self.client.search_experiments() if e.name != "Default")
            raise UsageError(f"no experiment {name!r} in {self.folder} -> {', '.join(there) or 'pmx run demo makes one'}")
        if found is None:
            # The kind keeps the page from guessing that this is a language-model experiment and opening on traces.
            return self.client.create_experiment(name, self.artifacts, tags={"mlflow.experimentKind": "custom_model_development"})
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def close(self) -> None:
        """Close the connections to the store; the tracker still works and opens new ones."""
        # MLflow keeps one store per address for the life of the process and has no public way to let its files go.
        self.client._tracking_client.store._dispose_engine()
        self.client._get_registry_client().store._dispose_engine()

    def start(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        tags: Mapping[str, str] | None = None,
        revision: str = "",
        seeds: Mapping[str, int] | None = None,
        kind: str = "run",
    ) -> str:
        """Open the parent run of one `pmx run` or `pmx sweep` and give its id.

        Args:
            name: what it is called until `finish` knows better.
            config: the resolved configuration; kept whole as `config.yaml` and flattened as parameters. Values under
                a key that names a secret are masked in both.
            tags: further tags.
            revision: git revision of the code.
            seeds: what each seed is for -> its value.
            kind: `run`, or `sweep` for a parent of trials.
        """
        masked = _masked(config)
        source = {"mlflow.source.name": f"pmx {kind}", "mlflow.source.type": "LOCAL", "mlflow.source.git.commit": revision}
        run = self._create(name, {**source, **process_tags(), "pmx.kind": kind, **(tags or {})})
        self._log(run, params=flatten(masked) | {f"seed.{k}": v for k, v in (seeds or {}).items()})
        self.client.log_text(run, yaml.safe_dump(masked, sort_keys=False, allow_unicode=True), "config.yaml")
        return run

    def child(self, parent: str, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Open a run nested under `parent` and give its id."""
        return self._create(name, {"mlflow.parentRunId": parent, "pmx.kind": "candidate", **(tags or {})})

    def data(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Record what the run learnt from as a dataset input. MLflow shows 36 characters of the digest, a tag has all."""
        entity = Dataset(name, digest[:MAX_DATASET_DIGEST], "local", json.dumps({"uri": source}))
        self.client.log_inputs(run_id, datasets=[DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])])
        self.client.set_tag(run_id, "pmx.data_digest", digest)

    def log_candidate(
        self, parent: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float | None], tags: Mapping[str, str] | None = None
    ) -> str:
        """Record one finished candidate or trial as a nested run and give its id; with the tag `pmx.error` it has failed."""
        run = self.child(parent, name, tags)
        self._log(run, metrics=metrics, params=flatten(_masked(params)))
        self.client.set_terminated(run, "FAILED" if (tags or {}).get("pmx.error") else "FINISHED")
        return run

    def finish(self, run_id: str, outcome: Outcome, register: str = "") -> None:
        """Record what an accepted run found and end it FINISHED; `register` is the model that it becomes a version of next, if any."""
        self._record(run_id, outcome, outcome.description, {AWAITS: register})
        self._end(run_id, "FINISHED")

    def refuse(self, run_id: str, culprit: str, reason: str, outcome: Outcome) -> None:
        """Record the same of a run that a gate refused, name the culprit first, and end it FAILED."""
        self._record(run_id, outcome, f"**Refused by {culprit}**: {reason}\n\n{outcome.description}", {"pmx.refused_by": culprit})
        self._end(run_id, "FAILED")

    def fail(self, run_id: str, message: str) -> None:
        """End a run that an error stopped FAILED, with its message (credentials in addresses masked)."""
        note = re.sub(r"//[^/\s@]+@", "//***@", message)
        self._log(run_id, tags={"pmx.error": note, "mlflow.note.content": f"**Stopped by an error**\n\n```\n{note}\n```"})
        self._end(run_id, "FAILED")

    def mark_killed(self) -> list[str]:
        """Set runs of this host whose process is gone to KILLED, in all experiments, children too; give their ids."""
        running = "attributes.status = 'RUNNING'"
        parents = [r for r in self._search(running, everywhere=True) if r.data.tags.get("pmx.kind") in PARENTS]
        dead = [run.info.run_id for run in parents if gone(run.data.tags)]
        for run_id in dead:
            self._end(run_id, "KILLED")
        return dead

    def awaiting(self) -> list[Run]:
        """Finished runs of this host whose process is gone before it registered them, the oldest first."""
        finished = self._search(f"attributes.status = 'FINISHED' and tags.`{AWAITS}` LIKE '%'", everywhere=True)
        return [run for run in reversed(finished) if gone(run.data.tags)]

    def links(self, run_id: str | None = None) -> str:
        """Path of the run's page, or of the run list, below the address of `pmx ui`.

        It asks for the side of MLflow that trains models: without a word the page opens as if this were a language model.
        """
        return f"/#/experiments/{self.experiment_id}/runs" + (f"/{run_id}" if run_id else "") + "?workflowType=machine_learning"

    def evaluation(self, run_id: str) -> dict[str, Any]:
        """What a paired comparison needs of a run; empty where it kept none."""
        if not any(f.path == EVALUATION for f in self.client.list_artifacts(run_id)):
            return {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = json.loads(Path(self.client.download_artifacts(run_id, EVALUATION, folder)).read_text("utf-8"))
            except ValueError as error:  # no JSON, or no text
                raise DataError(f"{EVALUATION} of run {run_id[:8]}: {error} -> restore it from a copy, or run again") from error
        return found if isinstance(found, dict) else {}

    def compare(self, run_ids: list[str] | None = None, latest: int = 10) -> list[dict[str, Any]]:
        """One row per run, newest first or in the order asked for.

        Args:
            run_ids: which runs, by the beginning of their ids; None = the latest ones of this experiment.
            latest: how many of those.

        Returns:
            Rows with `run_id, name, status, began, winner, metrics, gates, refused_by, leakage_accepted, doubt, data_digest, comparable`;
            a run is comparable when it learnt from the same data as the first row that tells its data.
        """
        try:
            given = [self.client.get_run(self.whole(i)) for i in run_ids or ()]
            runs = given or self._search("tags.`pmx.kind` = 'run'", latest=latest)
        except MlflowException as error:
            raise UsageError(f"cannot compare: {error.message}; `pmx compare` without a run lists the latest ones") from error
        rows = [_row(run) for run in runs]
        reference = next((row["data_digest"] for row in rows if row["data_digest"]), "")
        return [row | {"comparable": row["data_digest"] in ("", reference)} for row in rows]

    def whole(self, start: str) -> str:
        """The id of the one run that begins like this; what is no beginning of any goes to MLflow, which knows how to say so."""
        runs = self._search("tags.`pmx.kind` = 'run'", everywhere=True)
        if len(found := [r.info.run_id for r in runs if r.info.run_id.startswith(start)]) > 1:
            raise UsageError(f"{start} begins {len(found)} run ids -> give more of it: {', '.join(i[:12] for i in found[:5])}")
        return (found or [start])[0]

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        kept = {k: cut(v, MAX_TAG) for k, v in tags.items() if v}
        return self.client.create_run(self.experiment_id, tags=kept, run_name=name).info.run_id

    def _search(self, condition: str, everywhere: bool = False, latest: int = 1000) -> list[Run]:
        where = [e.experiment_id for e in self.client.search_experiments()] if everywhere else [self.experiment_id]
        return list(self.client.search_runs(where, condition, max_results=latest))

    def _log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        now = int(time.time() * 1000)
        # MLflow stores NaN as 0 and infinity as 1.8e308, which then sort among real results: leave them out.
        numbers = {k: float(v) for k, v in (metrics or {}).items() if v is not None and math.isfinite(v)}
        metric, param, tag = taken(numbers), taken(params or ()), taken(tags or ())
        self.client.log_batch(
            run_id,
            metrics=[Metric(metric[k], v, now, 0) for k, v in numbers.items()],
            params=[Param(param[k], cut(str(v), MAX_PARAM)) for k, v in (params or {}).items()],
            tags=[RunTag(tag[k], cut(v, MAX_TAG)) for k, v in (tags or {}).items() if v],
        )

    def _record(self, run_id: str, outcome: Outcome, note: str, tags: Mapping[str, str]) -> None:
        self._log(
            run_id, metrics=dict(sorted(outcome.metrics.items(), key=_group)), tags={**outcome.tags(), **tags, "mlflow.note.content": note}
        )
        self.client.update_run(run_id, name=outcome.title)
        for name, figure in outcome.figures.items():
            self.client.log_figure(run_id, figure, f"figures/{name}.png")
        for file in outcome.files:
            self.client.log_artifact(run_id, str(file))
        if outcome.evaluation:
            self.client.log_text(run_id, json.dumps(outcome.evaluation, ensure_ascii=False), EVALUATION)
        if outcome.bundle is not None:
            self.client.log_artifacts(run_id, str(outcome.bundle), "bundle")

    def _end(self, run_id: str, status: str) -> None:
        # A child still open when its parent ends was interrupted with it, whatever the parent's own status.
        for child in self._search(f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{run_id}'", everywhere=True):
            self.client.set_terminated(child.info.run_id, "KILLED" if status == "KILLED" else "FAILED")
        self.client.set_terminated(run_id, status)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level of dotted keys; lists stay whole, as JSON."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else value
    return flat


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time create the store, or move an alias: two that migrate the same new file spoil it for each other."""
    try:
        import fcntl
    except ImportError:  # no such lock on Windows: there, start parallel runs only once the store exists
        yield
        return
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _masked(config: Mapping[str, Any]) -> dict[str, Any]:
    def mask(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _masked(value)
        if isinstance(value, list | tuple):
            return [mask(key, v) for v in value]
        if isinstance(value, str) and value and SECRET.search(key):
            return "***"
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    return {str(key): mask(str(key), value) for key, value in config.items()}


def _group(metric: tuple[str, Any]) -> int:
    """Where a metric stands on a run's page: what decides first, the order within a group as it was given."""
    group = metric[0].partition("/")[0]
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def cut(text: str, limit: int) -> str:
    """The text, or its beginning where it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 2]} …"


def _row(run: Run) -> dict[str, Any]:
    tags = run.data.tags
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "began": run.info.start_time / 1000,
        "winner": tags.get("pmx.winner", ""),
        "metrics": dict(run.data.metrics),
        "gates": {k.removeprefix("pmx.gate."): v == "pass" for k, v in tags.items() if k.startswith("pmx.gate.")},
        "refused_by": tags.get("pmx.refused_by", ""),
        "leakage_accepted": tags.get("pmx.leakage_accepted", ""),
        "doubt": tags.get("pmx.doubt", ""),
        "data_digest": tags.get("pmx.data_digest", ""),
    }
