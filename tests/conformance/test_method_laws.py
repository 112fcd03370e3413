"""The laws of methods beside LoRA: each catches its mistake alone, and what is right keeps all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.method_implementations import RIGHT, WRONG, Right

from lora_mnist_cli.conformance import ready
from lora_mnist_cli.conformance.laws import laws_of
from lora_mnist_cli.conformance.running import check, find_factory
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.errors import UsageError

OTHERS = [name for name in METHODS if name != "lora"]


def broken(factory: object, method: str) -> dict[str, str]:
    rows = check(factory, method=method)  # type: ignore[arg-type]
    assert [row["law"] for row in rows] == list(laws_of(method))
    return {row["law"]: row["evidence"] for row in rows if row["verdict"] == "BROKEN"}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_caught_by_the_laws_that_are_meant_for_it_alone(name):
    method, factory, laws = WRONG[name]
    found = broken(factory, method)
    assert set(found) == laws
    assert not any("it raised" in evidence for evidence in found.values())


def test_every_law_of_a_method_is_the_only_one_that_catches_some_mistake():
    alone = {law for _, _, laws in WRONG.values() if len(laws) == 1 for law in laws}
    assert alone == {law for method in OTHERS for law in laws_of(method)}


@pytest.mark.parametrize("method", RIGHT)
def test_what_is_right_keeps_every_law(method):
    assert broken(lambda: Right(RIGHT[method]), method) == {}


@pytest.mark.parametrize("method", OTHERS)
def test_our_methods_keep_every_law(method):
    assert broken(find_factory("ours", method), method) == {}


NO_ALPHA = {"set-alpha", "alpha-0"}
AS_IT_IS = {
    "dora": {"set-alpha", "alpha-0"},  # alpha multiplies the product inside the norm
    "pissa": {"set-alpha", "alpha-0", "base"},  # the rest of the weight is written into the base
    "vera": NO_ALPHA,
    "randlora": NO_ALPHA,
    "delora": NO_ALPHA,
    "lokr": set(),
    "miss": NO_ALPHA,
    "hra": NO_ALPHA,
    "ia3": NO_ALPHA,
}


@pytest.mark.parametrize("method", ready.PEFT_METHODS)
def test_peft_as_it_is(method):
    """As with LoRA, it subtracts what it merged, and reports what it did not load without raising."""
    pytest.importorskip("peft")
    found = broken(find_factory("peft", method), method)
    assert set(found) == AS_IT_IS[method] | {"unmerge-exact", "load-strict"}
    assert ("not implemented" in found.get("alpha-0", "")) is (AS_IT_IS[method] is NO_ALPHA)


def test_a_method_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"no method 'dara' \(did you mean 'dora'\?\)"):
        find_factory("ours", "dara")
    with pytest.raises(UsageError, match="'ours-rslora' names no implementation"):
        find_factory("ours-rslora", "dora")
    pytest.importorskip("peft")
    with pytest.raises(UsageError, match="PEFT's BitFit is not on the bench"):
        find_factory("peft", "bitfit")


def test_the_documentation_names_every_law():
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
    for method in METHODS:
        for name, law in laws_of(method).items():
            assert f"| {law.about} |" in page, name
