"""The kernels: one thread block trains one adapter for an epoch, and scores it on a tile of images.

A block walks through its member's batches alone. Parameters and moments lie in global memory (:mod:`.layout`), and all
other numbers of a step are the block's own. Per step it computes, with ``s = alpha · scale(rank)`` and batch by batch:

- first layer, which is wide: ``U = x Aᵀ``, ``h = relu(x Wᵀ + b + s U Bᵀ)``. The frozen product is made once before;
- other layers: ``M = W + s B A``, ``z = h Mᵀ + b``, with a ReLU between them, and the softmax;
- backward, with ``D`` the gradient by z: ``G = Dᵀ h``, ``dA = s Bᵀ G``, ``dB = s G Aᵀ``, and h gets ``D M``;
- the step of Adam, at once for each factor whose gradient is known.

What is padded stays zero without a mask: a unit, class, rank or layer without a factor has zeros in A and B, so its
gradients are zeros. A missing image of a short batch has the gradient zero.

Names in capitals are pointers and compile-time numbers:

- ``DEPTH`` hidden layers, ``H`` units, ``C`` classes, ``R`` rank, ``N`` images, each padded to a power of two;
- ``PIXELS`` of an image, of which ``TILE`` at a time are in registers;
- ``SPLIT``: images are whole numbers, and their products those of :func:`.products.whole_product`;
- ``WAY`` and ``PART``: see :mod:`.products`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.runtime.errors import OutOfResources

from lora_mnist_cli.training import fused_optimizer
from lora_mnist_cli.training.fused.products import product, product_whole, whole_product

__all__ = ["OutOfResources", "score_tile", "train_epoch"]

BETA1, BETA2 = tl.constexpr(fused_optimizer.BETA1), tl.constexpr(fused_optimizer.BETA2)
EPSILON = tl.constexpr(fused_optimizer.EPSILON)

RANK, ORDER_ROW, SCHEDULE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""Columns of a member's whole numbers: its rank, its row of the orders, and its row of the schedules."""
WHOLE_NUMBERS = tl.constexpr(3)
RATE_A, RATE_B, DECAY, L2 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""Columns of a member's numbers: the rates of A and B, the decay of AdamW and that of Adam, then a scale per layer."""
SCALES = tl.constexpr(4)


@triton.jit
def first_product(IMAGES, P, rows, rank, pixel_scale, pixel_shift, R, PIXELS, TILE, SPLIT, WAY, PART):
    """Return ``U = x Aᵀ`` (N × R) of the first layer for some images, with ``x = pixel · scale + shift``."""
    r, k = tl.arange(0, R), tl.arange(0, TILE)
    U = tl.zeros((rows.shape[0], R), tl.float32)
    sums = tl.zeros((R,), tl.float32)
    for start in range(0, PIXELS, TILE):
        # Beyond an image's last pixel lies the next image, and A is zero there.
        pixels = tl.load(IMAGES + rows[:, None] * PIXELS + start + k[None, :])
        there = (r[:, None] < rank) & (start + k[None, :] < PIXELS)
        A = tl.load(P + r[:, None] * PIXELS + start + k[None, :], mask=there, other=0.0)
        if SPLIT:
            sums += tl.sum(A, 1)
            U = whole_product(pixels.to(PART), tl.trans(A), U, PART)
        else:
            U += product(pixels.to(tl.float32) * pixel_scale + pixel_shift, tl.trans(A), WAY, PART)
    if SPLIT:
        U = U * pixel_scale + sums[None, :] * pixel_shift
    return U


@triton.jit
def merged_weight(P, at, WEIGHT, scale, R, OUT, IN, WAY, PART):
    """Return ``W + s B A`` (out × in) of a layer whose factors start at ``at``."""
    r, i, o = tl.arange(0, R), tl.arange(0, IN), tl.arange(0, OUT)
    A = tl.load(P + at + r[:, None] * IN + i[None, :])
    B = tl.load(P + at + R * IN + o[:, None] * R + r[None, :])
    return tl.load(WEIGHT + o[:, None] * IN + i[None, :]) + scale * product(B, A, WAY, PART)


