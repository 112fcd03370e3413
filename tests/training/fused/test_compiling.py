"""The kernels compile for a GPU, which needs none: in a process of its own, where Triton does not interpret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.fused import kernel, products, tuning
from lora_mnist_cli.training.fused.plan import plan_launches

shape = plan_launches([AdapterConfig()], (784, 64, 64, 10))[0].shape
choices = {"train_epoch": tuning.for_training(shape), "score_tile": tuning.for_scoring(shape)}
TYPES = {"IMAGES": "*u8", "LABELS": "*i32", "ORDERS": "*i32", "ROWS": "*i32", "WHOLES": "*i32", "HITS": "*i32"}
TYPES |= {"count": "i32", "steps": "i32", "batch": "i32", "pixel_scale": "fp32", "pixel_shift": "fp32"}
for name, chosen in choices.items():
    function = getattr(kernel, name)
    given = {
        "DEPTH": shape.depth, "R": shape.rank, "N": shape.batch, "H": shape.units, "C": shape.classes,
        "PIXELS": shape.sizes[0], "TILE": chosen.tile, "SIZE": shape.parameters, "BLOCK": 64, "SPLIT": True,
        "WAY": chosen.way, "PART": products.COMPILED,
    }
    names = function.arg_names
    signature = {each: "constexpr" if each in given else TYPES.get(each, "*fp32") for each in names}
    constants = {(names.index(each),): value for each, value in given.items() if each in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, each in enumerate(names) if signature[each].startswith("*")}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": chosen.warps, "num_stages": chosen.stages}
    made = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options=options)
    print(made.metadata.shared, made.asm["ptx"].count("mma"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "shared"), [(80, 163), (90, 227)])
def test_the_kernels_compile_for_tensor_cores_and_fit_into_a_block(generation, shared, tmp_path):
    """The shared memory of a block, in KB, is that of NVIDIA's programming guide."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILE, str(generation)]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    figures = [tuple(map(int, line.split())) for line in printed.splitlines()]
    assert len(figures) == 2
    assert all(used <= shared * 1024 and products > 100 for used, products in figures)
