"""How library functions report progress without printing: they pass their items through a `Track`."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Gives the items back one by one, and may show how far it is; `total` where `items` has no length."""

    def __call__(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
        """Iterate over `items`."""


def silent(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """The `Track` that shows nothing."""
    return items
