"""Fixtures that all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Callable[..., Path]:
    """Reference data: `shared("golden", "ap")` is a path below `$YOLO9K_SHARED`; the test skips without it."""
    base = Path(os.environ.get("YOLO9K_SHARED", REPOSITORY.parent / "shared"))

    def find(*parts: str) -> Path:
        path = base.joinpath(*parts)
        if not path.exists():
            if os.environ.get("YOLO9K_REQUIRE_SHARED"):
                pytest.fail(f"reference data {path} are required here and missing")
            pytest.skip(f"reference data {'/'.join(parts)} are not here (set YOLO9K_SHARED)")
        return path

    return find
