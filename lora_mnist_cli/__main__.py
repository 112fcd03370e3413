"""``python -m lora_mnist_cli`` is ``lora-mnist``."""

import sys

from lora_mnist_cli.cli import main

sys.exit(main())
