"""Downloads with a digest for every file that is kept."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pooch

from pmx.contract import DataError, DigestError
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
    try:
        archive = Path(pooch.retrieve(url, known_hash=None, path=folder / ".download"))
    except (OSError, ValueError) as error:
        raise DataError(f"{url} could not be downloaded: {error} -> check the network, or put the files into {folder} by hand") from None
    found = {name: data for name, data in _members(archive.read_bytes()) if name in wanted}
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise DataError(f"{url} holds no {', '.join(missing)} -> check the subset's name")
    recorded = _recorded(folder)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    for name, digest in digests.items():
        expected = wanted[name] or recorded.get(name)
        if expected and digest != expected:
            raise DigestError(
                f"{name} from {url} has SHA-256 {digest}, expected {expected} -> the file was changed at its home; do not use it"
            )
    for name, data in found.items():
        with replacing(folder / name) as part:
            part.write_bytes(data)
    with replacing(folder / SUMS) as part:
        part.write_text("".join(f"{d}  {n}\n" for n, d in sorted((recorded | digests).items())))
    archive.unlink()
    return digests


def _recorded(folder: Path) -> dict[str, str]:
    file = folder / SUMS
    lines = file.read_text().splitlines() if file.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _members(data: bytes, depth: int = 2) -> Iterator[tuple[str, bytes]]:
    """Base names and bytes of an archive's files; names are never used as paths."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        raise DataError("the download is no zip archive -> its home may have moved; get the files by hand") from None
    with archive:
        for info in archive.infolist():
            name = info.filename.rpartition("/")[2]
            if name.endswith(".zip") and depth:
                yield from _members(archive.read(info), depth - 1)
            elif name:
                yield name, archive.read(info)
