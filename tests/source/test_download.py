"""Downloads from a server in this process: what is kept is what was asked for and what was recorded."""

import http.server
import io
import threading
import zipfile
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import pytest

from pmx.contract import DataError, DigestError, UsageError
from pmx.run import main
from pmx.source.cmapss import Cmapss
from pmx.source.download import fetch_files
from pmx.source.nab import Nab
from pmx.source.skab import AT_HOME, Skab
from pmx.source.tep import Tep

NAMES = ["train_FD003.txt", "test_FD003.txt", "RUL_FD003.txt"]


class Home:
    """A server with one archive, or with files below `/raw`, which a test may change."""

    def __init__(self) -> None:
        home = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = home.files.get(unquote(self.path).removeprefix("/raw/"), b"") if self.path.startswith("/raw/") else home.archive
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                pass

        self.archive = b""
        self.files: dict[str, bytes] = {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/set.zip"
        self.raw = self.url.replace("set.zip", "raw")
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Home()
    yield made
    made.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("raw")
    Cmapss(str(folder), ["FD001", "FD003"]).write_miniature(folder, engines=2)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def nested(files: dict[str, bytes]) -> bytes:
    """As NASA's archive is: a zip in a folder of a zip."""
    return zipped({"6. Turbofan/CMAPSSData.zip": zipped(files), "6. Turbofan/readme.txt": b"terms"})


def kept(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_an_archive_in_an_archive_is_kept_with_its_digests(home: Home, files: dict[str, bytes], tmp_path: Path):
    home.archive = nested(files)
    source = Cmapss(str(tmp_path / "cmapss"), "FD003", home.url)
    digests = source.fetch()
    assert digests == {n: sha256(files[n]).hexdigest() for n in NAMES}
    assert kept(tmp_path) == {f"cmapss/{n}" for n in [*NAMES, "SHA256SUMS"]}
    assert {line.split("  ")[1]: line.split("  ")[0] for line in (tmp_path / "cmapss/SHA256SUMS").read_text().splitlines()} == digests
    assert source.fetch() == digests and len(source.load().test_assets) == 2


def test_a_second_fetch_with_other_content_is_refused(home: Home, files: dict[str, bytes], tmp_path: Path):
    home.archive, source = nested(files), Cmapss(str(tmp_path), "FD003", home.url)
    source.fetch()
    home.archive = nested(files | {"train_FD003.txt": files["train_FD003.txt"] + b"\n"})
    with pytest.raises(DigestError, match="train_FD003.txt .* has SHA-256 .*changed at its home"):
        source.fetch()
    assert (tmp_path / "train_FD003.txt").read_bytes() == files["train_FD003.txt"]
    home.archive = nested(files)
    assert source.fetch(), "the refused archive must not be taken for the new one"


def test_a_known_file_with_other_content_is_refused_and_nothing_is_kept(home: Home, files: dict[str, bytes], tmp_path: Path, capsys):
    home.archive = nested(files)
    code = main(["data", "fetch", "cmapss", f"source.root={tmp_path}/got", "source.subset=[FD003,FD001]", f"+source.home={home.url}"])
    told = capsys.readouterr()
    assert code == 4 and "FD001.txt" in told.err and "do not use it" in told.err and "Traceback" not in told.err
    assert kept(tmp_path) == set()


def test_terms_come_before_the_download(home: Home, files: dict[str, bytes], tmp_path: Path, capsys):
    assert main(["data", "fetch", "cmapss", f"source.root={tmp_path}", "source.subset=FD003", f"+source.home={home.url}"]) == 3
    told = capsys.readouterr()
    assert told.out.startswith("Terms of cmapss: work of the US government") and "404" in told.err
    home.archive = nested(files)
    assert main(["data", "fetch", "cmapss", f"source.root={tmp_path}", "source.subset=FD003", f"+source.home={home.url}"]) == 0
    told = capsys.readouterr().out
    assert told.index("Terms") < told.index("RUL_FD003.txt") and "Next: pmx data check cmapss" in told
    assert (tmp_path / "SHA256SUMS").is_file()


@pytest.mark.parametrize("name", ["../{}", "../../{}", "/{}", "a/../../{}", "C:/{}"])
def test_names_in_an_archive_are_never_paths(home: Home, files: dict[str, bytes], tmp_path: Path, name: str):
    home.archive = zipped({name.format(n): data for n, data in files.items()} | {"../evil.txt": b"x"})
    Cmapss(str(tmp_path / "deep" / "cmapss"), "FD003", home.url).fetch()
    assert kept(tmp_path) == {f"deep/cmapss/{n}" for n in [*NAMES, "SHA256SUMS"]}


@pytest.mark.parametrize("spoil", ["no zip", "cut", "flipped", "inner"])
def test_an_archive_that_cannot_be_read_is_bad_data(home: Home, files: dict[str, bytes], tmp_path: Path, spoil: str):
    whole = zipped(files)
    at = whole.index(b"train_FD003.txt") + 200
    flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
    home.archive = {"no zip": b"<html>", "cut": whole[: len(whole) // 2], "flipped": flipped, "inner": zipped({"a.zip": b"PK"})}[spoil]
    with pytest.raises(DataError, match="no zip archive that can be read"):
        Cmapss(str(tmp_path), "FD003", home.url).fetch()
    assert kept(tmp_path) == set()


def test_a_subset_that_is_not_there_is_named(home: Home, files: dict[str, bytes], tmp_path: Path):
    home.archive = nested(files)
    with pytest.raises(DataError, match="holds no RUL_FD009.txt, test_FD009.txt, train_FD009.txt"):
        Cmapss(str(tmp_path), "FD009", home.url).fetch()


def test_a_home_that_is_gone_is_bad_data(home: Home, tmp_path: Path):
    with pytest.raises(DataError, match="could not be downloaded.*by hand"):
        Cmapss(str(tmp_path), "FD003", home.url.replace("http", "nonsense")).fetch()


# ---- files one by one


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SOURCES = {
    "skab": lambda root, home: Skab(str(root), ["valve2/0", "other/3"], home),
    "tep": lambda root, home: Tep(str(root), [9], "continuous", home),
    "nab": lambda root, home: Nab(str(root), "own/pump", 5.0, home),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_fetched_is_what_loads(home: Home, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"pmx.source.{name}.SHA256", {})  # the miniature is not what was published
    raw = SOURCES[name](tmp_path / "raw", home.raw)
    raw.write_miniature(tmp_path / "raw")
    home.files = below(tmp_path / "raw")
    source = SOURCES[name](tmp_path / "got", home.raw)
    digests = source.fetch()
    assert digests == {n: sha256(data).hexdigest() for n, data in home.files.items()}
    assert kept(tmp_path / "got") == {*home.files, "SHA256SUMS"}
    assert source.load().digest == raw.load().digest and source.published() == dict.fromkeys(digests, True)
    (tmp_path / "got" / next(iter(digests))).write_bytes(b"changed")
    assert list(source.published().values()) == [False] + [True] * (len(digests) - 1)


def test_all_runs_are_asked_for_where_none_is_named(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pmx.source.skab.SHA256", {})
    home.files = {f"{name}.csv": b"x" for name in AT_HOME}
    assert set(Skab(str(tmp_path), home=home.raw).fetch()) == set(home.files) and len(AT_HOME) == 34


def test_a_published_file_with_other_content_is_refused_and_nothing_is_kept(home: Home, tmp_path: Path):
    home.files = {"valve2/0.csv": b"unknown", "other/1.csv": b"known, and not this"}
    with pytest.raises(DigestError, match="other/1.csv .* has SHA-256 .*do not use it"):
        Skab(str(tmp_path), ["valve2/0", "other/1"], home.raw).fetch()
    assert kept(tmp_path) == set()


def test_a_file_that_changed_since_the_first_fetch_is_refused(home: Home, tmp_path: Path):
    home.files = {"a b/1#.csv": b"one", "2.csv": b"two"}
    wanted = dict.fromkeys(home.files)
    assert fetch_files(home.raw + "/", tmp_path, wanted)
    home.files["a b/1#.csv"] = b"other"
    with pytest.raises(DigestError, match="a b/1#.csv"):
        fetch_files(home.raw, tmp_path, wanted)
    assert (tmp_path / "a b" / "1#.csv").read_bytes() == b"one"


def test_a_file_that_is_not_at_home_is_named_and_nothing_is_kept(home: Home, tmp_path: Path):
    home.files = {"valve2/0.csv": b"x"}
    with pytest.raises(DataError, match="raw/valve2/7.csv could not be downloaded.*404.*by hand"):
        Skab(str(tmp_path), ["valve2/0", "valve2/7"], home.raw).fetch()
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\..\\x"])
def test_a_path_out_of_the_folder_is_refused(home: Home, tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="leads out of"):
        fetch_files(home.raw, tmp_path / "in", {name: None})
    assert kept(tmp_path) == set()
