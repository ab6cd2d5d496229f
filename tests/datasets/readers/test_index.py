import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.datasets.readers.index import PackedStrings, load_index_cache, save_index_cache


def test_packed_strings_are_unpacked():
    texts = ["a", "", "ö/b.jpg", "x" * 300, "b"]
    names = PackedStrings.of([text.encode() for text in texts])
    assert [names[i] for i in range(len(names))] == texts
    assert names.ends.dtype == np.uint16  # the smallest that holds the length
    both = PackedStrings.concatenate([names, PackedStrings.of([]), names])
    assert [both[i] for i in range(len(both))] == texts * 2


@given(st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"\1")), max_size=30))
def test_argsort_is_stable_and_by_bytes(texts):
    order = PackedStrings.of(texts).argsort()
    assert order.tolist() == sorted(range(len(texts)), key=lambda i: texts[i])


@pytest.mark.parametrize("texts", [[], [b""], [b"", b""], [b"", b"a", b""]])
def test_argsort_of_empty_strings(texts):
    assert PackedStrings.of(texts).argsort().tolist() == sorted(range(len(texts)), key=lambda i: texts[i])


def test_the_index_cache_round_trip(tmp_path):
    save_index_cache(tmp_path / "deep" / "a.npz", one=np.arange(3), number=7)
    stored = load_index_cache(tmp_path / "deep" / "a.npz")
    assert stored["one"].tolist() == [0, 1, 2]
    assert int(stored["number"]) == 7
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npz"]
