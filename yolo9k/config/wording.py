"""What pydantic found wrong with a value, said as what is allowed."""

from collections.abc import Iterable, Mapping
from typing import Any

KINDS = {  # of pydantic's errors, by the beginning of their type
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


def requirement(problems: Iterable[Mapping[str, Any]]) -> str:
    """`must be …` for the problems of one value; several are those of the forms that it may have."""
    allowed = list(dict.fromkeys(_allowed(problem) for problem in problems))
    return f"must be {' or '.join(allowed)}"


def _allowed(problem: Mapping[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in LIMITS:
        words, name = LIMITS[kind]
        return f"{words} {_number(context[name])}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind in ("too_long", "too_short"):
        most = kind == "too_long"
        return f"a list of at {'most' if most else 'least'} {context['max_length' if most else 'min_length']} entries"
    known = next((words for beginning, words in KINDS.items() if kind.startswith(beginning)), None)
    return known or problem["msg"].removeprefix("Input should be ").lower()


def _number(limit: Any) -> str:
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"
