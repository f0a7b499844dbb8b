"""The other side of a comparison of two databases: delivers as many as it is told, in turns."""

import sys

from benchmarks import delivery, receiver, world

__all__ = ["main"]


def main() -> None:
    """Read how many from each line of the standard input, and print the rate."""
    with (
        world.database("postgresql"),
        receiver.running() as to,
        delivery.endpoints_of(to) as endpoints,
        world.worker() as worker,
    ):
        for line in sys.stdin:
            print(delivery.deliver(int(line), endpoints, worker, to).rate, flush=True)


if __name__ == "__main__":
    main()
