"""What a save costs with the library, on PostgreSQL: ``python -m benchmarks.request_path``.

Figures are medians; ratios are to the same save in a process without the library, and
should not exceed the targets.
"""

import argparse

from benchmarks.sides import Sides, Unit, Variant, database, sides

_MANY = 1000
_ONE_SAVE = Unit("1 save", "in_a_transaction")
_MANY_SAVES = Unit(f"{_MANY} saves", "in_a_transaction", _MANY)
_SNAPSHOT = Variant("1 endpoint, snapshot", endpoints=1)

CASES = [
    (_ONE_SAVE, Variant("nobody subscribed"), 1.15),
    (_ONE_SAVE, _SNAPSHOT, 2.5),
    (_ONE_SAVE, Variant("1 endpoint, deferred", endpoints=1, is_deferred=True), 1.6),
    (_ONE_SAVE, Variant("10 endpoints, snapshot", endpoints=10), 2.75),
    (_MANY_SAVES, _SNAPSHOT, 2.5),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="Saves for each case.")
    rounds = parser.parse_args().rounds
    with database(_MANY), sides() as both:
        print(
            f"{'case':36} {'plain ms':>9} {'ms':>9} {'ratio':>6} {'target':>7} {'statements':>11}"
        )
        for unit, variant, target in CASES:
            _print(both, unit, variant, target, rounds)


def _print(both: Sides, unit: Unit, variant: Variant, target: float, rounds: int) -> None:
    turns = rounds if unit.saves == 1 else max(3, rounds // 50)
    found = both.measure(unit, variant, turns=turns)
    print(
        f"{f'{unit.name}, {variant.name}':36} {found.plain * 1000:9.3f} {found.full * 1000:9.3f} "
        f"{found.ratio:6.2f} {target:7.2f} {found.more:+11d}",
        flush=True,
    )


if __name__ == "__main__":
    main()
