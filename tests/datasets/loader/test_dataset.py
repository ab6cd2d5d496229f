import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.load import read_images
from yolo9k.datasets.loader.batches import load_batches, make_batch, resize_requests
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder, StepSampler
from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.errors import ConfigError, DataError
from yolo9k.samples import BoxLabels, Sample

PLAIN = DetectionTransform(AugmentConfig())
NOISY = DetectionTransform(
    AugmentConfig(transforms=({"GaussNoise": {"p": 1}}, {"RandomBrightnessContrast": {"p": 0.5}}))
)


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
        boxes = BoxLabels.of([[5, 5, 25, 20]] * index, [index] * index)
        records.append(Record(path, (40, 30), boxes, index))
    return records


def sampler(stop=3, **changes):
    options = {"batch": 4, "accumulate": 2, "sizes": ((64, 32), (32, 64)), "size_period": 1}
    return StepSampler(SampleOrder([5], seed=1), **options | changes, start=0, stop=stop)


def same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_batches_have_the_size_of_their_step(records):
    loaded = list(load_batches(TrainingDataset([records], PLAIN, seed=1), sampler(), 0))
    assert len(loaded) == 6
    for batch, requests in zip(loaded, sampler(), strict=True):
        assert batch.size_wh == requests[0].size_wh
        assert batch.names == tuple(str(records[r.index].source) for r in requests)
        assert batch.unreadable == ()
        assert batch.images.dtype == torch.uint8
        assert (batch.xyxy >= 0).all()
        assert (batch.xyxy <= torch.tensor(batch.size_wh * 2)).all()


def test_workers_make_the_same_batches(records):
    images = TrainingDataset([records], NOISY, seed=1)
    here, there = (list(load_batches(images, sampler(), workers)) for workers in (0, 2))
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        same(one, other)


def test_workers_that_are_spawned(records, monkeypatch):
    images = TrainingDataset([records], NOISY, seed=1)
    expected = list(load_batches(images, sampler(stop=1), 0))  # builds its albumentations, which cannot be pickled
    context = torch.multiprocessing.get_context("spawn")
    loader = torch.utils.data.DataLoader
    monkeypatch.setattr(
        "yolo9k.datasets.loader.batches.DataLoader", lambda *a, **k: loader(*a, **k, multiprocessing_context=context)
    )
    loaded = list(load_batches(images, sampler(stop=1), 1))
    for one, other in zip(expected, loaded, strict=True):
        same(one, other)


def test_make_batch_equals_the_loaders_batch(records):
    images = TrainingDataset([records], NOISY, seed=1)
    loaded = list(load_batches(images, sampler(accumulate=1), 0))
    for step in (2, 0):  # in any order
        same(make_batch(images, sampler().requests(step)), loaded[step])


