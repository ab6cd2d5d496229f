import random
from contextlib import suppress

import pytest

from yolo9k.datasets.readers.label_lines import ColumnCheck
from yolo9k.datasets.readers.records import BadFile, IssueCollector


def checked(rows, extra=None):
    columns, issues = ColumnCheck(extra), IssueCollector()
    values = [list(columns.box_values([0, *row], f"a.txt:{i}")) for i, row in enumerate(rows, 1)]
    columns.report("root", issues)
    return values, issues


def keypoints(rng, count, size):
    """A row of a pose data set: a box and visible points inside it."""
    w, h = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5)
    cx, cy = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
    points = [(cx + rng.uniform(-w, w) / 2, cy + rng.uniform(-h, h) / 2) for _ in range(count)]
    return [cx, cy, w, h, *(value for x, y in points for value in ((x, y) if size == 2 else (x, y, 1)))]


@pytest.mark.parametrize(("count", "size"), [(4, 2), (5, 2), (17, 2), (2, 3), (4, 3)])
def test_keypoints_are_refused_unless_the_data_set_says_so(count, size):
    rng = random.Random(0)
    rows = [keypoints(rng, count, size) for _ in range(20)]
    if (5 + count * size) % 2:  # else no outline has so many numbers
        with pytest.raises(BadFile, match=f"all long lines have {5 + count * size} numbers and look"):
            checked(rows)
    values, issues = checked(rows, extra=count * size)
    assert values == [row[:4] for row in rows]
    assert issues.warnings[0].message == f"20 lines have {count * size} columns that are not used"


def test_outlines_of_equal_length_are_outlines():
    rows = [[0.5, 0.5, 0.6, 0.5, 0.6, 0.6, 0.5, 0.6], [0.4, 0.5, 0.5, 0.45, 0.55, 0.6, 0.5, 0.65]]  # small, central
    values, issues = checked(rows)
    assert values == rows
    assert not issues.warnings


def test_extra_columns_0_means_outlines():
    rng = random.Random(0)
    rows = [keypoints(rng, 4, 2) for _ in range(20)]
    assert checked(rows, extra=0)[0] == rows


def test_scores_are_counted():
    values, issues = checked([[0.5, 0.5, 0.1, 0.1, 0.93], [0.5, 0.5, 0.2, 0.2, 1]])
    assert values == [[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]]
    assert [issue.message for issue in issues.warnings] == ["2 lines have a score, which is not used"]


def test_a_track_column_needs_the_config():
    row = [0.5, 0.5, 0.1, 0.1, 17]
    with pytest.raises(BadFile, match=r"a.txt:1: the sixth number must be a score from 0 to 1, not 17; .* extra"):
        checked([row])
    assert checked([row], extra=1)[0] == [row[:4]]


def test_a_line_that_differs_from_what_the_config_says():
    with pytest.raises(BadFile, match=r"a.txt:1: must be `class cx cy w h` and 6 more .*, not 9 numbers"):
        checked([[0.5, 0.5, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5]], extra=6)


@pytest.mark.parametrize("tracks", [(17, 17), (1, 2, 3), (1, 1)])
def test_a_box_a_score_and_a_track_are_no_outline(tracks):
    columns = ColumnCheck()
    for track in tracks:
        with suppress(BadFile):  # 17 is no coordinate
            columns.box_values([0, 0.5, 0.5, 0.1, 0.1, 0.9, float(track)], "a.txt:1")
    with pytest.raises(BadFile, match=r"a.txt:1: all long lines have 7 numbers, .* extra_columns: 2"):
        columns.report("root", IssueCollector())


@pytest.mark.parametrize(
    "rows",
    [
        [[0.1, 0.2, 0.3, 0.4, 0.5, 1.0]],
        [[0.1, 0.9, 0.5, 0.2, 0.9, 1.0], [0.2, 0.8, 0.6, 0.1, 0.7, 1.0]],
        [[0.5, 0.5, 0.1, 0.1, 0.9, 1.0], [0.5, 0.5, 0.1, 0.1, 0.9, 0.9]],
    ],
)
def test_triangles_at_the_edge_of_the_image_are_outlines(rows):
    assert checked(rows)[0] == rows
