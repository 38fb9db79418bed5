"""The report is one small file that asks for nothing, shows text from the data as text, and leads to everything it names."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pmx.review.facts import Facts, Verdict
from pmx.review.page import FULL, MOST_BYTES, page, write_page
from tests.review.plain import SCORE, alarm, facts

EVIL = "<script>alert('x')</script>\"'&é" + "{{ 7 * 7 }}"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Elements(HTMLParser):
    """Elements, identities and links of a page, and whether each element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(made: str) -> Elements:
    assert len(made.encode()) <= MOST_BYTES
    seen = Elements(made)
    assert not seen.open and not seen.names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not [a for a in seen.attributes if a.startswith("on") or a in ("src", "srcset")]
    assert all(link.startswith("#") for link in seen.links) and not re.search(r"url\(|@import", made)
    assert len(seen.ids) == len(set(seen.ids)) and {link[1:] for link in seen.links} <= set(seen.ids), "a link leads nowhere"
    assert "default-src 'none'" in made
    return seen


def test_text_from_the_data_stays_text():
    made = page(facts(name=EVIL, what="episodes", verdict=Verdict("no", (EVIL,)), left_out=EVIL))
    checked(made)
    assert "&lt;script&gt;" in made and "{{ 7 * 7 }}" in made and ">49" not in made and "é" in made


def test_every_missed_event_and_false_alarm_is_one_click_away():
    given = facts(assets=9, alarms=9)
    seen = checked(page(given))
    missed = [f"#asset-{e.place}" for e in given.events if not e.caught]
    false = [f"#alarm-{n}" for n, a in enumerate(given.alarms, 1) if a.judged == "false"]
    assert missed and false and set(missed + false) <= set(seen.links)
    first_screen = Elements(page(given).partition('<section id="data">')[0] + "</main></body></html>").links
    assert set(missed + false) <= set(first_screen)


def test_a_missed_event_links_the_sensor_alarm_that_stood_in_its_place():
    given = facts(assets=7, alarms=7)
    [number] = [n for n, a in enumerate(given.alarms, 1) if a.kind == "sensor"]
    linked = f'<a href="#alarm-{number}">P006 sensor (stuck), raised 2026-01-20 00:00 UTC</a>'
    assert f"Within its horizon a sensor alarm stood instead: {linked}." in page(given)
    assert f"While it lasted a sensor alarm stood instead: {linked}." in page(replace(given, what="episodes"))
    assert "stood instead: P000 sensor (stuck), raised" in page(given), "one without a page of its own is named"


def test_a_large_fleet_fits():
    given = facts(assets=500, alarms=200)
    made = page(given)
    seen = checked(made)
    assert sum(i.startswith("asset-") for i in seen.ids) == 500 and made.count('class="card"') == FULL
    assert sum(bool(re.fullmatch(r"alarm-\d+", i)) for i in seen.ids) == 200


def test_what_does_not_fit_is_left_out_and_said():
    long = tuple(replace(alarm(f"P{k:03}", 0, (True, False)[k % 2]), sentences=("word " * 8000,)) for k in range(200))
    made = page(replace(facts(assets=3), alarms=long))
    seen = checked(made)
    kept = sum(bool(re.fullmatch(r"alarm-\d+", i)) for i in seen.ids)
    assert 0 < kept < 100 and f"{200 - kept} more have none" in made
    judged = re.findall(r"Afterwards judged: <span class=\"\w+\">(\w+)", made)
    assert set(judged) == {"false"}, "what was false is kept longest"


BARE = {"rows": (), "tables": (), "parts": (), "notes": (), "calibration": (), "contributions": (), "gates": (), "identity": ()}
CASES = {
    "nothing": facts(assets=1, alarms=0, events=(), counts=(0, 0), recall=(np.nan,) * 3, card="", points=(), **BARE),
    "no asset": replace(facts(assets=1, alarms=0, events=(), points=(), **BARE), assets=()),
    "scores": facts(watched=SCORE, what="episodes"),
    "one asset": facts(assets=1, alarms=1),
    "refused": facts(gates=tuple(replace(g, passed=False, accepted="why") for g in facts().gates)),
    "missing values": replace(facts(), assets=tuple(replace(a, verdict=a.verdict * np.nan, channels=()) for a in facts().assets)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_renders_whatever_there_is(case):
    made = page(CASES[case])
    checked(made)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", made, flags=re.DOTALL)


def test_directions_units_and_age_stand_beside_the_tables():
    made = page(facts())
    assert "lower is worse" in made and "Life unit hours" in made and "with age" in made
    assert "higher is worse" in page(facts(watched=SCORE)) and "one in 100,000" in page(facts(watched=SCORE))


def browse(text: Facts, folder: Path, *flags: str, at: str = "") -> subprocess.CompletedProcess[str]:
    """Opens the report in a browser that can reach nobody, and reports every word on its console."""
    write_page(folder / "report.html", text)
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--enable-logging=stderr", "--v=0", f"--log-net-log={folder / 'net.json'}", *flags, (folder / "report.html").as_uri() + at]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def asked(folder: Path) -> set[str]:
    """The hosts that were asked, without those that the browser asks for itself; no report has a reason to name one of these."""
    hosts = set(re.findall(r'"url":"(?:https?|wss?)://([^/:"]*)', (folder / "net.json").read_text()))
    return {h for h in hosts if not re.fullmatch(r"(?!fonts|ajax|maps)[\w.-]*\.(google|gvt1|gvt2|gstatic|googleapis)\.com", h)}


def size_of(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_has_nothing_to_complain_of_and_asks_nobody(tmp_path: Path):
    picture = tmp_path / "first.png"
    done = browse(facts(name=EVIL), tmp_path, f"--screenshot={picture}", "--window-size=390,844")
    assert size_of(picture) == (390, 844) and picture.stat().st_size > 10_000, "an empty page is smaller"
    assert "CONSOLE" not in done.stderr, done.stderr
    assert not asked(tmp_path)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_page_that_asks_somebody_or_complains_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bad = '<!doctype html><title>x</title><script>console.error("broken")</script><img src="http://outside.example/x.png">'
    monkeypatch.setattr("pmx.review.page.page", lambda _: bad)
    done = browse(facts(), tmp_path, f"--screenshot={tmp_path / 'first.png'}")
    assert "CONSOLE" in done.stderr and asked(tmp_path) == {"outside.example"}


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_an_alarm_prints_alone_on_a_page(tmp_path: Path):
    pages = []
    for at in ("#alarm-2", ""):
        browse(facts(), tmp_path, f"--print-to-pdf={tmp_path / 'out.pdf'}", at=at)
        pages.append(len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "out.pdf").read_bytes())))
    assert pages[0] == 1 and pages[1] > 4
