import math

import numpy as np
import pytest

from yolo9k.datasets.readers.records import BadFile, IssueCollector, ParsedBox, check_box, parse_number
from yolo9k.errors import DataError

SIZE = (100, 50)


def box(*xyxy, label=0, ignore=False):
    return ParsedBox("a.xml: object 1", xyxy, "cat", label, ignore)


@pytest.mark.parametrize(
    ("xyxy", "inside", "kind"),
    [
        ((10, 10, 20, 20), (10, 10, 20, 20), None),
        ((0, 0, 100, 50), (0, 0, 100, 50), None),  # the whole image
        ((-1, -1, 101, 51), (0, 0, 100, 50), None),  # one pixel of rounding is no issue
        ((-2, 10, 20, 20), (0, 10, 20, 20), "clipped"),
        ((10, 10, 20, 90), (10, 10, 20, 50), "clipped"),
        ((10, 10, 10, 20), None, "zero area"),
        ((20, 10, 10, 20), None, "zero area"),  # crossed corners
        ((100, 10, 120, 20), None, "outside"),
        ((10, -20, 20, -5), None, "outside"),
        ((math.nan, 10, 20, 20), None, "not finite"),
        ((10, 10, math.inf, 20), None, "not finite"),
    ],
)
def test_check_box(xyxy, inside, kind):
    kept, issue = check_box(box(*xyxy), SIZE)
    assert kept == inside
    assert (issue.kind if issue else None) == kind


def test_an_unknown_class_is_an_issue_with_its_location():
    kept, issue = check_box(box(10, 10, 20, 20, label=None), SIZE)
    assert kept is None
    assert issue.kind == "unknown class"
    assert issue.location == "a.xml: object 1"
    assert "'cat'" in issue.message


def test_valid_boxes_are_kept():
    issues = IssueCollector()
    labels = issues.check_boxes([box(1, 1, 5, 5, label=2, ignore=True), box(3, 3, 3, 3)], SIZE)
    np.testing.assert_array_equal(labels.xyxy, [[1, 1, 5, 5]])
    assert labels.label.tolist() == [2]
    assert labels.ignore.tolist() == [True]
    assert [issue.kind for issue in issues.errors] == ["zero area"]


def test_no_boxes():
    assert IssueCollector().check_boxes([], SIZE).xyxy.shape == (0, 4)


def test_a_bad_file_is_raised_or_collected():
    with pytest.raises(DataError, match=r"a.xml: broken"), IssueCollector("stop").reading_file():
        raise BadFile("unreadable annotation", "a.xml", "broken")
    issues = IssueCollector("skip")
    with issues.reading_file():
        raise BadFile("unreadable annotation", "a.xml", "broken")
    assert issues.errors[0].message == "broken"


@pytest.mark.parametrize("value", ["abc", "", None, True, [1], {}])
def test_parse_number_refuses(value):
    with pytest.raises(DataError, match=r"a.xml: object 3: xmax must be a number, not "):
        parse_number(value, "a.xml: object 3", "xmax")


def test_parse_number_accepts_text_and_numbers():
    assert [parse_number(value, "", "") for value in ("12", " 3.5", 4, 5.5)] == [12, 3.5, 4, 5.5]
