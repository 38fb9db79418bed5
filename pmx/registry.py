"""Versions of registered models: which run each came from, which of them is `champion`, and who waits as `challenger`.

A run registers, a person promotes: no number that a run gives itself moves the alias of what devices are given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import url2pathname

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pmx.bundle import Bundle, digest
from pmx.contract import DataError, DigestError, GateError, PmxError, UsageError
from pmx.markdown import grid
from pmx.reads import times
from pmx.tracking import AWAITS, Tracker, alone, cut

CHAMPION, CHALLENGER = "champion", "challenger"
MAIN = ("test/rmse_last_capped", "test/rmse_all_capped", "test/f1", "test/ap", "test/event_recall", "test/false_alarms")
MANIFEST = "pmx.manifest_digest"  # of a version: of all files that were sealed, the evidence among them
MAX_DESCRIPTION = 5000  # characters of a version's description


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        model: the registered model's name.
        number: `1`, `2`, ...
        run_id: the run it came from.
        alias: `champion`, `challenger`, or empty.
        tags: of the version.

    Example:
        >>> Version("demo synthetic pumps", "3", "0123", "champion").said
        'v3 (champion)'
    """

    model: str
    number: str
    run_id: str
    alias: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Number and alias, for people."""
        return f"v{self.number}" + (f" ({self.alias})" if self.alias else "")


@dataclass(frozen=True)
class Registered:
    """What became of a run that was registered.

    Attributes:
        version: the new one, with the alias it was given.
        champion: the one that is champion now; None where there is none yet.
        why: why the new one is not champion; empty where it is.

    Example:
        >>> Registered(Version("pumps", "1", "0123", "challenger"), None, "leakage was accepted").told
        'registered as pumps v1 (challenger: leakage was accepted; no champion yet)'
    """

    version: Version
    champion: Version | None
    why: str = ""

    @property
    def told(self) -> str:
        """The same in words."""
        new = self.version
        if new.alias == CHAMPION:
            return f"registered as {new.model} {new.said}"
        stays = f"champion stays v{self.champion.number}" if self.champion else "no champion yet"
        why = f": {self.why}" if self.why else ""
        return f"registered as {new.model} v{new.number} ({new.alias}{why}; {stays})"


class Registry:
    """The registered versions in a tracker's store.

    Args:
        tracker: an open store.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tracker = Tracker(Path(folder), "pumps")
        ...     print(Registry(tracker).champion("pumps"))
        ...     tracker.close()
        None
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.client = tracker, tracker.client

    def register(self, run_id: str, name: str, core_digest: str) -> Registered:
        """Register the run's bundle as the next version of model `name`, as `challenger`; or as `champion` where there is none.

        The first version stays challenger where leakage was accepted, something that needs no sensor does as well, or the report says no.
        A challenger that waits loses that alias to the newer one, and stays a version.

        What an earlier process began and did not end is gone on with, so that a run that says what it becomes is registered once.

        Raises:
            UsageError: the run did not finish or kept no bundle: nothing refused is ever registered.
            DigestError: the bundle that it kept is not the one of `core_digest`.
        """
        run, name = self.client.get_run(run_id), model_name(name)
        if run.info.status != "FINISHED" or not self.client.list_artifacts(run_id, "bundle"):
            raise UsageError(f"run {run_id} is {run.info.status} or has no bundle: only the bundle of a finished run can be registered")
        kept = ("pmx.leakage_accepted", "pmx.doubt", "pmx.data_digest", "pmx.test_reads", "pmx.data_reads", "pmx.winner")
        tags = {k: v for k, v in run.data.tags.items() if k in kept or k.startswith("pmx.gate.")}
        tags |= {"pmx.core_digest": core_digest, MANIFEST: self._stored(run_id, core_digest)}
        with alone(self.tracker.folder / "mlflow.lock"):  # two runs that end together: only one finds no champion
            try:
                self.client.create_registered_model(name, description=_about_model(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            begun = [v for v in self.versions().get(run_id, ()) if v.model == name] if AWAITS in run.data.tags else []
            number, alias = (begun[0].number, begun[0].alias) if begun else (self._create(run, name, tags), "")
            champion = self.champion(name)
            why = "leakage was accepted" if "pmx.leakage_accepted" in tags else _lower(tags.get("pmx.doubt", ""))
            if not alias:
                alias = CHALLENGER if champion or why else CHAMPION
                self.client.set_registered_model_alias(name, alias, number)
            if AWAITS in run.data.tags:
                self.client.delete_tag(run_id, AWAITS)
        new = Version(name, number, run_id, alias, tags)
        return Registered(new, new if alias == CHAMPION else champion, why)

    def late(self) -> list[str]:
        """Registers the runs that finished but were killed before they could be registered; gives a sentence on each."""
        told = []
        with alone(self.tracker.folder / "late.lock"):
            for run in self.tracker.awaiting():
                run_id, tags = run.info.run_id, run.data.tags
                try:
                    became = self.register(run_id, tags[AWAITS], tags.get("pmx.core_digest", "")).told
                except PmxError as error:  # said once: it must not stand in the way of every command
                    self.client.delete_tag(run_id, AWAITS)
                    became = f"cannot be registered any more: {error}"
                told.append(f"Run {run_id[:8]} had finished and was killed before it was registered; now {became}")
        return told

    def champion(self, name: str) -> Version | None:
        """The version of a model that is `champion`; None where there is none, or no such model."""
        return self._aliased(model_name(name), CHAMPION)

    def models(self) -> list[str]:
        """Names of the registered models, the one with the newest version first."""
        found = self.client.search_registered_models(max_results=1000)
        return [m.name for m in sorted(found, key=lambda m: -(m.last_updated_timestamp or 0))]

    def model(self, name: str = "") -> str:
        """The registered model of this name, or the one that begins so; without a name the only one there is.

        Raises:
            UsageError: none or several; names them.
        """
        there = self.models()
        found = [name] if name in there else [m for m in there if m.startswith(name)]
        if len(found) != 1:
            what = f"{len(found) or 'no'} registered models begin with {name!r}" if name else f"{len(there) or 'no'} registered models"
            raise UsageError(f"{what} -> name one of: {', '.join(map(repr, sorted(there)))}" if there else f"{what} yet -> pmx run demo")
        return found[0]

    def version(self, model: str, word: str) -> Version:
        """A version by its number, with or without v, or by its alias."""
        number = word.removeprefix("v")
        if word in (CHAMPION, CHALLENGER):
            if found := self._aliased(model, word):
                return found
            raise UsageError(f"{model!r} has no {word} -> {self._there(model)}")
        try:
            return self._version(self.client.get_model_version(model, number))
        except MlflowException as error:
            raise UsageError(f"{model!r} has no version {word!r} -> {self._there(model)}") from error

    def versions(self) -> dict[str, list[Version]]:
        """Run id -> the versions that came from it."""
        found: dict[str, list[Version]] = {}
        for version in self._all():
            found.setdefault(version.run_id, []).append(version)
        return found

    def find(self, word: str, model: str = "") -> tuple[str, str]:
        """Id and name of the run that is meant by the beginning of its id, by a version's number, or by an alias.

        A number of up to four digits is a version's; `model` says whose, and may be left out where there is but one model.
        """
        if word in (CHAMPION, CHALLENGER) or re.fullmatch(r"v?\d{1,4}", word):
            found = self.version(self.model(model), word)
            return found.run_id, found.said
        return self.tracker.compare([word])[0]["run_id"], word[:8]

    def refusal(self, new: Version, old: Version | None, accept_leakage: bool, other_data: bool) -> str:
        """Why a version may not follow the champion; empty where it may."""
        run = self.client.get_run(new.run_id)
        gates = {k.removeprefix("pmx.gate."): v for k, v in run.data.tags.items() if k.startswith("pmx.gate.")}
        failed = [name for name, said in gates.items() if said != "pass"]
        if failed or not gates or run.info.status != "FINISHED":
            what = f"gate {' and '.join(failed)} failed" if failed else f"it ended {run.info.status}" if gates else "no gate judged it"
            return f"{what} in its run {new.run_id[:8]} -> mend the cause and run again: no flag lets this through"
        if (leak := run.data.tags.get("pmx.leakage_accepted", "")) and not accept_leakage:
            return f"findings of leakage were let stand ({leak}), so its figures may be too good -> --accept-leakage takes it all the same"
        if old is None or other_data:
            return ""
        before = self.client.get_run(old.run_id).data.tags.get("pmx.data_digest", "")
        if run.data.tags.get("pmx.data_digest", "") != before:
            return f"it learnt from other data than v{old.number}, so nobody has compared the two -> --other-data takes it all the same"
        return ""

    def promote(self, new: Version, accept_leakage: bool = False, other_data: bool = False) -> Version:
        """Move the alias `champion` to a version, and note on it and on the former champion when.

        Raises:
            DigestError: the files that are stored for it are not those that were registered.
            GateError: a gate failed, leakage was accepted, or the data are others than the champion's, and nobody said that it may be.
        """
        with alone(self.tracker.folder / "mlflow.lock"):
            old = self.champion(new.model)
            if old and old.number == new.number:
                return old
            try:
                self._stored(new.run_id, new.tags.get("pmx.core_digest", ""), new.tags.get(MANIFEST, ""))
            except PmxError as error:
                raise type(error)(f"Cannot promote {new.model} v{new.number}: {error}") from error
            if why := self.refusal(new, old, accept_leakage, other_data):
                raise GateError(f"Cannot promote {new.model} v{new.number}: {why}", f"version {new.number}")
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self.client.set_registered_model_alias(new.model, CHAMPION, new.number)
            if (waits := self._aliased(new.model, CHALLENGER)) and waits.number == new.number:
                self.client.delete_registered_model_alias(new.model, CHALLENGER)
            self._tag(new, {"pmx.promoted_at": at, "pmx.promoted_from": f"v{old.number}" if old else "none"})
            if old:
                self._tag(old, {"pmx.champion_until": at, "pmx.followed_by": f"v{new.number}"})
        return self.version(new.model, new.number)

    def _create(self, run: Run, name: str, tags: dict[str, str]) -> str:
        """The number of a new version of a model."""
        source, about = f"{run.info.artifact_uri}/bundle", cut(_about(run), MAX_DESCRIPTION)
        made = self.client.create_model_version(name, source, run.info.run_id, tags=tags, description=about)
        return str(made.version)  # MLflow's type says str, its SQL store gives int

    def _stored(self, run_id: str, core: str, manifest: str = "") -> str:
        """The digest of the manifest of the bundle that a run kept; refused where its files are not those on record."""
        where = self.client.get_run(run_id).info.artifact_uri.removeprefix("file://")
        folder = Path(url2pathname(where)) / "bundle"
        if not folder.is_dir():
            raise DataError(f"{folder}, the bundle that run {run_id[:8]} kept, is gone -> restore it from a copy, or run again")
        found = Bundle.open(folder)
        if found.core != core:
            what = f"the core digest is {found.core[:12]}, {core[:12] or 'none'} is on record: a core file and manifest.json were changed"
            raise DigestError(f"{folder}: {what} -> restore them from a copy, or run again")
        sealed = digest(found.files["manifest.json"])
        if manifest not in ("", sealed):
            what = "manifest.json is not the one on record, so evidence.json, card.md or sbom.cdx.json may be others too"
            raise DigestError(f"{folder}: {what} -> restore them from a copy, or run again")
        return sealed

    def _tag(self, version: Version, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(version.model, version.number, key, value)

    def _aliased(self, model: str, alias: str) -> Version | None:
        try:
            return self._version(self.client.get_model_version_by_alias(model, alias))
        except MlflowException:
            return None

    def _version(self, made: ModelVersion) -> Version:
        aliases = [str(a) for a in made.aliases or ()]
        alias = next((a for a in (CHAMPION, CHALLENGER) if a in aliases), "")
        return Version(made.name, str(made.version), str(made.run_id), alias, dict(made.tags or {}))

    def _there(self, model: str) -> str:
        found = sorted((v for v in self._all() if v.model == model), key=lambda v: int(v.number))
        return f"there are {', '.join(v.said for v in found)}" if found else "it has no version"

    def _all(self) -> list[Version]:
        """Every version; MLflow lists them without their aliases, which their model knows."""
        aliased = {(m.name, str(n)): a for m in self.client.search_registered_models(max_results=1000) for a, n in m.aliases.items()}
        made = [self._version(v) for v in self.client.search_model_versions(max_results=1000)]
        return [replace(v, alias=aliased.get((v.model, v.number), "")) for v in made]


def model_name(text: str) -> str:
    """A registered model's name as MLflow takes it, which allows no slash, colon or quote, and no clean name may begin with dots."""
    return re.sub(r"[/:'\"\\]", "_", text).strip().lstrip(".") or "_"


def interval(metrics: Mapping[str, float], name: str) -> str:
    """A metric with its 95 % interval, where it has one; a dash where it is missing."""
    if name not in metrics:
        return "–"
    low, high = metrics.get(f"{name}_lo"), metrics.get(f"{name}_hi")
    return f"{metrics[name]:.4g}" + (f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else "")


def _about_model(name: str) -> str:
    return (
        f"Bundles of **{name}**, one version for each run that passed its gates. `{CHAMPION}` is what devices should be given, "
        f"`{CHALLENGER}` the newest version that is not. Compare: `pmx compare {CHAMPION} {CHALLENGER} --model '{name}'`. "
        f"Promote, which is a person's act: `pmx promote '{name}'`."
    )


def _about(run: Run) -> str:
    """What a version's page says, in Markdown: numbers, gates, data, command."""
    tags, metrics = run.data.tags, run.data.metrics
    shown = [k for k in metrics if k.startswith(MAIN) and not k.endswith(("_lo", "_hi"))]
    rows = [[k.removeprefix("test/"), interval(metrics, k), interval(metrics, k.replace("test/", "vs_champion/"))] for k in shown]
    versus = any(row[2] != "–" for row in rows)
    head = ["test part, winner replayed", "value [95 %]", "less the champion's then"][: 3 if versus else 2]
    lines = [grid([head, *(row[: len(head)] for row in rows)])] if rows else []
    gates = "  ".join(f"{k.removeprefix('pmx.gate.')} {'✓' if v == 'pass' else '✗'}" for k, v in tags.items() if k.startswith("pmx.gate."))
    doubts = {"Leakage accepted": tags.get("pmx.leakage_accepted"), "Doubt": tags.get("pmx.doubt")}
    lines += [f"**{what}**: {why}" for what, why in doubts.items() if why]
    reads = f"; its test part had been read {times(int(tags['pmx.data_reads']))} in this store by then" if "pmx.data_reads" in tags else ""
    lines += [f"Gates: {gates}", f"Data `{tags.get('pmx.data_digest', '')[:16]}`{reads}", f"Again: `{tags.get('pmx.command', '')}`"]
    return "\n\n".join([f"**{run.info.run_name}**", *lines])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
