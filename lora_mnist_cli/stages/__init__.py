"""The stages as plain functions, for the command line and for notebooks alike.

Each takes a config and the names of its parents, and returns a record: a published
``Artifact``, or scores. Heavy modules are imported when work is to be done, so that a
stage which is up to date costs nothing; and a stage's own module when it is asked for, so that listing artifacts does
not load the code that trains them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_mnist_cli.stages.adapting import finetune, plan_sweep, sweep
    from lora_mnist_cli.stages.chains.run import chain
    from lora_mnist_cli.stages.combining import combine
    from lora_mnist_cli.stages.comparing import compare
    from lora_mnist_cli.stages.evaluating import Evaluation, check_gates, evaluate, parse_gates
    from lora_mnist_cli.stages.evaluating_routed import evaluate_routed
    from lora_mnist_cli.stages.gating import gate, plan_gate
    from lora_mnist_cli.stages.importing import import_adapter
    from lora_mnist_cli.stages.measuring_forgetting import forgetting
    from lora_mnist_cli.stages.merging import merge
    from lora_mnist_cli.stages.plotting import PlotOptions, plot
    from lora_mnist_cli.stages.reproducing import reproduce
    from lora_mnist_cli.stages.training_base import train_base
    from lora_mnist_cli.stages.workspace import Workspace

__all__ = [
    "Evaluation", "PlotOptions", "Workspace", "chain", "check_gates", "combine", "compare", "evaluate",
    "evaluate_routed", "finetune", "forgetting", "gate", "import_adapter", "merge", "parse_gates", "plan_gate",
    "plan_sweep", "plot", "reproduce", "sweep", "train_base",
]  # fmt: skip

_HOMES = {
    "Evaluation": "evaluating",
    "PlotOptions": "plotting",
    "Workspace": "workspace",
    "chain": "chains.run",
    "check_gates": "evaluating",
    "combine": "combining",
    "compare": "comparing",
    "evaluate": "evaluating",
    "evaluate_routed": "evaluating_routed",
    "finetune": "adapting",
    "forgetting": "measuring_forgetting",
    "gate": "gating",
    "import_adapter": "importing",
    "merge": "merging",
    "parse_gates": "evaluating",
    "plan_gate": "gating",
    "plan_sweep": "adapting",
    "plot": "plotting",
    "reproduce": "reproducing",
    "sweep": "adapting",
    "train_base": "training_base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
