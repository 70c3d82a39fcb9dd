"""The page of the report in Chromium: filters, zoom, sizes of screens, keyboard, names for screen readers, contrast."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from evaluator_data import STANDING, person, write_annotations
from report_data import entry, write_evaluation, write_evaluations

from evaluator.__main__ import COMMANDS
from evaluator.metrics.diagnosis import ERRORS
from evaluator.report import report
from pipeline.cli import main
from pipeline.skeletons import COCO18

STYLE = (Path(report.__file__).parent / "page" / "report.css").read_text()
MIN_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3


def write_report(*folders, annotations, images=None):
    """Write a report and return its URL."""
    words = ["report", *folders, "--annotations", annotations, *(["--images", images] if images else [])]
    assert main("python -m evaluator", "", COMMANDS, list(map(str, words))) == 0
    return (folders[0] / "report.html").resolve().as_uri()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two evaluations, and the URL of their report."""
    annotations, images, first, second = write_evaluations(tmp_path_factory.mktemp("compared"))
    return first, second, write_report(first, second, annotations=annotations, images=images)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The URL of a report of 60 images with 120 people, without pictures; half of the people with high scores are right."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    images = {number: (f"street/{number:03d}.jpg", 900, 300) for number in range(1, 61)}
    truth = [(number, person(200, 40)) for number in images]
    annotations = write_annotations(folder / "a.json", images, truth)
    results = [entry(points, number, rng.uniform(0.5, 1)) for number, points in truth]
    results += [entry(person(600, 60), number, rng.uniform(0.2, 0.7)) for number in images]
    return write_report(write_evaluation(folder / "ap", annotations, results), annotations=annotations)


@pytest.fixture(scope="module")
def window():
    with chromium() as window:
        yield Window(window)
        assert window.get_log("browser") == []


