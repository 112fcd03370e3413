"""A headless Chromium of this machine, and pages in it. Where there is none, the tests are skipped and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser.chromium import Browser, start

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, explore, finetune, sweep, train_base


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    driver = start()
    if isinstance(driver, str):
        pytest.skip(driver)
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def page(trained: Path, make_once: Callable[..., Path]) -> Path:
    """The page of the trained sweep: ranks 1 and 2 on MNIST."""

    def make(folder: Path) -> None:
        explore(output=folder / "explore.html", workspace=Workspace(trained))

    return make_once("page", make) / "explore.html"


@pytest.fixture(scope="session")
def routed(trained: Path, make_once: Callable[..., Path]) -> Path:
    """The page of an adapter with what the densities say."""

    def make(folder: Path) -> None:
        workspace = Workspace(trained)
        adapter = workspace.latest("adapter")
        explore([adapter.name], output=folder / "explore.html", route=True, workspace=workspace)

    return make_once("routed-page", make) / "explore.html"


@pytest.fixture(scope="session")
def knowing(small_data: Path, make_once: Callable[..., Path]) -> Path:
    """The page of an adapter whose base knows its digits already."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs", small_data)
        training = {"dataset": "fashion-mnist", "batch_size": 100, "epochs": 1}
        train_base(BaseConfig(digits=tuple(range(10)), hidden_sizes=(16, 12), **training), workspace=workspace)
        finetune(AdapterConfig(digits=(5, 6), rank=1, batch_size=100, epochs=1), workspace=workspace)
        explore(output=folder / "explore.html", workspace=workspace)

    return make_once("knowing-page", make) / "explore.html"


@pytest.fixture(scope="session")
def clothes(small_data: Path, make_once: Callable[..., Path]) -> Path:
    """The page of an adapter on the small data, which have names and are not drawn."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs", small_data)
        train_base(
            BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), batch_size=100, epochs=1), workspace=workspace
        )
        sweep([1, 2], config=AdapterConfig(epochs=1), workspace=workspace)
        explore(output=folder / "explore.html", workspace=workspace)

    return make_once("clothes-page", make) / "explore.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The browser with that page."""
    browser.open(page)
    return browser
