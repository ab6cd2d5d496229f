import numpy as np
import pytest
from classifier_scenes import FLAT, IN_TREE, OF_FLAT, TREE, FixedClassifier, image_set, in_tree
from PIL import Image

from yolo9k.errors import MachineError
from yolo9k.evaluation import classifier_report as report
from yolo9k.evaluation.classifier import evaluate_classifier, score_outcomes
from yolo9k.evaluation.classifier_plots import draw_worst_mistakes, plot_confusion, write_plots
from yolo9k.metrics.classification import Outcomes
from yolo9k.wordtree import WordTree


@pytest.fixture
def flat(tmp_path):
    return evaluate_classifier(FixedClassifier(OF_FLAT, FLAT), image_set(tmp_path / "flat", OF_FLAT))


@pytest.fixture
def over_tree(tmp_path):
    return evaluate_classifier(FixedClassifier(IN_TREE, TREE), in_tree(tmp_path / "tree"))


def outcomes(expected, predicted):
    """Return top-1 predictions with falling probabilities."""
    rows = len(expected)
    score = np.linspace(0.9, 0.1, rows, dtype=np.float32)[:, None]
    return Outcomes(
        np.array(expected), np.array(predicted)[:, None], score, np.array(predicted), np.ones(rows, np.float32)
    )


def test_tables_and_text_of_flat_labels(flat):
    assert report.worst_rows(flat) == [("cat", 3, pytest.approx(1 / 3), 1.0, "dog (2)")]
    assert report.pair_rows(flat) == [("cat", "dog", 2)]
    (line,) = report.summary(flat)
    assert line.startswith("top-1 0.5000   top-5 1.0000   mean top-1 of 2 classes 0.6667   loss ")
    assert len(report.protocol(flat)) == 1


def test_tables_and_text_of_a_tree(over_tree):
    assert [row[:2] for row in report.worst_rows(over_tree)] == [("poodle", 1), ("terrier", 3)]
    assert [row[-1] for row in report.worst_rows(over_tree)] == ["terrier (1)", "clock (1)"]
    assert report.depth_rows(over_tree.tree)[2] == (2, 4, 0.25, 0.5, 0.25)
    assert len(report.depth_rows(over_tree.tree)[0]) == len(report.DEPTH_COLUMNS)
    assert "above 0.5" in " ".join(report.protocol(over_tree))
    assert report.summary(over_tree)[1] == "descent: exact label 0.3333; mean depth: ground truth 1.67, predicted 1.33"
    assert report.summary(over_tree)[2].endswith("with the correct label: 1 at 1, 1 at 3; mean 2.00")


def test_without_mistakes_there_are_no_worst_rows():
    scores = score_outcomes(outcomes([2, 5], [5, 5]), TREE, [])
    assert report.worst_rows(scores) == report.pair_rows(scores) == []
    assert len(report.summary(scores)) == 2
    assert draw_worst_mistakes(scores) is None


def test_all_plots_are_written(tmp_path, flat, over_tree):
    for scores, names in (
        (flat, ["confusion.png", "worst_mistakes.jpg"]),
        (over_tree, ["confusion.png", "depth.png", "worst_mistakes.jpg"]),
    ):
        paths = write_plots(tmp_path / "new" / "plots", scores)
        assert [path.name for path in paths] == names
        for path in paths:
            with Image.open(path) as image:
                assert image.size[0] > 300
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        write_plots(tmp_path / "file", flat)


def cells(figure):
    """Return the fractions of a matrix plot by row and column name."""
    axes = figure.axes[0]
    rows, columns = (
        [text.get_text() for text in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    fractions = axes.images[0].get_array()
    return {(row, column): fractions[i, j] for i, row in enumerate(rows) for j, column in enumerate(columns)}


def test_the_matrix_has_fractions_of_each_row(flat, over_tree):
    cells_of = cells(plot_confusion(flat))
    assert cells_of == {
        ("cat", "cat"): pytest.approx(1 / 3), ("cat", "dog"): pytest.approx(2 / 3), ("cat", "others"): 0,
        ("dog", "cat"): 0, ("dog", "dog"): 1, ("dog", "others"): 0,
    }  # fmt: skip
    cells_of = cells(plot_confusion(over_tree))
    assert cells_of["dog", "dog"] == 1  # predicted terrier, a descendant
    assert cells_of["terrier", "clock"] == pytest.approx(1 / 3)


def test_only_the_most_confused_of_many_labels_are_shown():
    tree = WordTree.flat([f"n{index}" for index in range(200)])
    expected, predicted = np.arange(200), np.arange(200)
    predicted[150], predicted[[160, 161]] = 7, 199
    cells_of = cells(plot_confusion(score_outcomes(outcomes([*expected, 160], [*predicted, 199]), tree, [])))
    assert len(cells_of) == 30 * 31
    assert cells_of["n150", "n7"] == cells_of["n160", "n199"] == 1
    assert cells_of["n7", "n7"] == 1


def test_the_most_confident_mistakes_come_first(tmp_path):
    colours = np.arange(0, 250, 12, dtype=np.uint8)
    paths = [tmp_path / f"{value}.png" for value in colours]
    for value, path in zip(colours, paths, strict=True):
        Image.fromarray(np.full((12, 16, 3), value, np.uint8)).save(path)
    expected, predicted = np.zeros(len(paths), int), np.ones(len(paths), int)
    predicted[0] = 0  # correct, and with the highest probability
    sheet = draw_worst_mistakes(score_outcomes(outcomes(expected, predicted), FLAT, paths))
    assert [int(sheet[130, 160 + 324 * column, 0]) for column in range(4)] == [12, 24, 36, 48]
    assert sheet.shape[1] == 4 * 324 + 4
