import pytest
import torch

from yolo9k.detection.codec import decode, encode

ANCHORS = torch.tensor([[1.0, 2.0], [3.0, 1.5]])


def test_decode_by_hand():
    geometry = torch.zeros(1, 2, 5, 2, 3)
    geometry[0, 1, :, 1, 2] = torch.tensor([0.0, 2.0, 0.5, -0.5, -1.0])
    boxes = decode(geometry, ANCHORS)
    assert (boxes.cx[0, 0, 0, 0], boxes.cy[0, 0, 0, 0]) == (0.5, 0.5)
    assert (boxes.w[0, 0, 1, 1], boxes.h[0, 0, 1, 1]) == (1, 2)
    at = (0, 1, 1, 2)
    found = [field[at].item() for field in (boxes.cx, boxes.cy, boxes.w, boxes.h, boxes.objectness)]
    assert found == pytest.approx([2.5, 1.8807970, 3 * 1.6487213, 1.5 * 0.6065307, 0.2689414])


def test_order_of_boxes_is_anchor_row_column():
    boxes = decode(torch.zeros(2, 2, 5, 2, 3), ANCHORS).xyxy()
    assert boxes.shape == (2, 12, 4)
    assert boxes[0, 2].tolist() == [2.0, -0.5, 3.0, 1.5]  # anchor 0, row 0, column 2
    assert boxes[1, 6 + 3].tolist() == [-1.0, 0.75, 2.0, 2.25]  # anchor 1, row 1, column 0


def test_encode_and_decode_are_inverse():
    generator = torch.Generator().manual_seed(0)
    rows, columns, n = 4, 7, 50
    limits = torch.tensor([columns, rows])
    cxcywh = torch.rand(n, 4, generator=generator) * torch.tensor([columns, rows, 5, 5]) * 0.98 + 0.01
    cell, anchor = cxcywh[:, :2].long(), torch.randint(2, (n,), generator=generator)
    assert (cell < limits).all()
    target = encode(cxcywh, cell, ANCHORS[anchor])
    for box, (column, row), a, (x, y, w, h) in zip(cxcywh, cell, anchor, target, strict=True):
        geometry = torch.zeros(1, 2, 5, rows, columns)
        geometry[0, a, :4, row, column] = torch.stack([x.logit(), y.logit(), w, h])
        found = decode(geometry, ANCHORS)
        fields = torch.stack([f[0, a, row, column] for f in (found.cx, found.cy, found.w, found.h)])
        assert torch.allclose(fields, box, atol=1e-4)


def test_half_precision_is_decoded_in_float32():
    assert decode(torch.zeros(1, 2, 5, 1, 1, dtype=torch.bfloat16), ANCHORS).cx.dtype == torch.float32


def test_no_boxes():
    assert encode(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0, 4)
    assert decode(torch.zeros(0, 2, 5, 2, 2), ANCHORS).xyxy().shape == (0, 8, 4)
