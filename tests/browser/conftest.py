"""A headless Chromium of this machine, and pages in it. Where there is none, the tests are skipped and say why."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
sys.path += [str(_TESTS / "browser"), str(_TESTS / "drawing")]  # tests are imported by path, and their helpers are not

from chromium import SLOW, Browser

from lora_mnist_cli.stages import Workspace, explore

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="no Selenium: pip install '.[browser-test]'")
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    driver_file = shutil.which("chromedriver")
    if binary is None or driver_file is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_file))
    driver.set_script_timeout(SLOW)
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def page(trained: Path, make_once: Callable[..., Path]) -> Path:
    """The page of the trained sweep: ranks 1 and 2 on MNIST."""

    def make(folder: Path) -> None:
        explore(output=folder / "explore.html", workspace=Workspace(trained))

    return make_once("page", make) / "explore.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The browser with that page."""
    browser.open(page)
    return browser
