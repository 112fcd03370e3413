"""The commands in their groups, as the program's help lists them: the study first."""

GROUPS = {
    "The study": {
        "train-base": "Train the base: a small MLP that learns some of the digits.",
        "finetune": "Train one adapter on a frozen base, by LoRA or another method; by default on "
        "the digits new to the base.",
        "sweep": "Train an adapter for each rank and seed, or each combination of a grid, and "
        "compare them in one table.",
        "evaluate": "Score an adapter or a base on the test images; the newest adapter by default.",
        "plot": "Draw a picture of an artifact, and print where it is; without a kind, list the kinds.",
        "reproduce": "Run the whole study and compare its figures with the original's, with every picture.",
    },
    "Understand": {
        "explore": "Write a page to play with: draw a digit, turn alpha, see what the adapter adds "
        "and what is forgotten.",
        "forgetting": "Measure what an adapter forgot of its base's digits, and what is merely outranked.",
        "chain": "Learn tasks one after the other, by each strategy against forgetting, and compare "
        "what is left of them.",
        "predict": "Recognise the digit on a picture, with the base and the adapter side by side.",
    },
    "Compare and gate": {
        "compare": "Say which of two sweeps, or of two models, is better, and whether the data can tell.",
        "gate": "Compare the mean over a sweep's seeds with thresholds: PASS, FAIL or INCONCLUSIVE.",
        "conformance": "Test the laws of LoRA on anyone's implementation, behind a small protocol.",
    },
    "Take elsewhere": {
        "merge": "Publish an adapter merged into its base as a new base, with a certificate of what that changed.",
        "combine": "Publish one adapter made of several on the same base, and say how much of them it holds.",
        "export": "Write a base, or an adapter merged into its base, as a file for other programs.",
        "import-adapter": "Publish an adapter that PEFT trained on an exported base as an adapter of "
        "that base, scored like any other.",
    },
    "Keep": {
        "runs": "List, show, verify, share and remove artifacts.",
    },
}
"""What each command does, in the groups of the program's help, which loads no command: so it stands here as well."""
COMMANDS = {name: sentence for group in GROUPS.values() for name, sentence in group.items()}
