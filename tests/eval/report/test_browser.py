"""The page in headless Chromium: what it draws, and what it does when used."""

from __future__ import annotations

import csv
import io
import json
import time

import numpy as np
import pytest
from eval.report.browser import PROGRAM, Browser
from eval.report.make_report import CODECS, EVIL, make_results
from PIL import Image

from triode.eval.report.data import make_view
from triode.eval.report.page import make_page
from triode.eval.report.samples import collect_samples
from triode.eval.report.style import DARK, PALETTE, PALETTE_DARK
from triode.eval.results import Results

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs Chromium"),
    pytest.mark.slow,
]
TIP = "document.querySelector('#rd-plot .tip')"
NAMES = "[...document.querySelectorAll('#rd-plot g.series')].map((group) => group.dataset.name)"
SHOWN = "[...document.querySelectorAll('.canvas img.on')].length"


def write(folder, media, metrics):
    results = make_results(folder, media, metrics)
    view = make_view(results)
    path = folder / "report.html"
    path.write_text(make_page(view, collect_samples(view.results, folder, subject=0, budget=4_000_000)), "utf-8")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("image"), "image", ("psnr", "ms-ssim", "mel"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def tab(browser, path):
    """Return a tab that shows the page afresh; at the end nothing may have gone wrong."""
    browser.size(1280, 900)
    browser.open(path)
    yield browser
    assert browser.errors == []
    assert browser.run("document.documentElement.dataset.error") is None
    assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data", "about", "blob"}


def fragment(tab):
    return tab.run("location.hash")


def center(tab, selector, index=0):
    """Scroll an element into view and return the coordinates of its middle."""
    return tab.run(
        f"""(() => {{
          document.documentElement.style.scrollBehavior = "auto";
          const found = document.querySelectorAll({json.dumps(selector)})[{index}];
          found.scrollIntoView({{ block: "center" }});
          const box = found.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )


def click(tab, selector, index=0, **more):
    x, y = center(tab, selector, index)
    for kind in ("mousePressed", "mouseReleased"):
        tab.mouse(kind, x, y, button="left", buttons=1, clickCount=1, **more)


def test_draws_every_codec_and_runs_no_name(tab, path):
    assert set(tab.run(NAMES)) == {*CODECS, "paper"}
    assert tab.run("document.scripts.length") == 3
    assert EVIL in tab.run("document.querySelector('#rd-legend').innerText")
    assert path.stat().st_size < 4_000_000


def test_does_not_move_while_it_loads(tab):
    code = """new Promise((done) => {
      let sum = 0;
      const add = (list) => list.getEntries().forEach((one) => { sum += one.value; });
      new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
      setTimeout(() => done(sum), 300);
    })"""
    assert tab.run(code) < 0.02


def test_address_sets_everything(tab, path):
    tab.open(path, f"#rd&metric=ms-ssim&log=1&hide=jpeg,webp,{EVIL}&anchor=avif&dark")
    assert set(tab.run(NAMES)) == {"ours", "avif"}
    assert "MS-SSIM" in tab.run("document.querySelector('#rd-axis').textContent")
    assert tab.run(
        "[...document.querySelectorAll('#rd-controls .segments [aria-pressed=true]')].map((b) => b.textContent)"
    ) == ["Log"]
    shown = "[...document.querySelectorAll('#bd [data-metric]')].filter((e) => e.checkVisibility())"
    assert set(tab.run(f"{shown}.map((e) => e.dataset.metric)")) == {"ms-ssim"}
    assert "avif" in tab.run("document.querySelector('#speed-axis').textContent")
    assert tab.run("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 28)"
    tab.run("location.hash = '#item=two&nonsense=1&%zz'")
    tab.wait("document.querySelector('#rd-controls select:nth-of-type(1)')")
    assert tab.run("[...document.querySelectorAll('#rd-controls select')].map((s) => s.value)") == ["psnr", "two"]
    assert tab.run("document.documentElement.dataset.theme") is None


def test_legend_switches_curves(tab):
    click(tab, "#rd-legend button", 1)
    assert "jpeg" not in tab.run(NAMES)
    assert fragment(tab) == "#hide=jpeg"
    click(tab, "#rd-legend button", 1)
    assert fragment(tab) == ""
    click(tab, "#rd-legend button", 2, modifiers=8)  # with Shift
    assert tab.run(NAMES) == ["webp"]
    click(tab, "#rd-legend button", 2, modifiers=8)
    assert len(tab.run(NAMES)) == 6


def test_points_can_be_hovered_and_walked(tab):
    x, y = center(tab, "#rd-plot g[data-name=jpeg] .mark", 2)
    tab.mouse("mouseMoved", x, y)
    assert tab.run(f"{TIP}.innerText").split("\n")[0] in ("jpeg", EVIL)  # which lie on each other
    tab.mouse("mouseMoved", 5, 5)
    assert tab.run(f"{TIP}.hidden")
    tab.run("document.querySelector('#rd-plot svg.plot').focus()")
    tab.key("ArrowRight")
    first = tab.run(f"{TIP}.innerText")
    tab.key("ArrowRight")
    second = tab.run(f"{TIP}.innerText")
    assert (first.split("\n")[0], second.split("\n")[0]) == ("ours", "ours")
    assert "quality 30, mean of 3 items" in second
    assert tab.run("document.querySelector('#status').textContent").startswith("ours, 0.313")
    tab.key("ArrowUp")
    assert tab.run(f"{TIP}.innerText").split("\n")[0] != "ours"
    tab.key("Escape")
    assert tab.run(f"{TIP}.hidden")


def test_dragging_zooms(tab):
    x, y = center(tab, "#rd-plot svg.plot")
    tab.mouse("mousePressed", x - 200, y, button="left", buttons=1, clickCount=1)
    tab.mouse("mouseMoved", x, y, button="left", buttons=1)
    tab.mouse("mouseReleased", x, y, button="left", clickCount=1)
    assert fragment(tab).startswith("#zoom=")
    low, high = map(float, fragment(tab).removeprefix("#zoom=").split(","))
    assert 0 < low < high < 4
    click(tab, "#rd-controls > button")
    assert fragment(tab) == ""


def test_tables_sort(tab):
    column = "[...document.querySelector('#bd table').tBodies[0].rows].map((row) => row.cells[1].textContent)"
    number = [float(text[:-2].replace("\u2212", "-")) for text in tab.run(column)]
    click(tab, "#bd th button", 1)
    assert [float(t[:-2].replace("\u2212", "-")) for t in tab.run(column)] == sorted(number)
    click(tab, "#bd th button", 1)
    assert [float(t[:-2].replace("\u2212", "-")) for t in tab.run(column)] == sorted(number, reverse=True)
    assert tab.run("document.querySelector('#bd th[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_items_open_their_curves(tab):
    x, y = center(tab, "#items-plot g[data-name=webp] .mark", 1)
    for _ in range(2):  # the first tap shows what it is
        assert fragment(tab) == ""
        tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        assert tab.run("document.querySelector('#items-plot .tip').innerText").startswith("two") or fragment(tab)
    tab.wait("location.hash === '#item=two'")
    tab.run("location.hash = ''")
    x, y = center(tab, "#items-plot g[data-name=webp] .mark", 0)
    tab.mouse("mouseMoved", x, y)
    click(tab, "#items-plot g[data-name=webp] .mark", 0)
    assert fragment(tab) == "#item=one"
    tab.run("location.hash = '#item=two'")
    tab.run("document.querySelector('#rd-plot svg.plot').focus()")
    tab.key("ArrowRight")
    assert "encode 800\u2009ms" in tab.run(f"{TIP}.innerText")


def test_viewer_flips_splits_and_enlarges(tab):
    on = "document.querySelector('.canvas img.on').src === document.querySelector('#s0').src"
    x, y = center(tab, "#viewer .stage")
    assert tab.run(SHOWN) == 1
    assert not tab.run(on)
    tab.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    assert tab.run(on)
    tab.mouse("mouseReleased", x, y, button="left", clickCount=1)
    assert not tab.run(on)
    tab.key("3")
    assert fragment(tab) == "#show=jpeg"
    assert tab.run("document.querySelector('#viewer .caption').textContent").startswith(
        "jpeg at quality 10: 200\u2009B, 0.260"
    )
    tab.key("ArrowRight")
    assert fragment(tab) == "#show=webp"
    tab.key("1")
    assert tab.run(on)
    tab.run("location.hash = '#show=ours&split=jpeg&level=high&scale=4&look=two'")
    tab.wait(f"{SHOWN} === 2")
    assert tab.run("document.querySelector('.canvas').offsetWidth") == 4 * 96
    assert tab.run("document.querySelector('#viewer .caption').textContent").startswith("left: jpeg, right: ours")
    tab.run("const h = document.querySelector('.handle'); h.value = 25; h.dispatchEvent(new Event('input'))")
    assert (
        tab.run("[...document.querySelectorAll('.canvas img.on')].map((i) => i.style.clipPath).join('')")
        == "inset(0px 75% 0px 0px)"
    )
    tab.run("document.querySelector('#samples .picks button').focus()")
    tab.key("4")
    assert tab.run("document.activeElement.value") == "original"  # focus stays


def test_theme_and_colours(tab, tmp_path):
    for palette in (PALETTE, PALETTE_DARK):
        center(tab, "#rd-plot")
        tab.screenshot(tmp_path / "shot.png")
        pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).reshape(-1, 3)
        for colour in palette[:6]:
            wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
            assert (np.abs(pixels.astype(int) - wanted).max(axis=1) <= 2).sum() > 60, colour
        click(tab, "#theme")
        page = tab.run("getComputedStyle(document.documentElement).getPropertyValue('--page').trim()")
        assert page == (DARK["page"] if palette is PALETTE else "#ffffff")


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_pages_do_not_scroll_sideways(tab, path, width):
    tab.size(width, 800)
    tab.open(path, "#metric=mel&split=jpeg")
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('.plot-box svg')]"
    boxes = tab.run(f"{drawn}.map((s) => s.viewBox.baseVal.width / s.getBoundingClientRect().width)")
    assert boxes == pytest.approx([1] * len(boxes), abs=0.01)


def test_downloads(tab, path, tmp_path):
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for button in (0, 1):
        click(tab, "#downloads button", button)
    deadline = time.monotonic() + 30
    while {p.name for p in tmp_path.iterdir()} != {"results.json", "results.csv"} and time.monotonic() < deadline:
        time.sleep(0.05)
    results = make_results(path.parent, "image", ("psnr", "ms-ssim", "mel"))
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found == results.to_json()
    Results.from_json(found)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text("utf-8"))))
    assert len(rows) == 75
    assert rows[0] | {"item": "one", "codec": "ours", "bytes": "120", "psnr": "26"} == rows[0]
    assert {row["codec"] for row in rows} == set(CODECS)
    tab.run("document.querySelector('#rows').closest('details').open = true")
    tab.wait("document.querySelectorAll('#rows tbody tr').length === 75")


def test_prints(tab, tmp_path):
    tab.pdf(tmp_path / "page.pdf")
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") <= 12


def test_sound_plays_on_while_it_is_switched(browser, tmp_path):
    page = write(tmp_path, "audio", ("si-sdr", "psnr"))
    browser.size(800, 900)
    browser.open(page)
    click(browser, "#listener .play")
    clock = "parseFloat(document.querySelector('.clock').textContent)"
    browser.wait(f"{clock} > 0.2")
    browser.key("4")
    assert fragment(browser) == "#show=webp"
    before = browser.run(clock)
    browser.wait(f"{clock} !== {before}")
    click(browser, "#listener .play")
    assert browser.run("document.querySelector('.play').textContent") == "Play"
    assert browser.errors == []
