import pytest
import torch

from yolo9k.detection.codec import Codec

ANCHORS = torch.tensor([[1.0, 2.0], [3.0, 1.5]])
DIRECT, OFFSET = Codec(ANCHORS), Codec(ANCHORS, "offset")


def box_at(boxes, *position):
    return [field[position].item() for field in (boxes.cx, boxes.cy, boxes.w, boxes.h, boxes.objectness)]


def test_decode_by_hand():
    geometry = torch.zeros(1, 2, 5, 2, 3)
    geometry[0, 1, :, 1, 2] = torch.tensor([0.0, 2.0, 0.5, -0.5, -1.0])
    boxes = DIRECT.decode(geometry)
    assert box_at(boxes, 0, 0, 0, 0)[:2] == [0.5, 0.5]
    assert box_at(boxes, 0, 0, 1, 1)[2:4] == [1, 2]
    assert box_at(boxes, 0, 1, 1, 2) == pytest.approx([2.5, 1.8807970, 3 * 1.6487213, 1.5 * 0.6065307, 0.2689414])


def test_offsets_are_multiples_of_the_anchor_from_the_middle_of_the_cell():
    geometry = torch.zeros(1, 2, 5, 2, 3)
    geometry[0, 1, :, 1, 2] = torch.tensor([-1.0, 2.0, 0.5, -0.5, -1.0])
    boxes = OFFSET.decode(geometry)
    assert box_at(boxes, 0, 0, 0, 0) == [0.5, 0.5, 1, 2, 0.5]
    # 2.5 - 1 * 3 and 1.5 + 2 * 1.5: outside the cell and the image
    assert box_at(boxes, 0, 1, 1, 2) == pytest.approx([-0.5, 4.5, 3 * 1.6487213, 1.5 * 0.6065307, 0.2689414])


def test_order_of_boxes_is_anchor_row_column():
    boxes = DIRECT.decode(torch.zeros(2, 2, 5, 2, 3)).xyxy()
    assert boxes.shape == (2, 12, 4)
    assert boxes[0, 2].tolist() == [2.0, -0.5, 3.0, 1.5]  # anchor 0, row 0, column 2
    assert boxes[1, 6 + 3].tolist() == [-1.0, 0.75, 2.0, 2.25]  # anchor 1, row 1, column 0


@pytest.mark.parametrize(("codec", "raw_of"), [(DIRECT, torch.logit), (OFFSET, torch.clone)], ids=["direct", "offset"])
def test_encode_and_decode_are_inverse(codec, raw_of):
    generator = torch.Generator().manual_seed(0)
    rows, columns, n = 4, 7, 50
    cxcywh = torch.rand(n, 4, generator=generator) * torch.tensor([columns, rows, 5, 5]) * 0.98 + 0.01
    cell, anchor = cxcywh[:, :2].long(), torch.randint(2, (n,), generator=generator)
    assert (cell < torch.tensor([columns, rows])).all()
    target = codec.encode(cxcywh, cell, anchor)
    for box, (column, row), a, activated in zip(cxcywh, cell, anchor, target, strict=True):
        raw = torch.cat([raw_of(activated[:2]), activated[2:]])
        assert torch.allclose(codec.activate(raw[:2]), activated[:2], atol=1e-5)
        geometry = torch.zeros(1, 2, 5, rows, columns)
        geometry[0, a, :4, row, column] = raw
        assert torch.allclose(torch.tensor(box_at(codec.decode(geometry), 0, a, row, column)[:4]), box, atol=1e-4)


def test_an_offset_can_put_the_centre_into_another_cell():
    box = torch.tensor([[3.2, 0.4, 2.0, 1.0]])
    geometry = torch.zeros(1, 2, 5, 2, 2)
    geometry[0, 0, :4, 1, 0] = OFFSET.encode(box, torch.tensor([[0, 1]]), torch.tensor([0]))[0]
    assert box_at(OFFSET.decode(geometry), 0, 0, 1, 0)[:4] == pytest.approx(box[0].tolist())


@pytest.mark.parametrize("codec", [DIRECT, OFFSET], ids=["direct", "offset"])
def test_the_middle_of_a_cell(codec):
    middle = codec.encode(torch.tensor([[4.5, 2.5, 1.0, 2.0]]), torch.tensor([[4, 2]]), torch.tensor([0]))
    assert middle.tolist() == [[codec.centre, codec.centre, 0, 0]]
    assert codec.activate(torch.zeros(2)).tolist() == [codec.centre] * 2  # a new head predicts the middle of the cell


def test_half_precision_is_decoded_in_float32():
    assert DIRECT.decode(torch.zeros(1, 2, 5, 1, 1, dtype=torch.bfloat16)).cx.dtype == torch.float32


def test_boxes_at_positions():
    geometry = torch.randn(2, 2, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    boxes = DIRECT.decode(geometry)
    assert boxes.cxcywh(torch.tensor([[1, 0, 1, 2]]))[0].tolist() == box_at(boxes, 1, 0, 1, 2)[:4]
    assert boxes.shape == (2, 2, 2, 3)
    assert boxes.pixels_per_cell((96, 128)).tolist() == [32, 64, 32, 64]


def test_no_boxes():
    assert DIRECT.encode(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).shape == (0, 4)
    assert DIRECT.decode(torch.zeros(0, 2, 5, 2, 2)).xyxy().shape == (0, 8, 4)
