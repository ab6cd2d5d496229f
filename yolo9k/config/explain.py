"""Explain in one line why pydantic refuses a config: the key, what is allowed, the value, and the nearest known key."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from yolo9k.errors import MAX_QUOTED, quote

Problem = Mapping[str, Any]  # an entry of `ValidationError.errors()`
Sections = list[type[BaseModel]]

MAX_KEYS = 4  # shown of a section that was given a plain value

TYPES = {  # what a value must be, by the beginning of the problem's type
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_": "text",
    "tuple_": "a list",
    "list_": "a list",
    "dict_": "a mapping of keys to values",
    "mapping_": "a mapping of keys to values",
    "finite_number": "a finite number",
}
LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return the first problem of a config in one line, and how many more there are.

    An unknown key comes first, since it often causes the others.
    """
    problems = ordered_problems(error)
    alternatives = _alternatives(model, problems)
    places = {id(problem): _place(model, problem) for problem in alternatives}
    problem = max(alternatives, key=lambda each: len(places[id(each)].keys))  # of the form that fits best
    place = places[id(problem)]
    key = quote(".".join(place.keys))[1:-1] or "config"
    more = f" (and {len(problems) - len(alternatives)} more)" if len(problems) > len(alternatives) else ""
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(model, place)}{more}"
    if problem["type"] == "missing":
        return f"{key}: is missing{more}"
    if problem["type"] == "model_type":
        known = list(place.section.model_fields if place.section else ())
        shown = ", ".join(known[:MAX_KEYS]) + (", …" if len(known) > MAX_KEYS else "")
        return f"{key}: must be a section with keys ({shown}), not {quote(problem['input'])}{more}"
    if problem["type"] == "value_error":  # of a key, or of a section, whose message begins with the key in it
        message = problem["msg"].removeprefix("Value error, ")
        prefix = f"{key}: " if place.section is None else f"{key}." if place.keys else ""
        return f"{prefix}{message}{more}"
    same_value = [each for each in alternatives if len(places[id(each)].keys) == len(place.keys)]
    return f"{key}: must be {_requirement(same_value)}, not {quote(problem['input'])}{more}"


def ordered_problems(error: ValidationError) -> list[Problem]:
    """Return the problems, the one to explain first."""
    return sorted(error.errors(include_url=False), key=_rank)


def _rank(problem: Problem) -> int:
    """Rank unknown keys first, and last that a section is not text where text was possible (`data.dataset`)."""
    if problem["type"] == "extra_forbidden":
        return 0
    return 2 if problem["type"] == "string_type" and isinstance(problem["input"], Mapping) else 1


# --- where a problem is


@dataclass(frozen=True)
class _Place:
    """Where a problem is: the user's `keys`, the section there (`None` for a value), its parent, and union branches.

    Pydantic's locations also hold the names of union branches, which no user wrote; `branches` are their indices.
    """

    keys: list[str]
    section: type[BaseModel] | None
    parent: type[BaseModel]
    branches: list[int]


def _place(model: type[BaseModel], problem: Problem) -> _Place:
    """Follow a location through the schema: a part that is no key, list index or mapping key is a union branch."""
    keys: list[str] = []
    branches: list[int] = []
    parent, sections, in_mapping = model, [model], False
    last = len(problem["loc"]) - 1
    for index, part in enumerate(problem["loc"]):
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if isinstance(part, int):
            keys.append(str(part))
        elif in_mapping:
            keys.append(part)
            in_mapping = False
        elif fields:
            keys.append(part)
            parent = sections[0]
            in_mapping = any(_holds_mapping(field.annotation) for field in fields)
            sections = [inner for field in fields for inner in _sections_in(field.annotation, lists=True)]
        elif index == last and problem["type"] == "extra_forbidden":
            keys.append(part)
            parent, sections = sections[0] if sections else parent, []
        else:
            branches.append(index)
            sections = [section for section in sections if section.__name__ == part]
    return _Place(keys, sections[0] if sections else None, parent, branches)


def _alternatives(model: type[BaseModel], problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problem, and those of the other forms (union branches) that its value may have."""
    first, *others = problems
    branches = _place(model, first).branches
    if not branches:
        return [first]
    at = branches[-1]
    same_value = [other for other in others if len(other["loc"]) > at and other["loc"][:at] == first["loc"][:at]]
    return [first, *(other for other in same_value if other["loc"][at] != first["loc"][at])]


def _sections_in(annotation: Any, *, lists: bool) -> Sections:
    """Return the sections that a value may be; with `lists` also those in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if not lists and get_origin(annotation) in (tuple, dict):
        return []
    return [section for inner in get_args(annotation) for section in _sections_in(inner, lists=lists)]


def _holds_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_holds_mapping(inner) for inner in get_args(annotation))


# --- what is allowed


def _nearest(model: type[BaseModel], place: _Place) -> str:
    """Suggest a known key for an unknown one: in its section, else anywhere in the config."""
    prefix = "".join(f"{key}." for key in place.keys[:-1])
    here = [prefix + name for name in place.parent.model_fields]
    everywhere = here + [key for key in _all_keys(model) if key not in here and f"{key}." != prefix]
    near = difflib.get_close_matches(".".join(place.keys)[:MAX_QUOTED], everywhere, n=1)
    same_name = [key for key in everywhere if key.rsplit(".", 1)[-1] == place.keys[-1]]
    best = near or same_name[:1]
    return f"did you mean {best[0]}?" if best else f"allowed are {', '.join(here)}"


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for inner in _sections_in(field.annotation, lists=False):
            keys += _all_keys(inner, f"{prefix}{name}.")
    return keys


def _requirement(problems: Iterable[Problem]) -> str:
    """Return what a value must be; several problems are those of the forms that it may have."""
    return " or ".join(dict.fromkeys(map(_allowed, problems)))


def _allowed(problem: Problem) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in LIMITS:
        words, name = LIMITS[kind]
        limit = context[name]
        return f"{words} {int(limit) if limit == int(limit) else format(limit, 'g')}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "too_long":
        return f"a list of at most {context['max_length']} entries"
    if kind == "too_short":
        return f"a list of at least {context['min_length']} entries"
    known = next((words for beginning, words in TYPES.items() if kind.startswith(beginning)), None)
    return known or problem["msg"].removeprefix("Input should be ").lower()
