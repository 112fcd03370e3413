"""The laws catch each historical mistake, and pass what is right."""

from __future__ import annotations

import pytest
import torch
from conformance import implementations
from conformance.implementations import WRONG, Right

from lora_mnist_cli.conformance import ready
from lora_mnist_cli.conformance.laws import LAWS
from lora_mnist_cli.conformance.running import check
from lora_mnist_cli.system.errors import UsageError


def broken(factory: object, skip: object = ()) -> dict[str, str]:
    rows = check(factory, skip=skip)  # type: ignore[arg-type]
    assert [row["law"] for row in rows] == list(LAWS)
    return {row["law"]: row["evidence"] for row in rows if row["verdict"] == "BROKEN"}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_caught_by_the_law_that_is_meant_for_it(name):
    factory, law = WRONG[name]
    found = broken(factory, skip=[each for each in LAWS if each != law])  # all of them would take minutes
    assert law in found
    assert "it raised" not in found[law]


def test_every_law_is_broken_by_a_mistake_that_it_is_meant_for():
    assert {law for _, law in WRONG.values()} == set(LAWS)


@pytest.mark.parametrize("factory", [Right, ready.Ours, ready.OursStandard, ready.OursRslora])
def test_what_is_right_keeps_every_law_and_the_callers_random_numbers_are_left_alone(factory):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert broken(factory) == {}
    assert torch.equal(torch.rand(3), expected)


def test_a_wrong_claim_of_the_scale_is_found():
    claims = type("Claims", (ready.OursRslora,), {"attach": ready.OursStandard.attach, "scaling": "rslora"})
    assert broken(claims) == {}
    lies = type("Lies", (Right,), {"scaling": "rslora"})
    assert {"scaling", "set-alpha", "merge-train"} <= set(broken(lies))


def test_what_it_cannot_do_is_broken_unless_skipped(recorder):
    found = broken(implementations.NoMerge)
    assert set(found) == {"merge-train", "merge-eval", "merge-twice", "unmerge", "unmerge-exact", "alpha-merged"}
    for law, evidence in found.items():
        assert evidence == f"not implemented: only before training (--skip {law} where that is meant)"
    rows = check(implementations.NoMerge, skip=list(found), reporter=recorder)
    assert [(name, part) for name, _, part in recorder.all("phase")] == [
        ("testing laws", f"{number}/{len(LAWS)}") for number in range(1, len(LAWS) + 1)
    ]
    assert {row["law"] for row in rows if row["verdict"] == "skipped"} == set(found)
    assert {row["verdict"] for row in rows} == {"holds", "skipped"}


def test_what_it_raises_is_the_evidence():
    def fail(self: object, model: object) -> None:
        raise TypeError("no\nsuch thing")

    found = broken(type("Raises", (Right,), {"state": fail}))
    assert found["state"] == "it raised TypeError: no such thing"
    assert "scaling" not in found


def test_a_law_that_is_none_and_nothing_left_to_try_are_refused():
    with pytest.raises(UsageError, match=r"no law 'merge-evil' \(did you mean 'merge-eval'\?\)"):
        check(Right, skip=["merge-evil"])
    with pytest.raises(UsageError, match="nothing would be tried"):
        check(Right, skip=list(LAWS))


def test_peft_as_it_is():
    """It subtracts what it merged, lets alpha change while merged, and reports what it did not load without raising."""
    pytest.importorskip("peft")
    assert set(broken(ready.Peft)) == {"unmerge-exact", "alpha-merged", "load-strict"}


def test_loralib_as_it_is():
    """It merges in ``eval()``, subtracts what it merged, and is loaded without strictness."""
    pytest.importorskip("loralib")
    assert set(broken(ready.Loralib)) == {"modes", "unmerge-exact", "alpha-merged", "load-strict"}
