"""A page in a headless Chromium: what it shows, what its scripts compute, and what it asks for."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

SLOW = 120
"""Seconds that only a hang takes."""


NAMES = ("chromium", "chromium-browser", "google-chrome")


def start() -> Any:
    """Start a headless Chromium of this machine and return its driver, or the reason why there is none."""
    try:
        from selenium import webdriver
    except ImportError:
        return "no Selenium: pip install '.[browser-test]'"
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    driver_file = shutil.which("chromedriver")
    if binary is None or driver_file is None:
        return "no Chromium with its driver: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_file))
    driver.set_script_timeout(SLOW)
    return driver


class Browser:
    """A page in a browser: what it shows, and what its scripts compute."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, hash_: str = "", *, width: int = 1280, height: int = 900, **media: str) -> None:
        """Open a page from the disk, as if for the first time, and wait until it is at rest."""
        self.driver.get("about:blank")
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        media = {"prefers_reduced_motion": "reduce"} | media  # a smooth scroll would take a click's target away
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.cdp("Emulation.setEmulatedMedia", features=features)
        self.logs()
        self.driver.get(path.as_uri() + (f"#{hash_}" if hash_ else ""))
        rested = "document.getElementById('trust-text').dataset.difference !== undefined"
        self.wait(f"return {rested} || !document.getElementById('problem').hidden")

    def cdp(self, command: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def compute(self, script: str, *arguments: Any) -> Any:
        """Return what an asynchronous function body gives; ``model`` is the page's, ``given`` the arguments."""
        wrapped = (
            "const given = [...arguments], done = given.pop();"
            "explore.then(async ({ model, store, compute }) => {" + script + "})"
            ".then((value) => done([value]), (error) => done(String(error)))"
        )
        answer = self.driver.execute_async_script(wrapped, *arguments)
        assert isinstance(answer, list), answer
        return answer[0]

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, SLOW, poll_frequency=0.02).until(lambda driver: driver.execute_script(script))

    def settle(self) -> None:
        """Wait until what was done is drawn, spoken and in the address."""
        frame = "await new Promise(requestAnimationFrame);"
        self.compute(f"{2 * frame} await new Promise((done) => setTimeout(done, 300)); {2 * frame}")

    def element(self, selector: str) -> Any:
        from selenium.webdriver.common.by import By

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Bring an element into sight, click it, and wait as :meth:`settle`."""
        self.run("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", selector)
        self.run("document.querySelector(arguments[0]).click()", selector)
        self.settle()

    def text(self, selector: str) -> str:
        text = str(self.run("return document.querySelector(arguments[0]).textContent", selector))
        return text.replace("\u00a0", " ")

    def state(self) -> dict[str, Any]:
        return dict(self.compute("return store.state"))

    def logs(self) -> list[str]:
        """Take what the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Take the addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]


def as_text(content: Any) -> str:
    """Bytes for a script, which turns them back by ``fromText``."""
    return base64.b64encode(bytes(content)).decode("ascii")


FROM_TEXT = "const fromText = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));"