@triton.jit
def outputs(h, weight, BIAS, OUT, WAY, PART):
    """Return ``h Mᵀ + b`` (N × out)."""
    return product(h, tl.trans(weight), WAY, PART) + tl.load(BIAS + tl.arange(0, OUT))[None, :]


@triton.jit
def relu(z):
    """Return z where it is above zero; not-a-number stays, so that who diverged is seen."""
    return tl.where(z < 0.0, 0.0, z)


@triton.jit
def update(P, M, V, gradient, rate, decay, l2, unbias, root_unbias, there):
    """Take a step of AdamW (``decay``) or Adam (``l2``) on parameters, each with its two moments."""
    p = tl.load(P, mask=there, other=0.0)
    m = tl.load(M, mask=there, other=0.0)
    v = tl.load(V, mask=there, other=0.0)
    gradient += l2 * p
    m += (1 - BETA1) * (gradient - m)
    v = BETA2 * v + (1 - BETA2) * gradient * gradient
    p = p * (1.0 - rate * decay) - rate / unbias * m / (tl.sqrt(v) / root_unbias + EPSILON)
    tl.store(P, p, mask=there)
    tl.store(M, m, mask=there)
    tl.store(V, v, mask=there)


@triton.jit
def layer_back(P, M, V, at, h, D, weight, scale, rate_a, rate_b, decay, l2, unbias, root_unbias, R, OUT, IN, WAY, PART):
    """Update the factors of a layer above the first, and return the loss's gradient by its inputs' ReLU."""
    r, i, o = tl.arange(0, R), tl.arange(0, IN), tl.arange(0, OUT)
    at_a, at_b = at + r[:, None] * IN + i[None, :], at + R * IN + o[:, None] * R + r[None, :]
    G = product(tl.trans(D), h, WAY, PART)
    dA = scale * product(tl.trans(tl.load(P + at_b)), G, WAY, PART)
    dB = scale * product(G, tl.trans(tl.load(P + at_a)), WAY, PART)
    below = product(D, weight, WAY, PART)
    # All threads have read the factors that are now overwritten.
    tl.debug_barrier()
    update(P + at_a, M + at_a, V + at_a, dA, rate_a, decay, l2, unbias, root_unbias, r[:, None] >= 0)
    update(P + at_b, M + at_b, V + at_b, dB, rate_b, decay, l2, unbias, root_unbias, o[:, None] >= 0)
    return tl.where(h > 0.0, below, 0.0)


@triton.jit
def first_back(
    IMAGES, P, M, V, rows, U, D, rank, scale, rate_a, rate_b, decay, l2, unbias, root_unbias, pixel_scale, pixel_shift,
    R, H, PIXELS, TILE, SPLIT, WAY, PART,
):  # fmt: skip
    """Update the factors of the first layer."""
    r, o, k = tl.arange(0, R), tl.arange(0, H), tl.arange(0, TILE)
    at_b = R * PIXELS + o[:, None] * R + r[None, :]
    dU = scale * product(D, tl.load(P + at_b), WAY, PART)
    dB = scale * product(tl.trans(D), U, WAY, PART)
    tl.debug_barrier()
    update(P + at_b, M + at_b, V + at_b, dB, rate_b, decay, l2, unbias, root_unbias, o[:, None] >= 0)
    sums = tl.sum(dU, 0)[:, None] * pixel_shift
    for start in range(0, PIXELS, TILE):
        pixels = tl.load(IMAGES + rows[:, None] * PIXELS + start + k[None, :])
        if SPLIT:
            dA = product_whole(tl.trans(dU), pixels.to(PART), PART) * pixel_scale + sums
        else:
            dA = product(tl.trans(dU), pixels.to(tl.float32) * pixel_scale + pixel_shift, WAY, PART)
        at_a = r[:, None] * PIXELS + start + k[None, :]
        there = (r[:, None] < rank) & (start + k[None, :] < PIXELS)
        update(P + at_a, M + at_a, V + at_a, dA, rate_a, decay, l2, unbias, root_unbias, there)


@triton.jit
def softmax_loss(z, hot):
    """Return the softmax (N × C) of logits, and each row's cross-entropy and whether its label has the most."""
    highest = tl.max(z, 1)
    e = tl.exp(z - highest[:, None])
    total = tl.sum(e, 1)
    own = tl.sum(tl.where(hot, z, 0.0), 1)
    return e / total[:, None], tl.log(total) + highest - own, own >= highest


