"""The report in a browser: sorting, security policy, narrow screens, dark mode."""

import json
import shutil

import pytest
from synthetic_run import METHODS, write_run

from captum_ext.report.page import write_report

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Contrast of each text with the nearest background color, by WCAG's formula.
CONTRASTS = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = channels(color).map((value) => {
    const c = value / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = (element) => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if (channels(color)[3] !== 0) return color;
  }
  throw new Error("no background");
};
const contrasts = [];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || element.closest("script, desc") || !element.getClientRects().length)
    continue;
  const style = getComputedStyle(element);
  const text = luminance(element.closest("svg") ? style.fill : style.color);
  const below = luminance(background(element));
  const ratio = (Math.max(text, below) + 0.05) / (Math.min(text, below) + 0.05);
  contrasts.push([ratio, element.tagName, element.textContent.slice(0, 40)]);
}
return contrasts;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def chromium():
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Containers lack namespaces for the sandbox, and have little shared memory.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def view(chromium, page):
    """Function that opens the page at a width, in light or dark mode."""

    def opened(width=1280, scheme="light"):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        feature = {"name": "prefers-color-scheme", "value": scheme}
        command = chromium.execute_cdp_cmd
        command("Emulation.setDeviceMetricsOverride", size)
        command("Emulation.setEmulatedMedia", {"features": [feature]})
        for log in ("browser", "performance"):
            chromium.get_log(log)
        chromium.get(page.as_uri())
        return chromium

    return opened


def open_details(browser):
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => d.open = 1)"
    )


def heading(browser, table, column):
    box = browser.find_element(By.CSS_SELECTOR, f"[aria-labelledby={table}]")
    return box.find_elements(By.CSS_SELECTOR, "thead th")[column]


def shown(browser, table, column):
    """Cells of a column, from top to bottom."""
    return browser.execute_script(
        "const box = document.querySelector(`[aria-labelledby=${arguments[0]}]`);"
        "return [...box.querySelectorAll('tbody tr')]"
        ".map((row) => row.cells[arguments[1]].dataset.value ??"
        " row.cells[arguments[1]].textContent.trim())",
        table,
        column,
    )


def test_no_request_and_no_log_message(view, page):
    browser = view()
    open_details(browser)
    events = [
        json.loads(e["message"])["message"] for e in browser.get_log("performance")
    ]
    requested = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert requested[0] == page.as_uri()
    assert all(url.startswith("data:") for url in requested[1:])
    assert browser.get_log("browser") == []


def test_security_policy_blocks_other_files(view):
    """Even if a name became an element, it could not load a file."""
    browser = view()
    browser.execute_async_script(
        "const image = new Image();"
        "image.onerror = arguments[0];"
        "image.src = 'file:///image.png';"
        "document.body.append(image);"
    )
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


def test_all_images_are_shown(view):
    broken = view().execute_script(
        "return [...document.images].filter((image) => !image.naturalWidth).length"
    )
    assert broken == 0


def test_columns_sort_by_click(view):
    browser = view()
    before = shown(browser, "means", 0)
    insertion = heading(browser, "means", 1)
    insertion.find_element(By.TAG_NAME, "button").click()
    values = [float(v) for v in shown(browser, "means", 1)]
    assert values == sorted(values, reverse=True), "the best value comes first"
    assert insertion.get_attribute("aria-sort") == "descending"

    insertion.find_element(By.TAG_NAME, "button").click()
    assert [float(v) for v in shown(browser, "means", 1)] == sorted(values)
    assert insertion.get_attribute("aria-sort") == "ascending"

    deletion = heading(browser, "means", 2)
    deletion.find_element(By.TAG_NAME, "button").click()
    values = [float(v) for v in shown(browser, "means", 2)]
    assert values == sorted(values), "the best value is the lowest"
    assert deletion.get_attribute("aria-sort") == "ascending"
    assert insertion.get_attribute("aria-sort") is None

    heading(browser, "means", 0).find_element(By.TAG_NAME, "button").click()
    assert shown(browser, "means", 0) == sorted(before, key=str.lower) != before
    assert shown(browser, "medians", 0) == before, "other tables are not sorted"


def test_columns_sort_by_keyboard(view):
    browser = view()
    insertion = heading(browser, "means", 1)
    button = insertion.find_element(By.TAG_NAME, "button")
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        if browser.switch_to.active_element == button:
            break
    assert browser.switch_to.active_element == button, "reachable by Tab"
    outline = browser.execute_script(
        "return getComputedStyle(arguments[0]).outlineStyle", button
    )
    assert outline == "solid"
    for key, order in ((Keys.ENTER, "descending"), (Keys.SPACE, "ascending")):
        browser.switch_to.active_element.send_keys(key)
        assert insertion.get_attribute("aria-sort") == order
        values = [float(v) for v in shown(browser, "means", 1)]
        assert values == sorted(values, reverse=order == "descending")
        assert browser.switch_to.active_element == button


def test_cells_without_a_number_stay_at_the_end(view):
    browser = view()
    browser.execute_script(
        "const cell = document.querySelector('[aria-labelledby=means] tbody td');"
        "delete cell.dataset.value; cell.textContent = '–';"
    )
    button = heading(browser, "means", 1).find_element(By.TAG_NAME, "button")
    for _ in range(2):
        button.click()
        assert shown(browser, "means", 1).index("–") == len(METHODS) - 1


def test_first_tab_stop_skips_to_the_content(view):
    browser = view()
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.get_attribute("href").endswith("#content")
    assert skip.rect["width"] > 50 and skip.rect["height"] > 20
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "content"


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_only_tables_scroll_sideways(view, width):
    browser = view(width)
    open_details(browser)
    wide, view_width = browser.execute_script(
        "const root = document.documentElement;"
        "return [root.scrollWidth, root.clientWidth]"
    )
    assert wide <= view_width
    stuck = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((box) => {"
        "  box.scrollLeft = 1e6;"
        "  const hidden = box.scrollWidth - box.clientWidth;"
        "  return Math.abs(box.scrollLeft - hidden) > 1;"
        "}).length"
    )
    assert stuck == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(view, scheme):
    browser = view(scheme=scheme)
    open_details(browser)
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) > 300
    assert min(contrasts)[0] >= 4.5, min(contrasts)


def test_dark_is_dark(view):
    def background(scheme):
        color = view(scheme=scheme).execute_script(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )
        return [int(part) for part in color[4:-1].split(",")]

    assert min(background("light")) > 200 and max(background("dark")) < 50
