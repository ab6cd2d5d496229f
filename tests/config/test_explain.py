import pytest
from pydantic import BaseModel, Field, ValidationError

from yolo9k.config.explain import explain


class Values(BaseModel):
    at_least: int = Field(0, ge=2)
    more: float = Field(1, gt=0.5)
    at_most: float = Field(1, le=1e6)
    less: int = Field(1, lt=9)
    flag: bool = False
    pair: tuple[int, ...] = Field((1,), max_length=2, min_length=1)
    mapping: dict[str, int] = {}
    either: bool | int = 0


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("at_least", 1, "must be at least 2"),
        ("at_least", "x", "must be a whole number"),
        ("at_least", 2.5, "must be a whole number"),
        ("more", 0, "must be more than 0.5"),
        ("more", [], "must be a number"),
        ("at_most", 1e7, "must be at most 1000000"),
        ("less", 9, "must be less than 9"),
        ("flag", "x", "must be true or false"),
        ("pair", 3, "must be a list"),
        ("pair", [1, 2, 3], "must be a list of at most 2 entries"),
        ("pair", [], "must be a list of at least 1 entries"),
        ("mapping", 3, "must be a mapping of keys to values"),
        ("either", "x", "must be true or false or a whole number"),
    ],
)
def test_what_is_allowed(key, value, text):
    with pytest.raises(ValidationError) as caught:
        Values.model_validate({key: value})
    assert explain(Values, caught.value).startswith(f"{key}: {text}, not ")