class Window:
    """A browser window with the few actions that the tests need."""

    def __init__(self, driver):
        self.driver, self.run = driver, driver.execute_script

    def open(self, url, *, width=1300, height=1000, scheme="light", media="screen"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return [node.text for node in self.all(selector)]

    def click(self, selector):
        node = self.all(selector)[0]
        self.run("arguments[0].scrollIntoView({block: 'center'})", node)
        node.click()

    def choose(self, selector, value):
        self.run(
            "const node = document.querySelector(arguments[0]); node.value = arguments[1];"
            "node.dispatchEvent(new Event('input', {bubbles: true}))", selector, value,
        )  # fmt: skip

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def cards(self):
        return [int(card.get_attribute("data-id")) for card in self.all(".card")]

    def view_box(self):
        [predicted, true] = self.all("#panes svg")
        assert predicted.get_dom_attribute("viewBox") == true.get_dom_attribute("viewBox"), "both panes show the same region"
        return [float(number) for number in predicted.get_dom_attribute("viewBox").split()]


@pytest.mark.slow
def test_figures_curves_and_tables_follow_the_selected_evaluation(window, compared):
    first, second, url = compared
    window.open(url)
    stored = [json.loads((folder / "metrics.json").read_text())["figures"] for folder in (first, second)]
    shown = [[f"{value:.3f}".replace("-1.000", "–") for value in figures.values()] for figures in stored]
    assert window.texts("#coco td:nth-child(2)") == shown[0]
    assert window.texts("#coco tbody tr")[1] == f"Average Precision (AP) {shown[0][1]} 0.50 all"
    window.click("#runs button:nth-child(2)")
    assert window.texts("#coco td:nth-child(2)") == shown[1]
    rows = window.texts("#compare tbody tr")
    pck = json.loads((second / "metrics.json").read_text())["others"]["pck"]
    assert window.texts("#others tbody tr")[:6] == [f"{name} {value:.3f}" for name, value in pck["figures"].items()]
    assert window.texts("#others tbody tr")[6] == " ".join(
        ["nose", *(f"{column['nose']:.3f}" for column in pck["joints"].values())]
    )
    assert len(rows) == 10 + len(pck["figures"]) + 2 * len(ERRORS)
    assert rows[0] == f"AP {shown[0][0]} {shown[1][0]} {stored[1]['AP'] - stored[0]['AP']:.3f}"

    drawn = len(window.all(".curve:not(.other)"))
    window.click("#legend button[data-oks='0.55']")
    assert len(window.all(".curve:not(.other)")) == drawn + 1 >= 4
    window.click("#legend button[data-oks='0.50']")
    assert len(window.all(".curve:not(.other)")) == drawn
    assert not window.all("#scores")[0].is_displayed(), "seven people make no curve"
    assert window.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


@pytest.mark.slow
def test_images_are_filtered_and_enlarged(window, compared):
    window.open(compared[2])
    window.click("#runs button:nth-child(2)")
    assert sorted(window.cards()) == [10, 20, 30]
    for selector, value, ids in (("#kind", "jitter", [10]), ("#low", "0.6", [20]), ("#group", "most missed", [10])):
        before = window.run("return document.querySelector(arguments[0]).value", selector)
        window.choose(selector, value)
        assert window.cards() == ids
        window.choose(selector, before)
    disabled = window.run("return [...document.querySelectorAll('#kind option:disabled')].map((option) => option.value)")
    assert disabled == ["miss", "swap", "score"]

    window.click(".card[data-id='10']")
    assert len(window.all("#large[open] [data-pane=predicted] .ring")) == len(window.all("#large [data-pane=true] .ring")) == 17
    assert len(window.all("#large [data-pane=true] .body.missed")) == 1
    assert "a</script><b>.png" in window.texts("#title")[0]
    assert window.all("#file")[0].get_attribute("href").endswith("/images/a%3C/script%3E%3Cb%3E.png")
    whole = window.view_box()
    assert whole == [-0.5, -0.5, 320, 300]
    window.click("#zoom-in")
    assert window.view_box()[2] == pytest.approx(320 / 1.5)
    window.run(
        "document.querySelector('#panes svg').dispatchEvent("
        "new WheelEvent('wheel', {deltaY: -1, clientX: 300, clientY: 400, cancelable: true}))"
    )
    assert window.view_box()[2] == pytest.approx(320 / 1.5 / 1.25)
    window.click("#fit")
    assert window.view_box() == whole
    window.click("#next")
    assert "a</script>" not in window.texts("#title")[0]
    window.click("#close")
    assert not window.all("#large[open]")

    assert len(window.all(".card .body.false")) == 1
    window.click("#unmatched")
    assert not window.all(".card .body.false")


@pytest.mark.slow
def test_all_images_are_in_pages_and_can_be_searched(window, many):
    window.open(many)
    assert window.texts("#shown") == ["1 to 24 of 60 images"] and len(window.cards()) == 24
    for shown in ("25 to 48 of 60 images", "49 to 60 of 60 images"):
        window.click("#later")
        assert window.texts("#shown") == [shown]
    assert not window.all("#later")[0].is_enabled() and window.all("#earlier")[0].is_enabled()
    window.choose("#search", "STREET/04")
    assert sorted(window.cards()) == list(range(40, 50))
    window.choose("#search", "nowhere")
    assert window.cards() == [] and window.texts("#shown") == ["no image fits the filters"]
    window.choose("#search", "")
    window.choose("#order", "by file name")
    assert window.cards() == list(range(1, 25))
    assert window.texts("#group option")[1] == "best (12)"
    assert [name.split()[0] for name in window.texts("#kind option:disabled")] == [kind for kind in ERRORS if kind != "false"]
    assert len(window.all("#reliability circle")) == 30
    assert re.fullmatch(r"0\.\d{3} scores of this evaluation", window.texts("#errors-of-scores tbody tr")[0])


@pytest.mark.slow
def test_the_keyboard_reaches_everything(window, compared):
    from selenium.webdriver.common.keys import Keys

    window.open(compared[2])
    window.run("document.querySelector('#joints th button').focus()")
    window.press(Keys.ENTER)
    window.press(Keys.SPACE)
    names = window.texts("#joints tbody th")
    assert names == sorted(COCO18.source_joints, reverse=True) and len(names) == len(STANDING)
    assert window.all("#joints thead th")[0].get_attribute("aria-sort") == "descending"
    assert window.run("return document.activeElement.textContent") == "joint", "the focus stays on the heading"
    window.run("document.querySelector('.card').focus()")
    window.press(Keys.ENTER)
    assert window.all("#large[open]")
    title = window.texts("#title")[0]
    window.press(Keys.ARROW_RIGHT)
    assert window.texts("#title")[0] != title
    whole = window.view_box()
    window.press("+")
    assert window.view_box()[2] < whole[2]
    window.press("0")
    assert window.view_box() == whole
    window.press(Keys.ESCAPE)
    assert not window.all("#large[open]")
    assert window.run("return document.activeElement.className") == "card", "the focus returns to the image"


NAMELESS = """
const named = (node) =>
  node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.[0]?.textContent.trim() ||
  document.getElementById(node.getAttribute("aria-labelledby"))?.textContent.trim();
return [...document.querySelectorAll("button, a, input, select, dialog, svg, nav, [role=img], [role=region]")]
  .filter((node) => !named(node)).map((node) => node.outerHTML.slice(0, 100));
"""
# Every visible text with its color and the first background behind it that is not transparent.
TEXTS = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  const box = node.getBoundingClientRect();
  if (!walker.currentNode.data.trim() || !box.width || !node.checkVisibility({visibilityProperty: true})) continue;
  let behind = node;
  while (behind && /rgba\\(.*, 0\\)/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const style = getComputedStyle(node);
  const ink = node instanceof SVGElement ? style.fill : style.color;
  found.push([ink, getComputedStyle(behind || document.body).backgroundColor, style.opacity, walker.currentNode.data.trim()]);
}
for (const curve of document.querySelectorAll(".curve, .ideal, #reliability circle")) {
  const style = getComputedStyle(curve);
  const section = getComputedStyle(curve.closest("section")).backgroundColor;
  found.push([curve.localName === "circle" ? style.fill : style.stroke, section, style.opacity, "curve"]);
}
return found;
"""


def contrast(first, second):
    """WCAG 2.2, "contrast ratio": of two colors as CSS writes them."""

    def luminance(color):
        channels = np.array([float(number) for number in re.findall(r"[\d.]+", color)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_everything_has_a_name_and_enough_contrast_and_nothing_is_wider_than_the_screen(window, compared, many, scheme, width):
    for url in (compared[2], many):
        window.open(url, width=width, height=844, scheme=scheme)
        for state in ("page", "large"):
            if state == "large":
                window.run("document.querySelector('.card').click()")
                panes = window.run(
                    "return [...document.querySelectorAll('#panes svg')].map(s => s.getBoundingClientRect().height)"
                )
                assert min(panes) > 200
            assert window.run("return document.documentElement.scrollWidth") <= width
            assert window.run(NAMELESS) == []
            texts = window.run(TEXTS)
            assert len(texts) > 100 and {opacity for _, _, opacity, _ in texts} == {"1"}
            weak = [(text, ink, behind) for ink, behind, _, text in texts if contrast(ink, behind) < MIN_CONTRAST]
            assert weak == []


@pytest.mark.slow
def test_the_printed_page_is_light_and_shows_content_only(window, compared):
    window.open(compared[2], media="print", scheme="dark")
    assert {behind for _, behind, _, _ in window.run(TEXTS)} >= {"rgb(255, 255, 255)"}
    assert [ink for ink, behind, _, _ in window.run(TEXTS) if contrast(ink, behind) < MIN_CONTRAST] == []
    hidden = ("#runs", "#filters", ".pages")
    assert not any(node.is_displayed() for selector in hidden for node in window.all(selector))
    assert all(node.is_displayed() for selector in ("#coco", "#plot svg", "#errors", ".card") for node in window.all(selector))


def test_contrast_is_that_of_wcag():
    """Values of the contrast checker at webaim.org/resources/contrastchecker."""
    for color, expected in (("rgb(0, 0, 0)", 21), ("rgb(119, 119, 119)", 4.48), ("rgb(255, 0, 0)", 4.0)):
        assert contrast(color, "rgb(255, 255, 255)") == pytest.approx(expected, abs=0.005)


def colors():
    """The colors of the style sheet by name, in the light and in the dark scheme."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    )
    return {"light": light, "dark": light | dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colors_of_the_style_sheet_contrast(scheme):
    """Without a browser: texts, and what only a color tells, on the backgrounds on which they are."""
    names = colors()[scheme]

    def css(name):
        digits = names[name][1:] if len(names[name]) == 7 else "".join(2 * digit for digit in names[name][1:])
        return f"rgb({', '.join(str(int(digits[i : i + 2], 16)) for i in (0, 2, 4))})"

    on_card = [*ERRORS, "good", "ink", "pale", "accent"]
    pairs = [(name, "card") for name in on_card] + [(name, "on-color") for name in (*ERRORS, "accent")]
    pairs += [(name, "ground") for name in ("ink", "pale")]
    assert {pair: ratio for pair in pairs if (ratio := contrast(css(pair[0]), css(pair[1]))) < MIN_CONTRAST} == {}
    assert contrast(css("rest"), css("ground")) >= 3, "a bar, whose value is in the table: 1.4.11"
