import numpy as np
import pytest
import torch

from yolo9k.samples import Batch, BoxLabels, Detections, Sample


def sample(boxes, name, value=0, image_label=None):
    return Sample(np.full((4, 6, 3), value, np.uint8), boxes, name, image_label)


def detections():
    xyxy = np.array([[1, 2, 4, 8], [0, 0, 1, 1]], np.float32)
    return Detections(xyxy, np.array([0.9, 0.5], np.float32), np.array([1, 0]), ("cat", "dog"))


def test_box_labels_of_lists():
    labels = BoxLabels.of([[0, 0, 1, 1], [1, 1, 2, 2]], [3, 4], [False, True])
    assert (labels.xyxy.dtype, labels.label.dtype, labels.ignore.dtype) == (np.float32, np.int64, bool)
    assert labels[labels.ignore].label.tolist() == [4]
    assert len(BoxLabels.of([], [])) == 0
    assert BoxLabels.of([], []).xyxy.shape == (0, 4)


def test_box_labels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(N, 4\), \(N,\), \(N,\), got"):
        BoxLabels.of([[0, 0, 1, 1]], [1, 2])


def test_batch_is_flat():
    first = BoxLabels.of([[0, 0, 1, 1], [1, 1, 2, 2]], [3, 4], [False, True])
    last = BoxLabels.of([[2, 2, 3, 3]], [5])
    batch = Batch.of([sample(first, "a", 255), sample(BoxLabels.of([], []), "b", image_label=7), sample(last, "c")])
    assert batch.images.shape == (3, 3, 4, 6)
    assert batch.size_wh == (6, 4)
    assert batch.image_index.tolist() == [0, 0, 2]
    assert batch.label.tolist() == [3, 4, 5]
    assert batch.ignore.tolist() == [False, True, False]
    assert (batch.labelled_image.tolist(), batch.image_label.tolist()) == ([1], [7])
    assert batch.names == ("a", "b", "c")


def test_batch_without_any_box():
    batch = Batch.of([sample(BoxLabels.of([], []), "a")]).to("cpu")
    assert batch.xyxy.shape == (0, 4)
    assert batch.image_index.dtype == batch.label.dtype == torch.int64


def test_normalised_images_leave_the_bytes_alone():
    batch = Batch.of([sample(BoxLabels.of([], []), "a", 51)])
    assert torch.allclose(batch.normalised(), torch.tensor(0.2))
    assert batch.images.unique().tolist() == [51]


def test_detections_read_as_rows():
    (box, score, name), _ = detections()
    assert (box.tolist(), round(score, 4), name) == ([1, 2, 4, 8], 0.9, "dog")
    assert len(detections()[:1]) == 1
    assert list(Detections.empty()) == []
    assert Detections(np.zeros((1, 4)), np.ones(1), np.array([5])).name(5) == "5"


def test_detections_that_do_not_fit():
    with pytest.raises(ValueError, match="detections need shapes"):
        Detections(np.zeros((2, 4)), np.ones(1), np.ones(2))


def test_coco_entries():
    assert detections().to_coco(7, category_ids=(10, 20)) == [
        {"image_id": 7, "category_id": 20, "bbox": [1, 2, 3, 6], "score": 0.9},
        {"image_id": 7, "category_id": 10, "bbox": [0, 0, 1, 1], "score": 0.5},
    ]
    assert detections().to_coco("a")[0]["category_id"] == 1


def test_supervision():
    pytest.importorskip("supervision")
    found = detections().to_supervision()
    assert found.class_id.tolist() == [1, 0]
    assert list(found.data["class_name"]) == ["dog", "cat"]
