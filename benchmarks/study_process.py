"""The original study as a process of its own: the base, seven ranks on 5-9, and rank 64 on 0-9, by its pipeline.

``python benchmarks/study_process.py base`` or ``… whole`` prints the seconds and the accuracy of each part as JSON; the
notebook's pictures are left out. ``benchmarks/processes.py`` sets it beside the commands of this project.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from study_pipeline import DigitImages, StudyClassifier, adapt, evaluate, train

from lora_mnist_cli.evaluation.original_study import RANKS

OLD, NEW, ALL = range(5), range(5, 10), range(10)


def main() -> None:
    """Run the parts that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description="Run the original study's pipeline.")
    parser.add_argument("parts", choices=("base", "whole"))
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    seconds: dict[str, float] = {}
    accuracies: dict[str, list[float]] = {}
    with TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        folder = Path(place)

        @contextlib.contextmanager
        def part(name: str) -> object:  # type: ignore[misc]
            start = time.perf_counter()
            yield
            seconds[name] = time.perf_counter() - start

        def scored(model: StudyClassifier, digits: range) -> float:
            return evaluate(model, DigitImages("test", digits), folder)[0]

        with part("base"):
            base = train(DigitImages("train", OLD), folder, epochs=options.epochs)
            accuracies["base"] = [scored(base, OLD), scored(base, NEW)]
        if options.parts == "whole":
            with part("seven ranks"):
                images = DigitImages("train", NEW)
                models = [adapt(base, rank, images, folder, epochs=options.epochs) for rank in RANKS]
                accuracies["seven ranks"] = [scored(model, NEW) for model in models]
            with part("all digits"):
                model = adapt(base, RANKS[-1], DigitImages("train", ALL), folder, epochs=options.epochs)
                accuracies["all digits"] = [scored(model, ALL)]
    print(json.dumps({"seconds": seconds, "accuracies": accuracies}))


if __name__ == "__main__":
    main()
