"""What the guarantee costs a project: ``python -m benchmarks.guarantee``.

The ways in which a project saves, each without the library and with it: with nobody
subscribed, with an endpoint, serialized at once or by the worker, and looked at once more
later. Prints a Markdown table of ratios and statements.
"""

import argparse
from collections.abc import Iterable
from datetime import timedelta

from benchmarks.sides import Measured, Unit, Variant, database, sides

__all__ = ["VARIANTS", "line", "units"]

VARIANTS = [
    Variant("nobody subscribed"),
    Variant("snapshot", endpoints=1),
    Variant("deferred", endpoints=1, is_deferred=True),
    Variant("snapshot, `RECHECK_AFTER`", endpoints=1, recheck_after=timedelta(minutes=1)),
]


def units(many: int) -> list[Unit]:
    """Return what is measured."""
    return [
        Unit("a save in a transaction", "in_a_transaction"),
        Unit("an autocommit save", "in_autocommit"),
        Unit("a request, 10 saves in 1 transaction", "request_of_one_transaction", 10),
        Unit("a request, 10 saves in 10 transactions", "request_of_many_transactions", 10),
        Unit(f"{many} saves in a transaction", "in_a_transaction", many),
    ]


def line(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table, as wide as a terminal needs it."""
    first, *rest = cells
    return f"| {first:38} | {' | '.join(f'{each:>25}' for each in rest)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--database", choices=["postgresql", "mariadb", "sqlite"], default="postgresql"
    )
    parser.add_argument("--rounds", type=int, default=400, help="Saves for each case.")
    parser.add_argument("--rows", type=int, default=1000, help="Saves of the largest unit.")
    given = parser.parse_args()
    with database(given.rows, given.database), sides() as both:
        print(line(["ratio, statements more", "without", *(each.name for each in VARIANTS)]))
        print(line(["---"] * (len(VARIANTS) + 2)))
        for unit in units(given.rows):
            turns = max(min(8, given.rounds), given.rounds // unit.saves)
            found = [both.measure(unit, each, turns=turns) for each in VARIANTS]
            print(line([unit.name, _without(found), *map(_with, found)]), flush=True)


def _without(found: list[Measured]) -> str:
    return f"{found[0].plain * 1000:.2f} ms, {found[0].plain_statements}"


def _with(found: Measured) -> str:
    return f"{found.ratio:.2f}, {found.more:+d}"


if __name__ == "__main__":
    main()
