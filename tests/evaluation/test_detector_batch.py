import pytest

from yolo9k.errors import MachineError
from yolo9k.evaluation.detector import BYTES_PER_PIXEL, fitting_batch
from yolo9k.hardware import free_memory


def test_the_batch_is_lowered_to_what_fits(caplog):
    image = 100 * 200 * BYTES_PER_PIXEL
    assert fitting_batch(16, (100, 200), 20 * image) == fitting_batch(16, (100, 200), None) == 16
    assert not caplog.records
    assert fitting_batch(16, (100, 200), 4 * image) == 3
    assert caplog.records[0].getMessage() == "batch 3 instead of 16: 100x200 images need 0.0 GB each"


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(MachineError, match=r"8192x8192: one image needs about 20\.1 GB of memory, 8\.0 GB are free"):
        fitting_batch(16, (8192, 8192), int(8e9))


def test_free_memory_is_known_on_linux():
    free = free_memory()
    assert free is None or free > 1 << 20
