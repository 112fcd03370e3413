"""Which adapters are trained in the same steps. No torch: plans use it too.

An adapter's weights depend on its cohort, by rounding: another cohort adds the same numbers in another order. They do
not depend on the bank that the cohort is in, or on the process that trains it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.adapter_config import AdapterConfig

SEEDS_AT_ONCE = 16
RANKS_AT_ONCE = 256
"""At most so many seeds in a cohort, and at most this sum of ranks over its members. Above that, the memory of a step
leaves the caches, which costs more than fewer dispatches save. Rank 8 takes 202 µs per step alone, 113 µs in a cohort
of 16 seeds and 156 µs in one of 64; seven ranks with the sum 127 take 915, 880 (two seeds) and 1,000 µs (ten seeds)."""


def cohorts(configs: Sequence[AdapterConfig]) -> list[tuple[list[int], int]]:
    """Return the cohorts: which members are trained in the same steps, and how many seeds they have.

    Members with the same method, seed, batch size, split and optimiser form a cohort. Several seeds with the same
    shapes join in one where they are small: dispatch takes most of the time of a small step, and one dispatch then
    serves all.

    Returns:
        Per cohort, the members' places in ``configs``, in the order of :class:`.trainer.CohortData`, and the number of
        seeds.
    """
    by_seed: dict[tuple[object, ...], list[int]] = {}
    for m, config in enumerate(configs):
        # Members that see the same images in the same order.
        seen = (config.seed_of("split"), config.seed_of("order"))
        # With dropout no two members have the same input, so there is no product to share.
        how = (config.method, config.plain, config.batch_size, config.optimizer)
        key = (*how, config.val_split, config.dropout > 0, seen)
        by_seed.setdefault(key, []).append(m)

    def shape(m: int) -> tuple[object, ...]:
        # Rank first: neighbours of one shape are one batched product in every layer.
        config = configs[m]
        layers = config.target_layers or ()
        rate = config.rate, config.schedule, config.lr_ratio_b
        return (
            config.rank,
            config.rank_pattern,
            layers,
            config.scaling,
            config.alpha,
            config.train,
            *rate,
            config.weight_decay or 0,
        )

    alike: dict[tuple[object, ...], list[list[int]]] = {}
    for (*settings, seed), members in by_seed.items():
        members.sort(key=shape)
        dropping = settings[-1]
        alike.setdefault((*settings, seed if dropping else None, *map(shape, members)), []).append(members)
    groups = []
    for seeds in alike.values():
        at_once = max(1, min(SEEDS_AT_ONCE, RANKS_AT_ONCE // max(1, sum(configs[m].rank for m in seeds[0]))))
        for start in range(0, len(seeds), at_once):
            chosen = seeds[start : start + at_once]
            groups.append(([m for same in zip(*chosen, strict=True) for m in same], len(chosen)))
    return groups
