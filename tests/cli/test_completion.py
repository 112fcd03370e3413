"""What the shell offers when Tab is pressed: commands, options, artifact names and the words that an option knows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from small_artifacts import BASE, NAMES, R1, R2

from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.stages.plotting import KINDS

RUNS = {
    "list", "latest", "path", "show", "lineage", "diff", "command", "settings", "rerun", "verify", "clean", "remove",
    "tag", "untag", "export", "import",
}  # fmt: skip


@pytest.fixture
def complete(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """The words that a shell would offer for a line whose last word is not finished."""

    def call(line: str, *, shell: str = "bash", env: dict[str, str] | None = None) -> set[str]:
        words = ["lora-mnist", *line.split(" ")]
        asked = {"_LORA_MNIST_COMPLETE": f"complete_{shell}", **(env or {})}
        if shell == "bash":
            asked |= {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        else:
            asked |= {"_TYPER_COMPLETE_ARGS": " ".join(words), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        with monkeypatch.context() as patch:
            for name, value in asked.items():
                patch.setenv(name, value)
            ended = run()
        assert (ended.code, ended.err) == (0, "")
        return {word.split("\t")[0] for word in ended.out.splitlines() if word}

    return call


@pytest.mark.parametrize(
    "line",
    ["evaluate ", "runs show ", "runs path ", "runs remove ", "finetune --base ", "plot history ", "runs lineage ",
     "runs diff ", f"runs diff {BASE} ", "runs verify ", "runs tag ", "runs export ", "runs list --base "],
)  # fmt: skip
def test_names_of_artifacts(line, runs, complete):
    assert complete(line) == set(NAMES)


def test_aliases_after_an_at_sign(runs, complete):
    for alias in ("best", "better", "worst"):
        Registry(runs).tag(BASE, alias)
    assert complete("evaluate @") == {"@best", "@better", "@worst"}
    assert complete("finetune --base @be") == {"@best", "@better"}
    assert complete("evaluate ") == set(NAMES)


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_only_what_begins_as_typed(shell, runs, complete):
    offered = " ".join(complete("evaluate lora-fashion-mnist-5-9-", shell=shell))
    # zsh gets a piece of its own language, the others a word a line.
    assert set(re.findall(r"[a-z]+(?:-[0-9a-z]+)+", offered)) == {R1, R2}


def test_names_come_from_the_folder_that_the_line_or_the_environment_names(runs, complete, tmp_path):
    runs.rename(tmp_path / "elsewhere")
    assert complete("evaluate ") == set()
    assert complete("evaluate --runs-dir elsewhere ") == set(NAMES)
    assert complete("evaluate ", env={"LORA_MNIST_RUNS": "elsewhere"}) == set(NAMES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ev", {"evaluate"}),
        ("runs ", RUNS),
        ("plot ", set(KINDS)),
        ("finetune --scaling ", {"constant", "standard", "rslora"}),
        ("train-base --dataset k", {"kmnist"}),
        ("train-base --accelerator ", {"auto", "cpu", "gpu"}),
        ("sweep --ra", {"--ranks", "--rank-pattern", "--rank-patterns"}),
        ("runs list --kind ", {"base", "adapter", "sweep", "report"}),
        ("runs list --sort ", {"created", "name", "kind", "rank", "seed", "accuracy", "bytes"}),
    ],
)
def test_words_of_the_program(line, expected, complete):
    assert complete(line) == expected


def test_a_folder_that_can_not_be_read_offers_nothing_and_says_nothing(complete, tmp_path):
    (tmp_path / "runs").write_text("a file")
    assert complete("evaluate ") == set()


def test_completing_loads_nothing_heavy(runs, complete, monkeypatch):
    spy = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))\n"
        "from lora_mnist_cli.cli import main\n"
        "main([])\n"
    )
    for name, value in {
        "_LORA_MNIST_COMPLETE": "complete_bash", "COMP_WORDS": "lora-mnist evaluate lora", "COMP_CWORD": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    ended = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == [R1, R2]
    assert set(ended.stderr.split()) & {"torch", "numpy", "matplotlib", "pytorch_lightning"} == set()
