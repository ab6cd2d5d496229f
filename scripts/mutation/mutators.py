"""The mutants of a source file: each differs from it in one node of its syntax tree.

Not mutated: docstrings, texts and error messages, annotations, decorators, imports, and arguments that only check
(`strict=True`) or name a place (`device=`).
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
SWAPPED_NAMES = {
    "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "amin": "amax", "amax": "amin",
    "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor",
    "cummax": "cummin", "ones": "zeros", "zeros": "ones", "ones_like": "zeros_like", "zeros_like": "ones_like",
}  # fmt: skip
REMOVED_METHODS = frozenset(
    ("abs", "clamp", "clip", "clone", "copy", "cumsum", "exp", "log", "round", "sigmoid", "sqrt", "square")
)
KEPT_ARGUMENTS = frozenset(("strict", "device", "track", "encoding"))
SILENT_CALLS = frozenset(("log", "warnings"))  # whose methods only tell


@dataclass(frozen=True)
class Mutant:
    """A change of a file: the `number`-th of its mutants; `before` and `after` show the changed node.

    `lines`: first and last line of the code that a test must run to notice it; `None`: any line of the file.
    """

    path: str
    number: int
    line: int
    before: str
    after: str
    lines: tuple[int, int] | None

    @property
    def change(self) -> str:
        """Return the change as one line."""
        return f"{self.before} -> {self.after}"


@dataclass
class _Place:
    """Where a node is: `parent.field`, or `parent.field[index]`, inside the innermost statement and function."""

    parent: ast.AST
    field: str
    index: int | None
    statement: ast.stmt | None
    function: ast.FunctionDef | None
    in_signature: bool

    def put(self, node: ast.AST | None) -> None:
        """Replace the node at this place; `None` removes it from its list."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        elif node is None:
            del getattr(self.parent, self.field)[self.index]
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a source text, in the order of its lines."""
    found = []
    for number, (node, place, after) in enumerate(_changes(ast.parse(source))):
        line = getattr(node, "lineno", None) or _first_line(place)
        before, changed = (_shown(each, place) for each in (node, after))
        found.append(Mutant(path, number, line, before, changed, _lines(place)))
    return found


def mutated(source: str, number: int) -> str:
    """Return the source text of one of the mutants of `mutants`."""
    tree = ast.parse(source)
    for current, (_, place, after) in enumerate(_changes(tree)):
        if current == number:
            place.put(after)
            return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    raise ValueError(f"no mutant {number}")


def _shown(node: ast.AST | None, place: _Place) -> str:
    if node is None:
        return "nothing"
    if isinstance(node, ast.keyword):
        return f"{node.arg}={ast.unparse(node.value)}"
    if isinstance(node, (ast.If, ast.While)):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    return " ".join(ast.unparse(node).split())


def _first_line(place: _Place) -> int:
    return place.statement.lineno if place.statement is not None else 1


def _lines(place: _Place) -> tuple[int, int] | None:
    """Return the lines of a statement without its body; of a signature, those of its function."""
    if place.in_signature and place.function is not None:
        return place.function.body[0].lineno, place.function.end_lineno or place.function.lineno
    if place.function is None or place.statement is None:
        return None
    first = place.statement.lineno
    body = getattr(place.statement, "body", None)
    return first, max(first, body[0].lineno - 1) if body else place.statement.end_lineno or first


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, _Place, ast.AST | None]]:
    for node, place in _places(tree, None, None, False):
        for after in _replacements(node):
            yield node, place, after


def _places(
    parent: ast.AST, statement: ast.stmt | None, function: ast.FunctionDef | None, in_signature: bool
) -> Iterator[tuple[ast.AST, _Place]]:
    """Yield the nodes that may be mutated, parents first, with their places."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        signature = in_signature or (field == "args" and isinstance(parent, ast.FunctionDef))
        for index, node in list(enumerate(value)) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            own = node if isinstance(node, ast.stmt) else statement
            place = _Place(parent, field, index, own, function, signature)
            yield node, place
            inner = node if isinstance(node, ast.FunctionDef) else function
            yield from _places(node, own, inner, signature)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)):
        return True
    if isinstance(node, ast.FunctionDef):
        return node.name == "__repr__"
    if isinstance(node, ast.keyword):
        return node.arg in KEPT_ARGUMENTS
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _is_silent(node.value))


def _is_silent(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in SILENT_CALLS
    )


def _replacements(node: ast.AST) -> Iterator[ast.AST | None]:
    """Yield the nodes that may replace a node; `None`: nothing."""
    if isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield node.operand
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPPED:
        yield _with(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield _with(node, ops=[SWAPPED[type(node.ops[0])]()])
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, (ast.Break, ast.Continue)):
        yield SWAPPED[type(node)]()
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield None


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Yield the call of the opposite function, and the object of a method without the call."""
    if isinstance(node.func, ast.Name) and node.func.id in SWAPPED_NAMES:
        yield _with(node, func=ast.Name(SWAPPED_NAMES[node.func.id], ast.Load()))
    elif isinstance(node.func, ast.Attribute):
        if node.func.attr in SWAPPED_NAMES:
            yield _with(node, func=_with(node.func, attr=SWAPPED_NAMES[node.func.attr]))
        elif node.func.attr in REMOVED_METHODS and not (
            isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "torch", "math", "F")
        ):
            yield node.func.value


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
