"""Downloads with a digest for every file that is kept."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pooch

from pmx.contract import DataError, DigestError, UsageError
from pmx.edge.table import replacing

SUMS = "SHA256SUMS"


def fetch_zip(url: str, folder: Path, wanted: dict[str, str | None]) -> dict[str, str]:
    """Downloads an archive (archives inside it are looked into) and keeps the wanted files.

    A file's digest must be the one given; where none is given, the one that an earlier fetch wrote down in `SHA256SUMS`,
    and at the first fetch it is written down there.

    Args:
        wanted: file name -> SHA-256, or None where none is recorded.

    Returns:
        File name -> SHA-256 of what was kept.

    Raises:
        DataError: the archive cannot be had, or lacks a file.
        DigestError: a file is not the one that is recorded; nothing of the archive is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download", dir=folder) as place:
        archive = _download(url, Path(place), folder)
    try:
        found = dict(_members(archive, set(wanted)))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError):  # RuntimeError: encrypted, or packed in a way unknown here
        raise DataError(f"{url} is no zip archive that can be read -> its home may have moved; get the files by hand") from None
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise DataError(f"{url} holds no {', '.join(missing)} -> check the subset's name")
    return _keep(url, folder, wanted, found)


def fetch_files(url: str, folder: Path, wanted: dict[str, str | None]) -> dict[str, str]:
    """Downloads files one by one from below an address; their digests are held as by `fetch_zip`.

    Args:
        wanted: path below the address and below the folder, such as `valve1/0.csv` -> SHA-256, or None where none is recorded.

    Returns:
        Path -> SHA-256 of what was kept.

    Raises:
        UsageError: a path leads out of the folder.
        DataError: a file cannot be had; nothing is kept.
        DigestError: a file is not the one that is recorded; nothing is kept.
    """
    for name in wanted:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise UsageError(f"{name} leads out of {folder} -> name files below it")
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with TemporaryDirectory(prefix=".download", dir=folder) as place:
        for name in wanted:
            found[name] = _download(f"{url.rstrip('/')}/{quote(name)}", Path(place), folder)
    return _keep(url, folder, wanted, found)


def recorded(folder: Path) -> dict[str, str]:
    """File -> SHA-256 as an earlier fetch into this folder wrote it down."""
    file = folder / SUMS
    lines = file.read_text().splitlines() if file.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _keep(url: str, folder: Path, wanted: dict[str, str | None], found: dict[str, bytes]) -> dict[str, str]:
    """Writes all files and their digests, or none of them where one is not the file that is recorded."""
    noted = recorded(folder)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    for name, digest in digests.items():
        expected = wanted[name] or noted.get(name)
        if expected and digest != expected:
            raise DigestError(
                f"{name} from {url} has SHA-256 {digest}, expected {expected} -> the file was changed at its home; do not use it"
            )
    for name, data in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as part:
            part.write_bytes(data)
    with replacing(folder / SUMS) as part:
        part.write_text("".join(f"{d}  {n}\n" for n, d in sorted((noted | digests).items())))
    return digests


def _download(url: str, place: Path, folder: Path) -> bytes:
    """The bytes at an address; `place` is a folder of this fetch alone, so that no earlier download is taken for this one."""
    pooch.get_logger().setLevel("WARNING")  # it would tell of its cache, and propose a digest to trust
    print(f"Downloading {url}", file=sys.stderr, flush=True)
    try:
        return Path(pooch.retrieve(url, known_hash=None, path=place)).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{url} could not be downloaded: {error} -> check the network, or put the files into {folder} by hand") from None


def _members(data: bytes, wanted: set[str], depth: int = 2) -> Iterator[tuple[str, bytes]]:
    """Base names and bytes of an archive's files that are wanted; names are never used as paths."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name = info.filename.rpartition("/")[2]
            if name in wanted:
                yield name, archive.read(info)
            elif name.endswith(".zip") and depth:
                yield from _members(archive.read(info), wanted, depth - 1)
