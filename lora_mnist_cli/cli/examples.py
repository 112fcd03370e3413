"""Two examples per command, for its help and for its page of the reference."""

from itertools import groupby

from lora_mnist_cli.cli.status_line import command_of

_LINES = (
    "train-base",
    "train-base --digits 0-2 --dataset fashion-mnist --epochs 3",
    "finetune --rank 8",
    "finetune --method dora --rank 4 --protect replay",
    "sweep --ranks 1,4,16 --seeds 0-4",
    "sweep --methods lora,dora --lrs 1e-3,3e-3 --ranks 8 --dry-run",
    "evaluate lora-5-9-r8 --alpha 0,0.5,1",
    "evaluate --min-accuracy 5-9=0.95",
    "explore",
    "explore lora-5-9-r1 lora-5-9-r8 --output page.html",
    "plot ranks",
    "plot confusion lora-5-9-r8 --output confusion.svg",
    "reproduce",
    "reproduce --study forgetting --workers 2",
    "forgetting",
    "forgetting lora-5-9-r8 --json",
    "chain --tasks 0-4,5-9 --strategies plain,routed",
    "chain --tasks 0+1,2+3,4+5,6+7,8+9 --seeds 0-2",
    "predict seven.png",
    "predict pictures --route --strict",
    "compare lora-5-9-r4 lora-5-9-r8",
    "compare plain tuned --digits 5-9",
    "gate --require 5-9=0.95",
    "gate --require 0-4=0.98,5-9=0.95 --rank 8 --junit gate.xml",
    "conformance peft",
    "conformance my_package.my_lora:factory --junit laws.xml",
    "merge",
    "merge lora-5-9-r8 --alpha 0.5 --name merged",
    "combine lora-5-7-r8 lora-8-9-r8",
    "combine lora-5-7-r8 lora-8-9-r8 --method ties --density 0.3",
    "export lora-5-9-r8 --output model.onnx",
    "export lora-5-9-r8 --format peft",
    "import-adapter peft-folder --base base-0-4",
    "import-adapter peft-folder --base base-0-4 --name theirs",
    "runs list --kind sweep",
    "runs list --digits 5-9 --sort accuracy --reverse",
    "runs latest",
    "runs latest --kind sweep",
    "runs path lora-5-9-r8",
    "runs path @best",
    "runs show lora-5-9-r8",
    "runs show @best --json",
    "runs lineage lora-5-9-r8",
    "runs lineage base-0-4 --json",
    "runs diff lora-5-9-r4 lora-5-9-r8",
    "runs diff @best lora-5-9-r8 --json",
    "runs command lora-5-9-r8",
    "runs command lora-5-9-r8 --all",
    "runs settings lora-5-9-r8",
    "runs settings base-0-4 --json",
    "runs rerun study",
    "runs rerun lora-5-9-r8 --into again",
    "runs verify",
    "runs verify lora-5-9-r8",
    "runs clean --dry-run",
    "runs clean",
    "runs remove lora-5-9-r8",
    "runs remove base-0-4 --cascade --yes",
    "runs tag lora-5-9-r8 best",
    "runs tag lora-5-9-r16 best",
    "runs untag best",
    "runs untag best --json",
    "runs export lora-5-9-r8 shared.zip",
    "runs export @best shared.zip --force",
    "runs import shared.zip",
    "runs import shared.zip --runs-dir other-runs",
)
"""What follows the program's name; the first words are the command."""
EXAMPLES = {
    "": ("train-base", "sweep --ranks 1,4,16 --seeds 0-4"),
    "runs": ("runs list", "runs show lora-5-9-r8"),
    **{command: tuple(lines) for command, lines in groupby(_LINES, lambda line: command_of(line.split()))},
}
"""Two examples for each command, by its words; the program itself has no words."""


def epilog(command: str) -> str:
    """Give the examples as they stand below a command's help, in paragraphs, which no version of Typer joins."""
    return "\n\n".join(["Examples:", *(f"lora-mnist {line}" for line in EXAMPLES[command])])