@triton.jit
def hidden_first(IMAGES, FROZEN, P, rows, rank, scale, pixel_scale, pixel_shift, R, H, PIXELS, TILE, SPLIT, WAY, PART):
    """Return ``U`` (N × R) and the first hidden layer (N × H) for some images."""
    r, o = tl.arange(0, R), tl.arange(0, H)
    U = first_product(IMAGES, P, rows, rank, pixel_scale, pixel_shift, R, PIXELS, TILE, SPLIT, WAY, PART)
    B = tl.load(P + R * PIXELS + o[:, None] * R + r[None, :])
    frozen = tl.load(FROZEN + rows[:, None] * H + o[None, :])
    return U, relu(frozen + scale * product(U, tl.trans(B), WAY, PART))


@triton.jit(do_not_specialize=["count", "steps", "batch"])
def train_epoch(
    IMAGES, FROZEN, LABELS, ORDERS, WHOLES, NUMBERS, SHARES, UNBIAS, WEIGHTS, BIASES, P, M, V, LOSSES,
    count, steps, batch, pixel_scale, pixel_shift,
    DEPTH: tl.constexpr, R: tl.constexpr, N: tl.constexpr, H: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr,
    TILE: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, SPLIT: tl.constexpr, WAY: tl.constexpr,
    PART: tl.constexpr,
):  # fmt: skip
    """Train a member for an epoch: ``steps`` batches of its row of the orders, which has ``count`` images.

    The mean cross-entropy of the last batch of each ``BLOCK`` steps is written to the losses. The function is longer
    than a screen, because what the backward pass of a layer needs of the forward pass stays in registers.
    """
    member = tl.program_id(0).to(tl.int64)
    P, M, V = P + member * SIZE, M + member * SIZE, V + member * SIZE
    LOSSES += member * tl.cdiv(steps, BLOCK)
    WHOLES, NUMBERS = WHOLES + member * WHOLE_NUMBERS, NUMBERS + member * (SCALES + DEPTH + 1)
    rank = tl.load(WHOLES + RANK)
    ORDERS += tl.load(WHOLES + ORDER_ROW).to(tl.int64) * count
    SHARES += tl.load(WHOLES + SCHEDULE) * steps
    full_a, full_b = tl.load(NUMBERS + RATE_A), tl.load(NUMBERS + RATE_B)
    decay, l2 = tl.load(NUMBERS + DECAY), tl.load(NUMBERS + L2)
    n, c = tl.arange(0, N), tl.arange(0, C)
    second = R * PIXELS + H * R
    third, last = second + 2 * R * H, second + (DEPTH - 1) * 2 * R * H
    for t in range(steps):
        size = tl.minimum(batch, count - t * batch)
        rows = tl.load(ORDERS + t * batch + n, mask=n < size, other=0)
        share, unbias, root_unbias = tl.load(SHARES + t), tl.load(UNBIAS + t), tl.load(UNBIAS + steps + t)
        rate_a, rate_b = full_a * share, full_b * share
        scale = tl.load(NUMBERS + SCALES)
        U, h1 = hidden_first(
            IMAGES, FROZEN, P, rows, rank, scale, pixel_scale, pixel_shift, R, H, PIXELS, TILE, SPLIT, WAY, PART
        )
        h = h1
        if DEPTH > 1:
            scale2 = tl.load(NUMBERS + SCALES + 1)
            weight2 = merged_weight(P, second, WEIGHTS, scale2, R, H, H, WAY, PART)
            h2 = relu(outputs(h, weight2, BIASES, H, WAY, PART))
            h = h2
        if DEPTH > 2:
            scale3 = tl.load(NUMBERS + SCALES + 2)
            weight3 = merged_weight(P, third, WEIGHTS + H * H, scale3, R, H, H, WAY, PART)
            h3 = relu(outputs(h, weight3, BIASES + H, H, WAY, PART))
            h = h3
        scale_last = tl.load(NUMBERS + SCALES + DEPTH)
        weight = merged_weight(P, last, WEIGHTS + (DEPTH - 1) * H * H, scale_last, R, C, H, WAY, PART)
        z = outputs(h, weight, BIASES + (DEPTH - 1) * H, C, WAY, PART)
        hot = tl.load(LABELS + rows)[:, None] == c[None, :]
        softmax, losses, _ = softmax_loss(z, hot)
        tl.store(LOSSES + t // BLOCK, tl.sum(tl.where(n < size, losses, 0.0), 0) / size)
        D = tl.where((n < size)[:, None], softmax - tl.where(hot, 1.0, 0.0), 0.0) * (1.0 / size)
        D = layer_back(
            P, M, V, last, h, D, weight, scale_last, rate_a, rate_b, decay, l2, unbias, root_unbias, R, C, H, WAY, PART
        )
        if DEPTH > 2:
            D = layer_back(
                P, M, V, third, h2, D, weight3, scale3, rate_a, rate_b, decay, l2, unbias, root_unbias, R, H, H, WAY,
                PART,
            )  # fmt: skip
        if DEPTH > 1:
            D = layer_back(
                P, M, V, second, h1, D, weight2, scale2, rate_a, rate_b, decay, l2, unbias, root_unbias, R, H, H, WAY,
                PART,
            )  # fmt: skip
        first_back(
            IMAGES, P, M, V, rows, U, D, rank, scale, rate_a, rate_b, decay, l2, unbias, root_unbias, pixel_scale,
            pixel_shift, R, H, PIXELS, TILE, SPLIT, WAY, PART,
        )  # fmt: skip
        # The next step's loads see what this one stored.
        tl.debug_barrier()


@triton.jit(do_not_specialize=["count"])
def score_tile(
    IMAGES, FROZEN, LABELS, ROWS, WHOLES, NUMBERS, WEIGHTS, BIASES, P, LOSSES, HITS, count, pixel_scale, pixel_shift,
    DEPTH: tl.constexpr, R: tl.constexpr, N: tl.constexpr, H: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr,
    TILE: tl.constexpr, SIZE: tl.constexpr, SPLIT: tl.constexpr, WAY: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Score a member on N of the ``count`` images in its row of ROWS: per class the sum of losses, and the hits.

    Both are written as members × tiles × C, each tile's own, because sums in another order would not repeat.
    """
    member, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    P += member * SIZE
    WHOLES, NUMBERS = WHOLES + member * WHOLE_NUMBERS, NUMBERS + member * (SCALES + DEPTH + 1)
    ROWS += tl.load(WHOLES + ORDER_ROW).to(tl.int64) * count
    n, c = tile * N + tl.arange(0, N), tl.arange(0, C)
    second = R * PIXELS + H * R
    rows = tl.load(ROWS + n, mask=n < count, other=0)
    _, h = hidden_first(
        IMAGES, FROZEN, P, rows, tl.load(WHOLES + RANK), tl.load(NUMBERS + SCALES), pixel_scale, pixel_shift, R, H,
        PIXELS, TILE, SPLIT, WAY, PART,
    )  # fmt: skip
    for layer in tl.static_range(1, DEPTH):
        weight = merged_weight(
            P, second + (layer - 1) * 2 * R * H, WEIGHTS + (layer - 1) * H * H, tl.load(NUMBERS + SCALES + layer),
            R, H, H, WAY, PART,
        )  # fmt: skip
        h = relu(outputs(h, weight, BIASES + (layer - 1) * H, H, WAY, PART))
    weight = merged_weight(
        P, second + (DEPTH - 1) * 2 * R * H, WEIGHTS + (DEPTH - 1) * H * H, tl.load(NUMBERS + SCALES + DEPTH),
        R, C, H, WAY, PART,
    )  # fmt: skip
    z = outputs(h, weight, BIASES + (DEPTH - 1) * H, C, WAY, PART)
    hot = (tl.load(LABELS + rows)[:, None] == c[None, :]) & (n < count)[:, None]
    _, losses, hits = softmax_loss(z, hot)
    at = (member * tl.num_programs(1) + tile) * C + c
    tl.store(LOSSES + at, tl.sum(tl.where(hot, losses[:, None], 0.0), 0))
    hits = hits & (losses < float("inf"))
    tl.store(HITS + at, tl.sum((hot & hits[:, None]).to(tl.int32), 0))
