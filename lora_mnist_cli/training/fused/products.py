"""Matrix products as exact as fp32, in Triton, on tensor cores where that is asked for.

Tensor cores multiply short numbers exactly and add them up in fp32. A product of long numbers is therefore a sum of
products of their parts. Each way is chosen when a kernel is compiled:

- ``bf16x6``: three parts of 8 bits each, six products. What is left out is below the rounding of fp32.
- ``tf32x3``: high and low part of 11 bits each, three products. The product of both low parts is left out.
- ``ieee``: fp32 multiplications and additions, without tensor cores.

A pixel is a whole number from 0 to 255, which is one part of 8 bits. Its product with a long number takes three
products of parts (:func:`whole_product`), and is exact but for the sum.
"""

from __future__ import annotations

import triton
import triton.language as tl

COMPILED, INTERPRETED = tl.bfloat16, tl.float32
"""The type of the parts. The interpreter does not multiply bfloat16, and float32 holds the same numbers."""


@triton.jit
def parts(x, PART: tl.constexpr):
    """Return three parts of 8 bits each that add up to x, in the type ``PART``."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
    return high.to(PART), middle.to(PART), low.to(PART)


@triton.jit
def product(a, b, WAY: tl.constexpr, PART: tl.constexpr):
    """Return ``a @ b`` of fp32 matrices."""
    if WAY == "tf32x3":
        a_high = (a.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        b_high = (b.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        out = tl.dot(a - a_high, b_high, input_precision="tf32")
        out = tl.dot(a_high, b - b_high, out, input_precision="tf32")
        out = tl.dot(a_high, b_high, out, input_precision="tf32")
    elif WAY == "bf16x6":
        a_high, a_middle, a_low = parts(a, PART)
        b_high, b_middle, b_low = parts(b, PART)
        # Small ones first, so that none is lost, and part by part, so that few are in shared memory at a time.
        out = tl.dot(a_low, b_high)
        out = tl.dot(a_middle, b_middle, out)
        out = tl.dot(a_middle, b_high, out)
        out = tl.dot(a_high, b_low, out)
        out = tl.dot(a_high, b_middle, out)
        out = tl.dot(a_high, b_high, out)
    else:
        out = tl.dot(a, b, input_precision="ieee")
    return out


@triton.jit
def whole_product(whole, b, out, PART: tl.constexpr):
    """Return ``out + whole @ b``, where ``whole`` holds whole numbers from 0 to 255 in the type ``PART``."""
    high, middle, low = parts(b, PART)
    out = tl.dot(whole, low, out)
    out = tl.dot(whole, middle, out)
    return tl.dot(whole, high, out)


@triton.jit
def product_whole(a, whole, PART: tl.constexpr):
    """Return ``a @ whole``, where ``whole`` holds whole numbers from 0 to 255 in the type ``PART``."""
    high, middle, low = parts(a, PART)
    out = tl.dot(low, whole)
    out = tl.dot(middle, whole, out)
    return tl.dot(high, whole, out)
