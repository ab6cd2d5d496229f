"""Read many files at once: reading waits for the disk, and decoding of images releases the GIL."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8


@contextmanager
def mapped_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Iterator[Result]]:
    """Provide the results of `function` for the items, in order.

    Items that wait are dropped when the block is left: an error of the first of a million files is raised at once.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield pool.map(function, items)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
