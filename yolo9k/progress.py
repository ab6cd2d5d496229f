"""Report progress from library functions without printing: they pass their items through a `Track`."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Yields the items one by one and may show the progress; `total`: their number if `items` has no length."""

    def __call__(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
        """Iterate over `items`."""


def silent(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Show nothing."""
    return items
