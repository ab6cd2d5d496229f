import pytest
import yaml

from yolo9k.config.editing import set_value, write_values
from yolo9k.errors import ConfigError

WANTED = [[1.5, 2.0], [3.0, 4.25]]
FLOW = "[[1.5, 2.0], [3.0, 4.25]]"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "model:\n  anchors: auto  # cells\n  name: yolov2\n",
            "model:\n  anchors: @  # cells\n  name: yolov2\n",
        ),
        (
            "model: {name: yolov2, anchors: [[1, 2]], width: 1}  # a\n",
            "model: {name: yolov2, anchors: @, width: 1}  # a\n",
        ),
        (
            "model:\n  anchors: [[1, 2],\n            [3, 4]]\n  width: 1\n",
            "model:\n  anchors: @\n  width: 1\n",
        ),
        (
            "model:\n  anchors:  # cells\n    - [1, 2]\n    - [3, 4]\n\n  # net\n  width: 1\n",
            "model:\n  anchors: @  # cells\n\n  # net\n  width: 1\n",
        ),
        (
            "model:\n  anchors:\n  - - 1\n    - 2\n# end\ntrain: {}\n",
            "model:\n  anchors: @\n# end\ntrain: {}\n",
        ),
        ("model:\n  anchors:\n  width: 1\n", "model:\n  anchors: @\n  width: 1\n"),
        (
            "# top\nmodel:\n  name: yolov2  # net\n\ntrain: {lr: 1}\n",
            "# top\nmodel:\n  name: yolov2  # net\n  anchors: @\n\ntrain: {lr: 1}\n",
        ),
        ("model: {name: yolov2,}\n", "model: {name: yolov2, anchors: @,}\n"),
        ("model: {}\n", "model: {anchors: @}\n"),
        ("model: ~\n", "model: {anchors: @}\n"),
        ("model:\ntrain: {lr: 1}\n", "model: {anchors: @}\ntrain: {lr: 1}\n"),
        ("train: {lr: 1}  # x", "train: {lr: 1}  # x\nmodel: {anchors: @}"),
        ("train: {lr: 1}\n# last\n", "train: {lr: 1}\nmodel: {anchors: @}\n# last\n"),
        ("{train: {lr: 1}}\n", "{train: {lr: 1}, model: {anchors: @}}\n"),
        ("# only a comment\n", "# only a comment\nmodel: {anchors: @}\n"),
        ("", "model: {anchors: @}\n"),
        (
            "a: 1\r\nmodel:\r\n  anchors: auto # c\r\n  b: 2\r\n",
            "a: 1\r\nmodel:\r\n  anchors: @ # c\r\n  b: 2\r\n",
        ),
        ("a: 1\r\nmodel:\r\n  b: 2\r\n", "a: 1\r\nmodel:\r\n  b: 2\r\n  anchors: @\r\n"),
    ],
)
def test_only_the_value_changes(before, after):
    assert set_value(before, "model", "anchors", WANTED) == after.replace("@", FLOW)
    assert yaml.safe_load(after.replace("@", FLOW))["model"]["anchors"] == WANTED


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("model:\n  anchors: [[1, 2],  # small\n            [3, 4]]\n", "comments inside"),
        ("a: &a [[1, 2]]\nmodel:\n  anchors: *a\n", "alias"),
        ("model:\n  anchors: &a [[1, 2]]\nother: *a\n", "cannot be edited safely"),
        ("model: 3\n", "model must be a mapping"),
        ("- 1\n", "model must be a mapping"),
        ("model: [\n", "must be a mapping"),
        ("a: 1\n---\nb: 2\n", "must be a mapping"),
    ],
)
def test_refuses_what_it_cannot_edit(before, says):
    with pytest.raises(ConfigError, match=says):
        set_value(before, "model", "anchors", WANTED)


def test_writes_the_file_and_names_it_in_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {anchors: auto}  # é\n", encoding="utf-8")
    write_values(path, "model", {"anchors": WANTED, "num_anchors": 2})
    assert path.read_text(encoding="utf-8") == f"model: {{anchors: {FLOW}, num_anchors: 2}}  # é\n"
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: model must be a mapping"):
        write_values(path, "model", {"anchors": WANTED})
    with pytest.raises(ConfigError, match="cannot be read"):
        write_values(tmp_path / "none.yaml", "model", {"anchors": WANTED})
