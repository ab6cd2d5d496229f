import numpy as np
import pytest
from PIL import Image

from yolo9k.anchor_plots import save_plot
from yolo9k.anchors import sweep
from yolo9k.errors import MachineError


@pytest.fixture(scope="module")
def sizes():
    return np.exp(np.random.default_rng(0).normal(0, 1, (60, 2)))


def test_the_sweep_adds_a_panel(sizes, tmp_path):
    curve = sweep(sizes, [1, 2])
    save_plot(tmp_path / "new" / "a.png", sizes, curve[0], (13, 13))
    save_plot(tmp_path / "b.png", sizes, curve[1], (13, 13), curve)
    widths = [Image.open(tmp_path / name).width for name in ("new/a.png", "b.png")]
    assert widths[1] == pytest.approx(1.5 * widths[0], rel=0.01)


def test_names_the_file_that_cannot_be_written(sizes, tmp_path):
    (anchors,) = sweep(sizes, [1])
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/a\.png"):
        save_plot(tmp_path / "file" / "a.png", sizes, anchors, (13, 13))
