"""The stages as plain functions: train, sweep, evaluate, merge, combine, chain, plot, explore, export.

Each takes a config and the names of its parents, and returns a record: a published ``Artifact``, or scores. A stage
that is up to date costs nothing, because heavy modules are imported when there is work, and a stage's own module when
somebody asks for it. Stages may import every room except :mod:`lora_mnist_cli.cli`. Inside this room imports point
one way: the study (``reproducing``) runs chains, chains run the stages beside this file, and those share ``banks``,
``records`` and ``workspace``. Read :mod:`~lora_mnist_cli.stages.training_base` first.
"""

from typing import TYPE_CHECKING

from lora_mnist_cli.system.lazy import lazy_exports

if TYPE_CHECKING:
    from lora_mnist_cli.stages.adapting import finetune as finetune
    from lora_mnist_cli.stages.adapting import plan_sweep as plan_sweep
    from lora_mnist_cli.stages.adapting import sweep as sweep
    from lora_mnist_cli.stages.chains.run import chain as chain
    from lora_mnist_cli.stages.combining import combine as combine
    from lora_mnist_cli.stages.comparing import compare as compare
    from lora_mnist_cli.stages.evaluating import Evaluation as Evaluation
    from lora_mnist_cli.stages.evaluating import check_gates as check_gates
    from lora_mnist_cli.stages.evaluating import evaluate as evaluate
    from lora_mnist_cli.stages.evaluating import parse_gates as parse_gates
    from lora_mnist_cli.stages.evaluating_routed import evaluate_routed as evaluate_routed
    from lora_mnist_cli.stages.exploring import explore as explore
    from lora_mnist_cli.stages.gating import gate as gate
    from lora_mnist_cli.stages.gating import plan_gate as plan_gate
    from lora_mnist_cli.stages.importing import import_adapter as import_adapter
    from lora_mnist_cli.stages.measuring_forgetting import forgetting as forgetting
    from lora_mnist_cli.stages.merging import merge as merge
    from lora_mnist_cli.stages.method_board import board as board
    from lora_mnist_cli.stages.plotting import PlotOptions as PlotOptions
    from lora_mnist_cli.stages.plotting import plot as plot
    from lora_mnist_cli.stages.reproducing import reproduce as reproduce
    from lora_mnist_cli.stages.training_base import train_base as train_base
    from lora_mnist_cli.stages.workspace import Workspace as Workspace

_HOMES = {
    "Evaluation": "evaluating", "PlotOptions": "plotting", "Workspace": "workspace", "board": "method_board",
    "chain": "chains.run",
    "check_gates": "evaluating", "combine": "combining", "compare": "comparing", "evaluate": "evaluating",
    "evaluate_routed": "evaluating_routed", "explore": "exploring", "finetune": "adapting",
    "forgetting": "measuring_forgetting", "gate": "gating", "import_adapter": "importing", "merge": "merging",
    "parse_gates": "evaluating", "plan_gate": "gating", "plan_sweep": "adapting", "plot": "plotting",
    "reproduce": "reproducing", "sweep": "adapting", "train_base": "training_base",
}  # fmt: skip
__all__ = list(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
