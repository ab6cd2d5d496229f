import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from several import in_processes

from yolo9k import processes
from yolo9k.errors import ConfigError, DataError, MachineError, Stopped
from yolo9k.processes import LostProcessError


@given(st.lists(st.integers()), st.integers(1, 9))
def test_parts_are_merged_in_their_order(items, count):
    parts = [processes.share(items, index, count) for index in range(count)]
    assert processes.merge(parts) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(), min_size=1), st.integers(1, 9), st.data())
def test_merged_items_end_before_the_first_that_is_missing(items, count, data):
    parts = [processes.share(items, index, count) for index in range(count)]
    kept = [part[: data.draw(st.integers(0, len(part)))] for part in parts]
    merged = processes.merge(kept)
    assert merged == items[: len(merged)]
    if len(merged) < len(items):
        index = len(merged)
        assert len(kept[index % count]) == index // count


def test_one_process_exchanges_nothing():
    assert not processes.is_joined()
    assert (processes.count(), processes.rank(), processes.local_count(), processes.is_main()) == (1, 0, 1, True)
    assert processes.share([1, 2, 3]) == [1, 2, 3]
    assert processes.gather("a") == ["a"]
    assert processes.maximum([3, 1]) == [3, 1]
    assert processes.from_main(lambda: 5) == processes.together(lambda: 5) == 5
    assert processes.collect(lambda: [1, 2]) == [1, 2]


def exchange():
    own = processes.rank()
    return {
        "place": (own, processes.count(), processes.local_rank(), processes.local_count(), processes.is_main()),
        "gather": processes.gather(own * 10),
        "maximum": processes.maximum([own, -own, 7]),
        "from_main": processes.from_main(lambda: f"from {own}"),
        "collect": processes.collect(lambda: [2 * item for item in processes.share(range(5))]),
        "empty": processes.collect(lambda: list(processes.share(range(2)))),
    }


def test_processes_exchange_values():
    results = in_processes(3, exchange)
    for index, result in enumerate(results):
        assert result == {
            "place": (index, 3, index, 3, index == 0),
            "gather": [0, 10, 20],
            "maximum": [2, 0, 7],
            "from_main": "from 0",
            "collect": [0, 2, 4, 6, 8],
            "empty": [0, 1],
        }


def fail_in(ranks, error):
    def work():
        if processes.rank() in ranks:
            raise error
        return "done"

    with pytest.raises(type(error) if processes.rank() in ranks else Exception) as raised:
        processes.together(work)
    assert getattr(raised.value, "is_shared", True)
    assert processes.together(lambda: "again") == "again"  # nothing is left of the failure
    return raised.value


class DamagedFile(DataError):
    """An error whose class takes other arguments than its message."""

    def __init__(self, location, message):
        super().__init__(f"{location}: {message}")
        self.location = location


@pytest.mark.parametrize(
    "error", [DamagedFile("a.jpg", "is cut off"), Stopped("stopped", 143)], ids=lambda error: type(error).__name__
)
def test_an_error_in_one_process_is_raised_in_all(error):
    for raised in in_processes(2, fail_in, (1,), error):
        assert type(raised) is type(error)
        assert str(raised) == str(error)
        assert vars(raised) == {**vars(error), "is_shared": True}


def test_a_bug_in_one_process_ends_the_others():
    first, second = in_processes(2, fail_in, (1,), ZeroDivisionError("x"))
    assert isinstance(first, LostProcessError)
    assert str(first) == "process 1 failed: ZeroDivisionError"
    assert isinstance(second, ZeroDivisionError)


def fail_in_main():
    def work():
        assert processes.is_main()
        raise ConfigError("no such run")

    processes.from_main(work)


def test_an_error_of_the_main_process_is_raised_in_all():
    assert [(type(error), str(error), error.is_shared) for error in in_processes(2, fail_in_main)] == [
        (ConfigError, "no such run", True)
    ] * 2


def wait_for_killed():
    processes.gather(0)
    if processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    start = time.monotonic()
    try:
        while True:
            processes.maximum([0])
    except LostProcessError as error:
        return str(error), time.monotonic() - start


def test_a_killed_process_is_noticed_at_once():
    (message, seconds), killed = in_processes(2, wait_for_killed)
    assert killed is None
    assert message == "another process has ended; unless it was killed, its own message says why"
    assert seconds < 30  # gloo's own limit is two hours here


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "0"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT: not set, but RANK is; start several"),
        ({"LOCAL_RANK": "x", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "LOCAL_RANK: must be a number, not 'x'"),
    ],
)
def test_incomplete_variables_of_a_launcher_are_refused(monkeypatch, variables, message):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message), processes.joined():
        pass


def test_processes_that_do_not_meet_are_a_fault_of_the_machine(monkeypatch):
    monkeypatch.setattr(processes, "MEETING_TIMEOUT", processes.timedelta(seconds=1))
    variables = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MachineError, match=r"^cannot join the 2 processes at 127\.0\.0\.1:9: "), processes.joined():
        pass
