"""A pytest plugin: records which test runs which lines, or runs chosen tests in a given order.

`YOLO9K_RECORD=FILE`: under `coverage run`, writes the outcome and duration of each test there, and makes the test the
context of the lines that it runs. `YOLO9K_CHOSEN=FILE`: runs only the tests that the JSON list names, in its order.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest


class Recorder:
    """Collects the outcomes of the tests."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Make the test the context of its lines."""
        current = coverage.Coverage.current()
        if current is not None:
            current.switch_context(item.nodeid)
        yield
        if current is not None:
            current.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the durations of a test's phases; tests that fail or skip are of no use."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write the results."""
        passed = {name: round(s, 4) for name, s in self.seconds.items() if name not in self.failed}
        Path(os.environ["YOLO9K_RECORD"]).write_text(json.dumps(passed))


class Selector:
    """Selects and orders tests."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests."""
        order = {name: place for place, name in enumerate(json.loads(Path(os.environ["YOLO9K_CHOSEN"]).read_text()))}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


def pytest_configure(config: Any) -> None:
    """Register what the environment requests."""
    if os.environ.get("YOLO9K_RECORD"):
        config.pluginmanager.register(Recorder())
    if os.environ.get("YOLO9K_CHOSEN"):
        config.pluginmanager.register(Selector())
