"""`pmx-edge` as a technician runs it: messages, exit codes, and what is left behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pmx
from pmx.bundle import Bundle, core_digest, digest, to_json, to_npz
from pmx.source.synthetic import Synthetic
from tests.small_fleet import small_fleet


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_fleet().seal(tmp_path_factory.mktemp("sealed") / "bundle")


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """Lines of a fleet CSV: header, then some rows of two pumps."""
    folder = tmp_path_factory.mktemp("fleet")
    Synthetic(assets=2, life=300.0).write(folder)
    return (folder / "readings.csv").read_text().splitlines()


def edge(*arguments, **environment):
    command = [sys.executable, "-m", "pmx.edge.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert "Traceback" not in done.stderr
    return done


def spoil(lines: list[str], row: int, column: str, value: str) -> list[str]:
    head, *cells = csv.reader(lines)
    cells[row - 2][head.index(column)] = value
    return [",".join(line) for line in [head, *cells]]


# what is planted, in which row -> the reason it is filed under
ROWS = {
    "wrong_type": lambda x: spoil(x, 5, "flow", "high"),
    "unparsable_time": lambda x: spoil(x, 5, "time", "31.02.2025"),
    "out_of_range": lambda x: spoil(x, 5, "pressure", "-3"),
    "infinite": lambda x: spoil(x, 5, "power", "inf"),
    "missing_asset": lambda x: spoil(x, 5, "asset", ""),
    "duplicate": lambda x: x[:4] + [x[3]] + x[4:],
    "not_monotonic": lambda x: x[:3] + [x[4], x[3]] + x[5:],
}


@pytest.mark.parametrize("reason", ROWS)
def test_a_row_that_breaks_the_contract_is_set_apart_and_named(bundle, readings, tmp_path, reason):
    path = tmp_path / "readings.csv"
    path.write_text("\n".join(ROWS[reason](readings)) + "\n")
    done = edge("replay", bundle, "--input", path, "--json", "--quiet")
    *words, last = done.stdout.splitlines()
    result = json.loads(last)
    assert done.returncode == 0 and done.stderr == ""
    assert any("row 5" in w and f"({reason})" in w for w in words), words
    with open(tmp_path / "readings.quarantine.csv", newline="") as file:
        (refused,) = csv.DictReader(file)
    assert (refused["row"], refused["reason"], refused["file"]) == ("5", reason, str(path))
    alone = reason in ("wrong_type", "out_of_range", "infinite")
    assert refused["lost"] == ("value" if alone else "row") and result["rows"] == len(path.read_text().splitlines()) - 1
    assert (result["quarantined"], result["cells"]) == ((0, 1) if alone else (1, 0))
    assert result["breaches"] == ({refused["channel"]: {reason: 1}} if alone else {})
    assert result["steps"] > 0 and result["core_digest"] == Bundle.open(bundle).core


# what is planted -> words that must be said; nothing is scored
FILES = {
    "missing column": (lambda x: [",".join(line.split(",")[:-1]) for line in x], "'seal_leakage' is not in the header"),
    "ragged": (lambda x: [*x[:4], x[4] + ",7", *x[5:]], "line 5: 11 cells where the header has 10"),
    "spelling": (lambda x: [x[0], *(line.replace("T", " at ") for line in x[1:])], "no reading was accepted"),
    "empty": (lambda x: [], "no header"),
    "header alone": (lambda x: x[:1], "no reading was accepted of 0 rows"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used_is_refused(bundle, readings, tmp_path, kind):
    plant, words = FILES[kind]
    path = tmp_path / "readings.csv"
    path.write_text("\n".join(plant(readings)))
    done = edge("replay", bundle, "--input", path, "--quiet")
    assert done.returncode == 3 and words in done.stderr and "->" in done.stderr, done.stderr
    if kind == "spelling":  # the rows themselves say why, and all of them are set apart
        assert "(unparsable_time)" in done.stdout and f"and {len(readings) - 9} more ({len(readings) - 9} unparsable_time)" in done.stdout
        assert len((tmp_path / "readings.quarantine.csv").read_text().splitlines()) == len(readings)


def every(lines: list[str], columns: list[str], value) -> list[str]:
    head, *cells = csv.reader(lines)
    for line in cells:
        for name in columns:
            line[head.index(name)] = value(line[head.index(name)])
    return [";".join(line) for line in [head, *cells]]


def test_a_sensor_that_fails_for_good_is_named_and_hides_no_other(bundle, readings, tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text("\n".join(every(readings, ["pressure"], lambda v: "-9999")) + "\n")
    done = edge("replay", bundle, "--input", path, "--json", "--quiet")
    result, rows = json.loads(done.stdout.splitlines()[-1]), len(readings) - 1
    assert done.returncode == 0 and result["breaches"] == {"pressure": {"out_of_range": rows}}
    assert (result["cells"], result["quarantined"]) == (rows, 0) and result["steps"] > 0
    assert f"0 of {rows} rows refused, {rows} values of others; set apart in" in done.stdout
    assert f"  channel pressure: {rows:,} out_of_range" in done.stdout


def test_a_file_of_which_most_values_are_broken_is_refused(bundle, readings, tmp_path):
    path = tmp_path / "readings.csv"
    columns = readings[0].split(",")[2:-1]
    path.write_text("\n".join(every(readings, columns, lambda v: v.replace(".", ",") if "." in v else v + ",0")) + "\n")
    done = edge("replay", bundle, "--input", path, "--quiet")
    assert done.returncode == 3 and "values set apart, what is left tells nothing" in done.stderr
    left = sum(line[-1] != "," for line in readings[1:])  # rows that hold a value in the one column that was not spoiled
    assert "decimal comma" in done.stdout and f"channel pressure: {left} wrong_type" in done.stdout


def test_a_column_too_many_is_named_once_and_left_out(bundle, readings, tmp_path):
    plain, more = tmp_path / "plain.csv", tmp_path / "more.csv"
    plain.write_text("\n".join(readings) + "\n")
    more.write_text("\n".join([readings[0] + ",humidity", *(f"{line},40" for line in readings[1:])]) + "\n")
    one, two = (edge("replay", bundle, "--input", path, "--json", "--quiet") for path in (plain, more))
    assert "left out: humidity" in two.stdout and two.stdout.count("humidity") == 2  # in words and in JSON
    first, second = (json.loads(done.stdout.splitlines()[-1]) for done in (one, two))
    assert second["ignored"] == ["humidity"] and first["alarms"] == second["alarms"] and second["quarantined"] == 0


def test_a_long_file_gives_the_alarm_log_of_the_wide_one(bundle, readings, tmp_path):
    wide, long = tmp_path / "wide.csv", tmp_path / "long.csv"
    wide.write_text("\n".join(readings) + "\n")
    head, *lines = csv.reader(readings)
    at = {name: head.index(name) for name in head}
    cells = [[x[at["asset"]], x[at["time"]], c, x[i]] for x in lines for c, i in at.items() if c not in ("asset", "time")]
    strangers = [[x[at["asset"]], x[at["time"]], f"other{k}", "1"] for x in lines for k in range(9)]
    long.write_text("\n".join(",".join(row) for row in [["asset", "time", "channel", "value"], *cells, *strangers]) + "\n")
    one, two = (json.loads(edge("replay", bundle, "--input", p, "--json", "--quiet").stdout.splitlines()[-1]) for p in (wide, long))
    assert one["alarms"] == two["alarms"] and one["steps"] == two["steps"] > 0
    assert two["quarantined"] == len(strangers) and two["rows"] == len(cells) + len(strangers)


def test_a_missing_file_folder_or_bundle_is_said_so(bundle, tmp_path):
    done = edge("replay", bundle, "--input", tmp_path / "nowhere.csv")
    assert done.returncode == 3 and "nowhere.csv" in done.stderr
    done = edge("selftest", tmp_path / "nothing")
    assert done.returncode == 3 and "no such bundle" in done.stderr
    done = edge("selftest", tmp_path)
    assert done.returncode == 3 and "holds no bundle" in done.stderr
    done = edge("replay", bundle, "--input", tmp_path / "a.csv", "--output", tmp_path / "not/there.csv")
    assert done.returncode == 2 and "is no folder" in done.stderr
    assert edge("selftest", bundle, "--deadline", "0").returncode == 2 and edge("replay", bundle).returncode == 2


def test_replay_prints_its_alarm_log_and_writes_every_verdict(bundle, readings, tmp_path):
    path = tmp_path / "readings.csv"
    path.write_text("\n".join(readings) + "\n")
    done = edge("replay", bundle, "--input", path, "--output", tmp_path / "verdicts.csv", "--json")
    *words, last = done.stdout.splitlines()
    result = json.loads(last)
    assert len(result["alarms"]) == sum("raised 20" in w for w in words) > 0
    verdicts = list(csv.DictReader((tmp_path / "verdicts.csv").read_text().splitlines()))
    assert len(verdicts) == result["steps"]
    for alarm in result["alarms"]:
        (at,) = [i for i, v in enumerate(verdicts) if (v["asset"], v["time"]) == (alarm["asset"], alarm["raised"])]
        before = verdicts[at - 1] if verdicts[at - 1]["asset"] == alarm["asset"] else {"alarm": "0"}
        assert verdicts[at]["alarm"] == "1" and before["alarm"] == "0"
    assert "replay: " in done.stderr and not (tmp_path / "readings.quarantine.csv").exists()


@pytest.mark.parametrize("command", ["selftest", "measure"])
def test_json_is_the_last_line_and_alone(bundle, command):
    done = edge(command, bundle, "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    if command == "selftest":
        assert result["largest_difference"] <= result["bound"] and result["alarms_changed"] == 0
    else:
        assert result["bytes"] == sum(f.stat().st_size for f in bundle.iterdir())
        assert 10 < result["resident_mb"] < 2000 and 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.parametrize("name", ["model.onnx", "policy.json", "card.md"])
def test_a_changed_byte_is_refused_by_replay_and_selftest(tmp_path, readings, name):
    bundle = small_fleet().seal(tmp_path / "bundle")
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 4
    (bundle / name).write_bytes(data)
    (tmp_path / "readings.csv").write_text("\n".join(readings))
    for done in (edge("selftest", bundle), edge("replay", bundle, "--input", tmp_path / "readings.csv")):
        assert done.returncode == 4 and name in done.stderr and done.stdout == ""


def golden(change) -> bytes:
    arrays = small_fleet().bundle.arrays("golden.npz")
    change(arrays)
    return to_npz(arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g["rul"].__setitem__((1, 60), g["rul"][1, 60] * np.float32(1.001)), "differ by 0.0009"),
        (lambda g: g["rul"].__setitem__((0, 0), np.nan), "differ by inf"),
        (lambda g: g["contribution"].__setitem__((2, 100, 3), 99.0), "golden vectors differ"),
        (lambda g: np.logical_not(g["standing"], out=g["standing"]), "480 golden alarm states changed"),
    ],
    ids=["verdict", "missing verdict", "contribution", "alarms"],
)
def test_a_golden_vector_that_does_not_hold_here_is_refused(tmp_path, change, words):
    # packed and sealed consistently: no digest can tell
    done = edge("selftest", small_fleet().seal(tmp_path / "bundle", golden_npz=golden(change)))
    assert done.returncode == 5 and words in done.stderr and "->" in done.stderr, done.stderr


def test_a_rounding_difference_within_the_bound_passes(tmp_path):
    def nudge(g):
        g["rul"] *= np.float32(1 + 2e-6)

    done = edge("selftest", small_fleet().seal(tmp_path / "bundle", golden_npz=golden(nudge)), "--json")
    assert done.returncode == 0 and 0 < json.loads(done.stdout.splitlines()[-1])["largest_difference"] < 1e-5


def test_a_spec_that_this_version_cannot_read_is_incompatible(tmp_path):
    spec = to_json({**small_fleet().bundle.spec.to_json(), "format": 99})
    done = edge("selftest", _resealed(tmp_path, spec))
    assert done.returncode == 5 and "format" in done.stderr


def _resealed(tmp_path: Path, spec: bytes) -> Path:
    """A bundle sealed with another spec.json, as another version of pmx would write it."""
    folder = small_fleet().seal(tmp_path / "bundle")
    (folder / "spec.json").write_bytes(spec)
    files = {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "manifest.json"}
    hashes = {name: digest(data) for name, data in files.items()}
    (folder / "manifest.json").write_bytes(to_json({"files": hashes, "core_digest": core_digest(files)}))
    return folder


def test_the_edge_runs_where_only_numpy_and_onnxruntime_can_be_imported(bundle, readings, tmp_path):
    # a folder with these packages and what onnxruntime itself asks for; -S keeps every other installed one out of sight
    site = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "onnxruntime", "flatbuffers", "google", "packaging"):
        if (site / name).exists():
            (tmp_path / name).symlink_to(site / name)
    (tmp_path / "pmx").symlink_to(Path(pmx.__file__).parent)
    (tmp_path / "readings.csv").write_text("\n".join(readings))
    code = (
        "import sys\n"
        "import pmx.edge\n"
        "from pmx.edge.cli import main\n"
        f"code = main(['replay', {str(bundle)!r}, '--input', {str(tmp_path / 'readings.csv')!r}, '--debug', '--quiet'])\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules} & {'polars', 'torch', 'onnx', 'scipy', 'sklearn', 'lightgbm'}))\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED" and "steps" in done.stdout
    missing = subprocess.run([sys.executable, "-S", "-c", "import polars"], capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert missing.returncode == 1  # so the folder really is all that it sees
