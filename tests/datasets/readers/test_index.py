import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.datasets.readers.index import Names, load_arrays, store_arrays


def test_names_are_what_they_were():
    texts = ["a", "", "ö/b.jpg", "x" * 300, "b"]
    names = Names.of([text.encode() for text in texts])
    assert [names[i] for i in range(len(names))] == texts
    assert names.ends.dtype == np.uint16  # as small as it can be
    both = Names.joined([names, Names.of([]), names])
    assert [both[i] for i in range(len(both))] == texts * 2


@given(st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"\1")), max_size=30))
def test_the_order_is_that_of_bytes_and_stable(texts):
    order = Names.of(texts).order()
    assert order.tolist() == sorted(range(len(texts)), key=lambda i: texts[i])


@pytest.mark.parametrize("texts", [[], [b""], [b"", b""], [b"", b"a", b""]])
def test_the_order_of_nothing(texts):
    assert Names.of(texts).order().tolist() == sorted(range(len(texts)), key=lambda i: texts[i])


def test_arrays_are_kept(tmp_path):
    store_arrays(tmp_path / "deep" / "a.npz", one=np.arange(3), number=7)
    stored = load_arrays(tmp_path / "deep" / "a.npz")
    assert stored["one"].tolist() == [0, 1, 2]
    assert int(stored["number"]) == 7
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npz"]
