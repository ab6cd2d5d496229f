"""The base class of config sections and the types of their values."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

STRIDE = 32  # pixels per grid cell of every model but Darknet cfgs
LARGEST_SIDE = 8192  # pixels; larger inputs fill the memory of most machines
SIZE = re.compile(r"\s*([0-9]{1,9})\s*(?:[xX]\s*([0-9]{1,9})\s*)?")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=1e-3, le=1e3)]  # of an image's size; beyond, no pixel is left or one fills all
Epochs = Annotated[float, Field(gt=0, le=1e9)]
Steps = Annotated[int, Field(ge=1, le=10**15)]  # products of both with the size of a data set stay exact
Workers = Literal["auto"] | Annotated[int, Field(ge=0, le=512)]  # each is a process


class Section(BaseModel):
    """Base class of config sections: frozen, without unknown keys."""

    # a number is accepted as text: device `0`, label `7`
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` for a number, which pydantic would read as 1."""
        if isinstance(value, bool):
            allowed = _types_in(cls.model_fields[str(info.field_name)].annotation)
            if bool not in allowed and allowed & {int, float}:
                raise ValueError(f"must be a number, not {str(value).lower()}")
        return value


def _types_in(annotation: Any) -> set[Any]:
    """Return the plain types that a value may have, of all branches of a union."""
    return {annotation} if isinstance(annotation, type) else set().union(*map(_types_in, get_args(annotation)))


def as_size(value: object) -> object:
    """Convert 416 or "512x384" to (width, height); other values are left to pydantic."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str):
        match = SIZE.fullmatch(value)
        if match:
            return int(match[1]), int(match[2] or match[1])
        raise ValueError("must be N or WIDTHxHEIGHT")
    return value


SizeWH = Annotated[tuple[int, int], BeforeValidator(as_size)]


def _one_name_each(transforms: tuple[dict[str, dict[str, object]], ...]) -> tuple[dict[str, dict[str, object]], ...]:
    if any(len(transform) != 1 for transform in transforms):
        raise ValueError("each entry must be one name with its arguments, for example {GaussianBlur: {p: 0.1}}")
    return transforms


# albumentations transforms, each {NAME: {ARGUMENT: VALUE}}
Transforms = Annotated[tuple[dict[str, dict[str, object]], ...], AfterValidator(_one_name_each)]


def check_size(key: str, size: SizeWH, stride: int) -> None:
    """Raise `ValueError` if `size` is not allowed for `key`."""
    if max(size) > LARGEST_SIDE:
        raise ValueError(f"{key}: width and height must be at most {LARGEST_SIDE}, not {size[0]}x{size[1]}")
    if any(side < stride or side % stride for side in size):
        needed = f"multiples of {stride}" if stride > 1 else "at least 1"
        raise ValueError(f"{key}: width and height must be {needed}, not {size[0]}x{size[1]}")
