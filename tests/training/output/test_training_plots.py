import json

import pytest
from PIL import Image

from yolo9k.errors import MachineError
from yolo9k.training.output.plots import plot_run


def write(folder, entries):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_draws_the_curves(tmp_path):
    losses = [{"step": s, "loss": 9 / s, "loss/box": 3 / s, "lr": 0.1, "gradient_norm": None} for s in (1, 2, 3)]
    write(tmp_path, [*losses, {"step": 3, "val/mAP50": 0.5}, {"step": 4, "loss": None}])
    target = plot_run(tmp_path)
    assert target == tmp_path / "plots" / "curves.png"
    with Image.open(target) as image:
        assert image.size[0] > 1000


def test_a_run_without_scores_has_no_empty_panel(tmp_path):
    write(tmp_path, [{"step": s, "loss": 9 / s, "lr": 0.1} for s in (1, 2, 3)])
    with Image.open(plot_run(tmp_path)) as image:
        assert image.size == (960, 480)


def test_without_metrics_nothing_is_drawn(tmp_path):
    assert plot_run(tmp_path) is None


def test_a_plot_that_cannot_be_written(tmp_path):
    write(tmp_path, [{"step": 1, "loss": 1.0}])
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(MachineError, match=r"plots.curves.png: the plot cannot be written"):
        plot_run(tmp_path)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """`drawn(entries)`: of each panel of the plot, its title, and the points of each curve by name."""
    figures = []
    monkeypatch.setattr("yolo9k.training.output.plots.save_figure", lambda path, figure: figures.append(figure))

    def draw(*entries):
        (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
        plot_run(tmp_path)
        lines = {axes.get_title(): axes.lines for axes in figures.pop().axes}
        return {
            title: {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in curves}
            for title, curves in lines.items()
        }

    return draw


def test_the_points_of_each_curve(drawn):
    first = {"step": 1, "loss": 3, "loss/box": 1, "loss/objectness": 2, "lr": 0.1}
    scores = {"step": 2, "val/mAP50": 0.5, "val/mAP": None}
    assert drawn(first, scores, first | {"step": 3, "loss": 2}) == {
        "loss per image": {"loss": [(1, 3), (3, 2)], "box": [(1, 1), (3, 1)], "objectness": [(1, 2), (3, 2)]},
        "learning rate": {"lr": [(1, 0.1), (3, 0.1)]},
        "validation scores": {"mAP50": [(2, 0.5)]},
    }


def test_the_only_part_of_a_loss_equals_the_loss(drawn):
    panels = drawn({"step": 1, "loss": 3, "loss/classification": 3, "lr": 0.1})
    assert panels == {"loss per image": {"loss": [(1, 3)]}, "learning rate": {"lr": [(1, 0.1)]}}
