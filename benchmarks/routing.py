"""What routing costs beside plain evaluation: ``python benchmarks/routing.py``; Markdown tables on stdout.

One adapter alone against a base and one or two adapters behind a router, on the 10,000 test images: as whole processes,
and the calculation alone, on one thread. Each round measures all of them in turn, and a ratio is that of a round.
Beside the clock stands the CPU time, user and system, which a busy machine disturbs less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import MEASURED, TOOL, compared, hardware, in_turn, measured, options, process, report, table, timed

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, sweep, train_base

BASE, ADAPTERS = "base-0-4", ("lora-5-9-r8", "lora-5-9-r64")


def experts(*names: str) -> list[str]:
    """Return the options that name experts."""
    return [word for name in names for word in ("--expert", name)]


CALLS = {
    "one adapter, plain": ["evaluate", ADAPTERS[0]],
    "base and adapter, fused": ["evaluate", "--route", *experts(BASE, ADAPTERS[0])],
    "base and adapter, densities": ["evaluate", "--route", *experts(BASE, ADAPTERS[0]), "--route-by", "densities"],
    "base and adapter, mixture": ["evaluate", "--route", *experts(BASE, ADAPTERS[0]), "--route-by", "mixture"],
    "base and adapter, choose": ["evaluate", "--route", *experts(BASE, ADAPTERS[0]), "--route-by", "choose"],
    "base and two adapters, fused": ["evaluate", "--route", *experts(BASE, *ADAPTERS)],
}


def main() -> None:
    """Measure, and print the table."""
    given = options(__doc__, rounds=10, epochs=1).parse_args()
    with TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        train_base(BaseConfig(epochs=given.epochs), workspace=workspace)
        sweep([8, 64], config=AdapterConfig(epochs=given.epochs), workspace=workspace)
        whole = {
            f"{name}, whole process": partial(process, name, [*TOOL, *call, "--runs-dir", place, "--json", "--quiet"])
            for name, call in CALLS.items()
        }
        inner = {f"{name}, calculation": partial(timed, name, call) for name, call in calculations(workspace).items()}
        timings = in_turn(whole | inner, given.rounds)
    rows = [(name, *measured(each, places=3)) for name, each in timings.items()]
    pairs = [(name, plain) for plain, *others in map(list, (whole, inner)) for name in others]
    parts = table(("10,000 images", *MEASURED), rows), compared("ratio", timings, pairs)
    report(given, *parts, hardware())


def calculations(workspace: Workspace) -> dict[str, Callable[[], object]]:
    """The same answers without their processes."""
    from lora_mnist_cli.evaluation.logits import predict, predict_with
    from lora_mnist_cli.stages.evaluating_routed import load_experts
    from lora_mnist_cli.stages.records.loading import load_model

    adapter = workspace.registry.get(ADAPTERS[0])
    loaded = load_model(workspace.registry, adapter)
    images = workspace.test_images(adapter, loaded.pixel_stats).images
    calls: list[Callable[[], object]] = [partial(predict, loaded.model, images)]
    two = [BASE, ADAPTERS[0]]
    all_three = [*two, ADAPTERS[1]]
    pairs = ((two, "fused"), (two, "densities"), (two, "mixture"), (two, "choose"), (all_three, "fused"))
    for names, by in pairs:
        model = load_experts(names, by=by, workspace=workspace).model
        calls.append(partial(predict_with, model.answers, model, images))
    return dict(zip(CALLS, calls, strict=True))


if __name__ == "__main__":
    main()
