"""The page: sound markup, nothing fetched, everything escaped; and what a real browser makes of it."""

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from dayfly.engine.health import render_html
from dayfly.engine.health.charts import clock_text, number_text
from dayfly.engine.health.model import Attention, HealthReport

from .sample import HOSTILE, NOW, sample_channel, sample_history, sample_report, well

VOID = frozenset({"meta", "br"})


class Reader(HTMLParser):
    """Elements with their text; fails where a tag is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.seen if name == tag]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def shown(report: HealthReport) -> str:
    return " ".join("".join(read(render_html(report, sample_history())).text).split())


def test_every_figure_of_the_report_is_on_the_page() -> None:
    text = shown(sample_report())
    for figure in (
        "running 2026-11-22 15:00:34 UTC, policy version 7",
        "channel_incomplete: channel marketplace brought 55.1%",
        "live fragments803",
        "97.9% of 21.6k expected (history)",
        "41,207 people (41,200 counted so far); 71,204 consents in force, 214 of them end within 24 hours",
        "19,705 minted = 803 alive + 18,902 destroyed",
        "77.0% of 5,600",
        "61,220 of 61,220 lines checked, every line follows from the one before",
        "0.31 of 1 rho",
        "1 back, 0 ahead, largest -420 ms",
    ):
        assert figure in text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = render_html(sample_report(), sample_history())
    reader = read(page)
    tags = {tag for tag, _ in reader.seen}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "form",
        "a",
        "image",
        "use",
        "foreignobject",
    }
    names = {name for _, attrs in reader.seen for name in attrs}
    assert not [
        name for name in names if name.startswith("on") or name in {"src", "href", "xlink:href", "style"}
    ]
    assert not re.search(r"url\(|@import|https?:", page)
    policies = [meta["content"] for meta in reader.of("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_every_chart_has_a_name_for_those_who_cannot_see_it() -> None:
    reader = read(render_html(sample_report(), sample_history()))
    ids = Counter(attrs["id"] for _, attrs in reader.seen if "id" in attrs)
    assert set(ids.values()) == {1}
    charts = reader.of("svg")
    assert len(charts) > 20
    for chart in charts:
        assert chart["role"] == "img"
        assert chart.get("aria-label") or set(chart["aria-labelledby"].split()) <= ids.keys()
    assert "en" in reader.of("html")[0]["lang"]


def test_names_cannot_break_out_of_the_page() -> None:
    hostile = '"><script>alert(1)</script>&'
    report = sample_report(
        channels=(sample_channel(hostile, 10.0), sample_channel(HOSTILE, 10.0, dead={hostile: 3})),
        attention=(Attention(code="x", what=hostile, way_out=hostile),),
    )
    page = render_html(report)
    assert "<script" not in page
    assert hostile in "".join(read(page).text)


def test_a_report_about_nothing_is_a_page_too() -> None:
    report = sample_report(channels=(), audiences=(), endpoints=(), budgets={}, attention=())
    text = shown(report)
    assert "Nothing needs attention." in text
    assert "No delivery is attached to this board." in text


def test_a_channel_without_any_event_is_drawn() -> None:
    channel = sample_channel(
        "app", 0.0001, expected=None, completeness=None, lateness_p50_ms=None, silent_ms=None
    )
    assert "nothing to compare with yet" in shown(sample_report(channels=(channel,)))


def test_without_a_history_the_line_is_a_point() -> None:
    assert render_html(sample_report()).count('class="now"') == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (0.5, "0.5"),
        (-12_345, "-12.3k"),
        (9_999, "9,999"),
        (10_000, "10k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (4_560_000, "4.56M"),
        (7.2e9, "7.2G"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number_text(value) == text


def test_instants_are_those_of_utc() -> None:
    assert clock_text(NOW, "%Y-%m-%dT%H:%M:%S") == "2026-11-22T15:00:34"


# --- in a browser ---------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no chromium on this machine; `apt-get install chromium` to see the page in a browser",
)
SIZE = (1200, 2300)
LIGHT = {"seen": (0x2F, 0x6F, 0xD0), "lost": (0xC2, 0x41, 0x0C), "paper": (0xF6, 0xF7, 0xF9)}
DARK = {"seen": (0x6B, 0xA3, 0xF5), "lost": (0xF0, 0x88, 0x4D), "paper": (0x10, 0x15, 0x1C)}


def browse(folder: Path, page: str, *options: str) -> str:
    """Open a page without a network, a profile or a screen; what the browser prints."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        "--force-device-scale-factor=1", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={SIZE[0]},{SIZE[1]}", *options, file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def colours_of(image: Image.Image) -> dict[object, int]:
    """Pixels by colour."""
    return {colour: count for count, colour in image.getcolors(1 << 24) or []}


@needs_browser
@pytest.mark.parametrize(("scheme", "colours"), [("1", LIGHT), ("0", DARK)], ids=["light", "dark"])
def test_a_browser_shows_the_charts_in_their_colours(
    tmp_path: Path, scheme: str, colours: dict[str, tuple[int, int, int]]
) -> None:
    picture = tmp_path / "page.png"
    page = render_html(sample_report(), sample_history())
    browse(tmp_path, page, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}")
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    assert image.size == SIZE
    counted = colours_of(image)
    pixels = SIZE[0] * SIZE[1]
    assert counted[colours["paper"]] > 0.1 * pixels
    assert counted[colours["seen"]] > 0.02 * pixels
    assert counted[colours["lost"]] > 0.002 * pixels
    assert len(colours_of(image.crop((600, 400, 1200, 1000)))) > 10


@needs_browser
def test_a_browser_builds_the_page_as_it_was_written(tmp_path: Path) -> None:
    report = well(sample_report())
    dom = browse(tmp_path, render_html(report, sample_history()), "--dump-dom")
    written, built = read(render_html(report, sample_history())), read(dom)
    drawn = (
        "svg",
        "rect",
        "polyline",
        "polygon",
        "circle",
        "text",
        "table",
        "tr",
        "td",
        "figure",
        "dd",
        "li",
    )
    for tag in drawn:
        assert len(built.of(tag)) == len(written.of(tag)) > 0, tag
    assert "Nothing needs attention." in dom
    assert "marketplace" in dom
