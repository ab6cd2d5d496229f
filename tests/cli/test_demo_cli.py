import pytest

from yolo9k.cli import demo
from yolo9k.demo import ALL_BOXES, Story


@pytest.mark.parametrize(
    ("all_boxes", "usual", "there", "not_there"),
    [
        (False, True, ("weakly supervised", "with all boxes", "50%"), ("What boxes for all kinds give",)),
        (False, False, ("weakly supervised",), ("with all boxes",)),
        (True, False, ("What boxes for all kinds give", "round and angular"), ("weakly", "with all boxes")),
    ],
)
def test_the_story_says_what_had_boxes(capsys, all_boxes, usual, there, not_there):
    story = Story(box_supervised=ALL_BOXES.box_supervised / 2, weakly_supervised=ALL_BOXES.weakly_supervised / 2)
    demo._print_story(story, all_boxes=all_boxes, usual=usual)
    said = capsys.readouterr().out
    assert all(text in said for text in there)
    assert not any(text in said for text in not_there)