def test_requests_at_another_size(records):
    requests = resize_requests(sampler().requests(0), (96, 96))
    assert make_batch(TrainingDataset([records], PLAIN, seed=1), requests).size_wh == (96, 96)
    assert {r.position for r in requests} == {0, 1, 2, 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops(records, workers):
    records[3].path.write_text("text")
    images = TrainingDataset([records], PLAIN, seed=1)
    with pytest.raises(DataError, match=r"3\.png: not a readable image$"):
        list(load_batches(images, sampler(), workers))


def test_an_unreadable_image_is_skipped(records):
    records[3].path.write_text("text")
    images = TrainingDataset([records], PLAIN, seed=1, on_error="skip")
    loaded = list(load_batches(images, sampler(stop=5), 0))
    names = [name for batch in loaded for name in batch.names]
    assert len(names) == 20
    assert names.count(str(records[4].path)) == 8  # at its own position and in place of the unreadable one
    assert str(records[3].path) not in names
    assert [name for batch in loaded for name in batch.unreadable] == [str(records[3].path)] * 4


def test_only_unreadable_images(records):
    for record in records:
        record.path.unlink()
    with pytest.raises(DataError, match="no such image"):
        list(load_batches(TrainingDataset([records], PLAIN, 1, "skip"), sampler(), 0))


def test_a_wrong_transform_is_reported_before_any_worker(records):
    with pytest.raises(ConfigError, match="'Nothing' is not an albumentations transform"):
        TrainingDataset([records], DetectionTransform(AugmentConfig(transforms=({"Nothing": {}},))), seed=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_that_cannot_be_applied(records, workers):
    images = TrainingDataset([records], DetectionTransform(AugmentConfig(transforms=({"ToFloat": {"p": 1}},))), seed=1)
    with pytest.raises(ConfigError, match=r"^data\.augment\.transforms: the image must stay uint8.*float32 \(30"):
        list(load_batches(images, sampler(), workers))


# --- box labels and image-level labels in one batch


@pytest.fixture
def kinds(zoo):
    return read_images(DatasetConfig(kind="folder", root=str(zoo), splits={"train": ("kinds",)}), "train").records


def joint(stop=10, batch=3, **changes):
    options = {"batch": batch, "accumulate": 1, "sizes": ((64, 32), (32, 64)), "size_period": 1}
    return StepSampler(SampleOrder([5, 6], 1, [1, 2]), **options | changes, start=0, stop=stop)


@pytest.mark.parametrize("transform", [PLAIN, NOISY])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_has_box_and_image_level_labels(records, kinds, transform, workers):
    images = TrainingDataset([records, kinds], transform, seed=1)
    assert len(images) == 11
    for batch, requests in zip(load_batches(images, joint(), workers), joint(), strict=True):
        assert batch.size_wh == requests[0].size_wh  # all images of a step, with boxes or without
        labelled = [i for i, request in enumerate(requests) if request.source == 1]
        assert len(labelled) == 2
        assert batch.labelled_image.tolist() == labelled
        assert batch.image_label.tolist() == [kinds[requests[i].index].image_label for i in labelled]
        assert not set(batch.image_index.tolist()) & set(labelled)
        sources = [records, kinds]
        assert batch.names == tuple(str(sources[r.source][r.index].source) for r in requests)


def test_a_batch_of_image_level_labels_only(records, kinds):
    requests = [replace(r, position=i) for i, r in enumerate(q for s in joint() for q in s if q.source)][:4]
    batch = make_batch(TrainingDataset([records, kinds], NOISY, seed=1), resize_requests(requests, (32, 32)))
    assert (len(batch.xyxy), len(batch.image_label)) == (0, 4)


def test_images_without_boxes_are_augmented_too(records, kinds):
    images = TrainingDataset([records, kinds], PLAIN, seed=1)
    (request,) = [r for r in joint().requests(0) if r.source][:1]
    seen = {make_batch(images, [replace(request, step=step)]).images.sum().item() for step in range(5)}
    assert len(seen) == 5


def test_an_unreadable_image_is_replaced_by_one_of_its_source(records, kinds):
    kinds[5].source.write_text("text")
    images = TrainingDataset([records, kinds], PLAIN, seed=1, on_error="skip")
    (unreadable,) = [r for s in joint(4) for r in s if (r.source, r.index) == (1, 5)][:1]
    batch = make_batch(images, [unreadable])
    assert batch.names == (str(kinds[0].source),)
    assert batch.image_label.tolist() == [kinds[0].image_label]
    assert batch.unreadable == (str(kinds[5].source),)
    with pytest.raises(DataError, match="not a readable image"):
        make_batch(TrainingDataset([records, kinds], PLAIN, seed=1), [unreadable])


# --- a transform that combines several samples


class Mixup:
    """Averages two images and keeps the boxes of both."""

    num_samples = 2

    def __call__(self, samples, size_wh, rng):
        one, other = (PLAIN([sample], size_wh, rng) for sample in samples)
        image = ((one.image.astype(int) + other.image) // 2).astype(np.uint8)
        parts = [(s.boxes.xyxy, s.boxes.label, s.boxes.ignore) for s in (one, other)]
        boxes = BoxLabels(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))
        return Sample(image, boxes, f"{one.name} + {other.name}")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_of_two_samples(records, workers):
    images = TrainingDataset([records], Mixup(), seed=1)
    loaded = list(load_batches(images, sampler(), workers))
    names = [name.split(" + ") for batch in loaded for name in batch.names]
    requested = [str(records[r.index].source) for requests in sampler() for r in requests]
    assert [first for first, _ in names] == requested
    assert len({second for _, second in names}) > 1
    for batch, again in zip(loaded, load_batches(images, sampler(), 0), strict=True):
        same(batch, again)


def test_unreadable_images_of_all_samples_are_named(records):
    for record in records[1:]:
        record.source.write_text("text")
    images = TrainingDataset([records], Mixup(), seed=1, on_error="skip")
    request = replace(sampler().requests(0)[0], index=1)
    drawn = int(np.random.default_rng([1, 2, 0, 0]).integers(5))
    read = [*range(1, 5), *(range(drawn, 5) if drawn else ())]  # up to the only readable image, the first one
    assert make_batch(images, [request]).unreadable == tuple(str(records[i].source) for i in read)


def test_a_transform_of_one_sample_gets_an_unused_generator(records):
    class Recorder:
        num_samples = 1

        def __call__(self, samples, size_wh, rng):
            assert rng.bit_generator.state == np.random.default_rng([1, 2, 0, 3]).bit_generator.state
            return PLAIN(samples, size_wh, rng)

    make_batch(TrainingDataset([records], Recorder(), seed=1), sampler().requests(0)[3:])


def test_images_of_another_size_than_annotated_are_named(records):
    annotated = [replace(record, size_wh=(80, 60)) if record.id in (2, 3) else record for record in records]
    loaded = list(load_batches(TrainingDataset([annotated], PLAIN, seed=1), sampler(), 0))
    resized = {name for batch in loaded for name in batch.resized}
    assert resized == {str(records[2].source), str(records[3].source)}
