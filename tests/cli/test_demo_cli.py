import pytest

from yolo9k.cli import demo
from yolo9k.cli.console import out
from yolo9k.demo import ALL_BOXES_SCORES, SupervisionScores


@pytest.mark.parametrize(
    ("all_boxes", "is_default", "included", "excluded"),
    [
        (False, True, ("weakly supervised", "with all boxes", "50%"), ("Upper bound",)),
        (False, False, ("weakly supervised",), ("with all boxes",)),
        (True, False, ("Upper bound", "round and angular"), ("weakly", "with all boxes")),
    ],
)
def test_the_story_says_which_labels_had_boxes(capsys, all_boxes, is_default, included, excluded):
    bound = ALL_BOXES_SCORES
    means = SupervisionScores(bound.box_supervised / 2, bound.weakly_supervised / 2)
    demo._print_means(out, means, all_boxes=all_boxes, is_default=is_default)
    printed = capsys.readouterr().out
    assert all(text in printed for text in included)
    assert not any(text in printed for text in excluded)
