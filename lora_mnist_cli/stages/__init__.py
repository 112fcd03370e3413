"""The stages as plain functions, for the command line and for notebooks alike.

Each takes a config and the names of its parents, and returns a record: a published
:class:`~lora_mnist_cli.artifact.Artifact`, or scores. Heavy modules are imported when work is to be done, so that a
stage which is up to date costs nothing.
"""

from lora_mnist_cli.stages.adapt import finetune, plan_sweep, sweep
from lora_mnist_cli.stages.base import train_base
from lora_mnist_cli.stages.comparing import compare
from lora_mnist_cli.stages.gating import gate, plan_gate
from lora_mnist_cli.stages.plotting import PlotOptions, plot
from lora_mnist_cli.stages.reproduction import reproduce
from lora_mnist_cli.stages.scoring import Evaluation, check_gates, evaluate, parse_gates
from lora_mnist_cli.stages.workspace import Workspace

__all__ = [
    "Evaluation", "PlotOptions", "Workspace", "check_gates", "compare", "evaluate", "finetune", "gate", "parse_gates",
    "plan_gate", "plan_sweep", "plot", "reproduce", "sweep", "train_base",
]  # fmt: skip
