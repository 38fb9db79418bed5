"""Where things lie: config groups, experiments, and the user's cache; in a checkout and in an installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

from pmx.contract import UsageError
from pmx.signature import nearest


def cache_folder() -> Path:
    """The user's cache folder for downloaded data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmx"


def conf_dirs() -> list[Path]:
    """The folders of config groups: `./conf`, then the packaged one."""
    return _folders("conf")


def experiment_dirs() -> list[Path]:
    """The folders of experiments: `./experiments`, then the packaged one."""
    return _folders("experiments")


def experiments() -> dict[str, Path]:
    """The name of every experiment and its file; a user's own file hides a packaged one of the same name."""
    found: dict[str, Path] = {}
    for folder in experiment_dirs():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def _folders(name: str) -> list[Path]:
    """The user's folder of this name in the current one, then ours: inside the package (wheel) or beside it (checkout)."""
    package = Path(__file__).resolve().parent
    packaged = package / name
    candidates = [Path.cwd() / name, packaged if packaged.is_dir() else package.parent / name]
    return list(dict.fromkeys(path.resolve() for path in candidates if path.is_dir()))


def experiment_file(name: str) -> Path:
    known = experiments()
    if name not in known:
        where = ", ".join(str(folder) for folder in experiment_dirs()) or "no experiments folder found"
        raise UsageError(f"No experiment {name!r} in {where} -> {nearest(name, known)}\n  there are: {', '.join(sorted(known))}")
    return known[name]
