"""Which adapters are trained in the same steps. No torch: a plan asks for it as well.

What an adapter becomes depends on its cohort, by rounding, because sums in another one are added up in another order.
On the bank that its cohort is in, or on the process that trains it, it does not depend.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.adapter_config import AdapterConfig

SEEDS_AT_ONCE = 16
RANKS_AT_ONCE = 256
"""Seeds of one cohort, and their ranks together, at most: above that, what a step works on leaves the caches, and
costs more than dispatch saves. Rank 8 takes 202 µs a step alone, 113 µs in a cohort of 16 seeds and 156 µs in one of
64; seven ranks of 127 together take 915, 880 (two seeds) and 1,000 µs (ten seeds)."""


def cohorts(configs: Sequence[AdapterConfig]) -> list[tuple[list[int], int]]:
    """Which members are trained in the same steps, as ``Crew`` has them, and of how many seeds they are.

    Those of one seed, batch size, split and optimiser; and several seeds that have the same shapes, as long as they are
    small: then their steps are dispatch more than arithmetic, and one dispatch does for all.
    """
    by_seed: dict[tuple[object, ...], list[int]] = {}
    for m, config in enumerate(configs):
        # Those that see the same images in the same order.
        seen = (config.seed_of("split"), config.seed_of("order"))
        # With dropout no two members have the same input, and the shared product is of no use.
        key = (config.val_split, config.batch_size, config.optimizer, config.dropout > 0, seen)
        by_seed.setdefault(key, []).append(m)

    def shape(m: int) -> tuple[object, ...]:
        # Rank first: neighbours of one shape are one batched product in every layer.
        config = configs[m]
        layers = config.target_layers or ()
        rate = config.rate, config.schedule, config.lr_ratio_b
        return config.rank, layers, config.scaling, config.alpha, *rate, config.weight_decay or 0

    alike: dict[tuple[object, ...], list[list[int]]] = {}
    for (*settings, seed), members in by_seed.items():
        members.sort(key=shape)
        dropping = settings[-1]
        alike.setdefault((*settings, seed if dropping else None, *map(shape, members)), []).append(members)
    found = []
    for seeds in alike.values():
        at_once = max(1, min(SEEDS_AT_ONCE, RANKS_AT_ONCE // max(1, sum(configs[m].rank for m in seeds[0]))))
        for start in range(0, len(seeds), at_once):
            chosen = seeds[start : start + at_once]
            found.append(([m for same in zip(*chosen, strict=True) for m in same], len(chosen)))
    return found
