import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.load import read_images
from yolo9k.datasets.loader.dataset import TrainingDataset, at_size, batches, make_batch
from yolo9k.datasets.loader.sampler import SampleOrder, StepSampler
from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.errors import ConfigError, DataError
from yolo9k.samples import BoxLabels

PLAIN = DetectionTransform(AugmentConfig())
NOISY = DetectionTransform(
    AugmentConfig(transforms=({"GaussNoise": {"p": 1}}, {"RandomBrightnessContrast": {"p": 0.5}}))
)


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
        boxes = BoxLabels.of([[5, 5, 25, 20]] * number, [number] * number)
        made.append(Record(path, (40, 30), boxes, number))
    return made


def sampler(last=3, **changes):
    given = {"batch": 4, "accumulate": 2, "sizes": ((64, 32), (32, 64)), "size_period": 1}
    return StepSampler(SampleOrder([5], seed=1), **given | changes, first=0, last=last)


def same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_batches_have_the_size_of_their_step(records):
    found = list(batches(TrainingDataset([records], PLAIN, seed=1), sampler(), 0))
    assert len(found) == 6
    for batch, requests in zip(found, sampler(), strict=True):
        assert batch.size_wh == requests[0].size_wh
        assert batch.names == tuple(str(records[r.index].source) for r in requests)
        assert batch.unreadable == ()
        assert batch.images.dtype == torch.uint8
        assert (batch.xyxy >= 0).all()
        assert (batch.xyxy <= torch.tensor(batch.size_wh * 2)).all()


def test_workers_make_the_same_batches(records):
    images = TrainingDataset([records], NOISY, seed=1)
    here, there = (list(batches(images, sampler(), workers)) for workers in (0, 2))
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        same(one, other)


def test_workers_that_are_spawned(records, monkeypatch):
    images = TrainingDataset([records], NOISY, seed=1)
    expected = list(batches(images, sampler(last=1), 0))  # its transforms are built now, and must not travel
    context = torch.multiprocessing.get_context("spawn")
    loader = torch.utils.data.DataLoader
    monkeypatch.setattr(
        "yolo9k.datasets.loader.dataset.DataLoader", lambda *a, **k: loader(*a, **k, multiprocessing_context=context)
    )
    found = list(batches(images, sampler(last=1), 1))
    for one, other in zip(expected, found, strict=True):
        same(one, other)


def test_one_step_made_here_is_the_loaders(records):
    images = TrainingDataset([records], NOISY, seed=1)
    loaded = list(batches(images, sampler(accumulate=1), 0))
    for step in (2, 0):  # in any order
        same(make_batch(images, sampler().step(step)), loaded[step])


def test_a_step_at_another_size(records):
    requests = at_size(sampler().step(0), (96, 96))
    assert make_batch(TrainingDataset([records], PLAIN, seed=1), requests).size_wh == (96, 96)
    assert {r.position for r in requests} == {0, 1, 2, 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops(records, workers):
    records[3].path.write_text("text")
    images = TrainingDataset([records], PLAIN, seed=1)
    with pytest.raises(DataError, match=r"3\.png: not an image that can be read$"):
        list(batches(images, sampler(), workers))


def test_a_bad_image_is_skipped(records):
    records[3].path.write_text("text")
    images = TrainingDataset([records], PLAIN, seed=1, on_error="skip")
    found = list(batches(images, sampler(last=5), 0))
    names = [name for batch in found for name in batch.names]
    assert len(names) == 20
    assert names.count(str(records[4].path)) == 8  # in its own place and in that of the bad one
    assert str(records[3].path) not in names
    assert [name for batch in found for name in batch.unreadable] == [str(records[3].path)] * 4


def test_nothing_but_bad_images(records):
    for record in records:
        record.path.unlink()
    with pytest.raises(DataError, match="no such image"):
        list(batches(TrainingDataset([records], PLAIN, 1, "skip"), sampler(), 0))


def test_a_wrong_transform_is_reported_before_any_worker(records):
    with pytest.raises(ConfigError, match="'Nothing' is no transform"):
        TrainingDataset([records], DetectionTransform(AugmentConfig(transforms=({"Nothing": {}},))), seed=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_that_does_not_fit_is_one_line(records, workers):
    images = TrainingDataset([records], DetectionTransform(AugmentConfig(transforms=({"ToFloat": {"p": 1}},))), seed=1)
    with pytest.raises(ConfigError, match=r"^data\.augment\.transforms: the image must stay uint8.*float32 \(30"):
        list(batches(images, sampler(), workers))


# --- images with boxes and images with labels in one batch


@pytest.fixture
def kinds(zoo):
    return read_images(DatasetConfig(kind="folder", root=str(zoo), splits={"train": ("kinds",)}), "train").records


def joint(last=10, batch=3, **changes):
    given = {"batch": batch, "accumulate": 1, "sizes": ((64, 32), (32, 64)), "size_period": 1}
    return StepSampler(SampleOrder([5, 6], 1, [1, 2]), **given | changes, first=0, last=last)


@pytest.mark.parametrize("transform", [PLAIN, NOISY])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_has_both_kinds(records, kinds, transform, workers):
    images = TrainingDataset([records, kinds], transform, seed=1)
    assert len(images) == 11
    for batch, requests in zip(batches(images, joint(), workers), joint(), strict=True):
        assert batch.size_wh == requests[0].size_wh  # all images of a step, whatever their kind
        labelled = [i for i, request in enumerate(requests) if request.source == 1]
        assert len(labelled) == 2
        assert batch.labelled_image.tolist() == labelled
        assert batch.image_label.tolist() == [kinds[requests[i].index].image_label for i in labelled]
        assert not set(batch.image_index.tolist()) & set(labelled)
        sources = [records, kinds]
        assert batch.names == tuple(str(sources[r.source][r.index].source) for r in requests)


def test_a_batch_of_image_labels_alone(records, kinds):
    requests = [replace(r, position=i) for i, r in enumerate(q for s in joint() for q in s if q.source)][:4]
    batch = make_batch(TrainingDataset([records, kinds], NOISY, seed=1), at_size(requests, (32, 32)))
    assert (len(batch.xyxy), len(batch.image_label)) == (0, 4)


def test_image_labels_are_augmented_as_boxes_are(records, kinds):
    images = TrainingDataset([records, kinds], PLAIN, seed=1)
    (request,) = [r for r in joint().step(0) if r.source][:1]
    seen = {make_batch(images, [replace(request, step=step)]).images.sum().item() for step in range(5)}
    assert len(seen) == 5


def test_a_bad_image_is_replaced_by_one_of_its_source(records, kinds):
    kinds[5].source.write_text("text")
    images = TrainingDataset([records, kinds], PLAIN, seed=1, on_error="skip")
    (bad,) = [r for s in joint(4) for r in s if (r.source, r.index) == (1, 5)][:1]
    batch = make_batch(images, [bad])
    assert batch.names == (str(kinds[0].source),)
    assert batch.image_label.tolist() == [kinds[0].image_label]
    assert batch.unreadable == (str(kinds[5].source),)
    with pytest.raises(DataError, match="not an image that can be read"):
        make_batch(TrainingDataset([records, kinds], PLAIN, seed=1), [bad])
