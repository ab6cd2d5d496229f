import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.errors import DataError
from yolo9k.yaml_files import load_yaml, parse_yaml

NAMES = ["no", "yes", "on", "Off", "12:30", "007", "1e3", "~", "null", "0x1f", "1_000", "2020-01-01", "=", "<<", "true"]


@pytest.mark.parametrize("text", [f"names: [{', '.join(NAMES)}]", "names:\n" + "".join(f"- {n}\n" for n in NAMES)])
def test_names_stay_as_written(text):
    assert parse_yaml(text, "data.yaml") == {"names": NAMES}


def test_keys_of_names_are_text_too():
    assert parse_yaml("labels: {names: {no: n02, 007: ''}, on_unknown: skip}", "a.yaml") == {
        "labels": {"names": {"no": "n02", "007": ""}, "on_unknown": "skip"}
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("FALSE", False), ("no", "no"), ("12", 12), ("-3", -3), ("007", "007"), ("12:30", "12:30"),
     ("1.5e-3", 0.0015), ("1e-3", "1e-3"), ("~", None), ("'12'", "12"), ("2020-13-40", "2020-13-40"),
     (".inf", float("inf"))],
)  # fmt: skip
def test_other_values(text, value):
    assert parse_yaml(f"x: {text}", "a.yaml") == {"x": value}


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abno01 :-#é", max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner),
                    max_leaves=12))  # fmt: skip
def test_what_is_dumped_comes_back(value):
    assert parse_yaml(yaml.safe_dump({"x": value}, allow_unicode=True), "a.yaml") == {"x": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 3000, "a.yaml:1: not YAML: exceeded maximum nesting"),
        ("a: &a [*a]", "a.yaml:1: an alias contains itself"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"a{i}: &a{i} [{','.join(['*a' + (str(i - 1) if i else '')] * 10)}]\n" for i in range(7)
        ), "more than 1,000,000 values"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", "a.yaml:2: the tag 'python/object/apply:os.system' is not"),
        ("a: " + "1" * 5000, "a.yaml:1: 11111111111111111111… is too long for a number"),
        ("a: 1\na: 2", "a.yaml:2: the key 'a' occurs twice"),
        ("a: [", "a.yaml:2: not YAML"),
    ],
)  # fmt: skip
def test_bad_yaml(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DataError) as raised:
        load_yaml(tmp_path / "a.yaml", DataError.at)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 500


def test_merge_keys():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "a.yaml")["b"] == {"x": 1, "y": 3}
