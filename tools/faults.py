"""What can be wrong with a module: every single fault of one expression or statement.

faults = list(faults_of(Path("ibl_mtm/model/masking.py")))
text = spoilt(faults[0], Path("ibl_mtm/model/masking.py").read_text())
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Fault", "faults_of", "runs_at_import", "spoilt"]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """A change of one node of a module's syntax tree, by its position in `ast.walk`."""

    file: str
    node: int
    kind: str
    line: int
    text: str

    @property
    def room(self) -> str:
        """The room of the package that it is in."""
        return Path(self.file).parts[1]

    @property
    def told(self) -> str:
        """What it is, wherever its line has moved to."""
        return f"{self.file}: {self.kind}: {self.text}"


def equivalent_faults() -> set[str]:
    """Those that are known to change nothing, as `Fault.told` tells them."""
    lines = (ROOT / "tools" / "equivalent_faults.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and line[0] not in "# "}


COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
              ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
NAMES = {"min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "any": "all",
         "all": "any", "floor": "ceil", "ceil": "floor", "cumsum": "cumprod", "mean": "sum",
         "median": "mean", "std": "var", "nanmean": "nansum"}  # fmt: skip
SPLITS = {"train": "val", "val": "test", "test": "val", "fit": "test"}


def change(node: ast.AST) -> tuple[str, Callable[[], None]] | None:
    """What can be wrong with a node, and how to make it so."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            other = COMPARISONS[type(op)]
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(
                node, "ops", [other()]
            )
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not _is_text(node):
            other = ARITHMETIC[type(op)]
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(node, "op", other())
        case ast.BoolOp(op=op):
            other = ast.Or if isinstance(op, ast.And) else ast.And
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(node, "op", other())
        case ast.Constant(value=bool() as value):
            return f"{value} -> {not value}", lambda: setattr(node, "value", not value)
        case ast.Constant(value=int() as value):
            return f"{value} -> {value + 1}", lambda: setattr(node, "value", value + 1)
        case ast.Constant(value=float() as value):
            return f"{value} -> {2 * value + 1}", lambda: setattr(node, "value", 2 * value + 1)
        case ast.Constant(value=str() as value) if value in SPLITS:
            other_split = SPLITS[value]
            return f"'{value}' -> '{other_split}'", lambda: setattr(node, "value", other_split)
        case ast.If(test=test) | ast.IfExp(test=test):
            return "condition inverted", lambda: setattr(node, "test", _not(test))
        case ast.Attribute(attr=name) if name in NAMES:
            return f"{name} -> {NAMES[name]}", lambda: setattr(node, "attr", NAMES[name])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            return f"{name} -> {NAMES[name]}", lambda: setattr(node, "id", NAMES[name])
        case ast.AugAssign():
            return "left out", lambda: setattr(node, "value", _nothing(node.op))
        case ast.Expr(value=ast.Call()):
            return "call left out", lambda: setattr(node, "value", ast.Constant(None))
    return None


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _nothing(op: ast.operator) -> ast.expr:
    """What leaves a value as it is, so that ``x op= it`` does nothing to a number."""
    return ast.Constant(1 if isinstance(op, (ast.Mult, ast.Div, ast.Pow)) else 0)


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(s, (ast.JoinedStr, ast.List, ast.Tuple)) for s in sides) or any(
        isinstance(s, ast.Constant) and isinstance(s.value, str) for s in sides
    )


def faults_of(file: Path) -> Iterator[Fault]:
    """Every fault that can be put into a module; none in what is only said, typed or tuned.

    Nor one that changes nothing: the -1 of a reshape, of which NumPy sees the sign alone.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lines = file.read_text(encoding="utf-8").splitlines()
    passed_over = {id(inner) for node in ast.walk(tree) for inner in _said(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in passed_over:
            continue
        found = change(node)
        if found and isinstance(node, ast.expr | ast.stmt):
            name = file.relative_to(ROOT).as_posix()
            yield Fault(name, number, found[0], node.lineno, lines[node.lineno - 1].strip())


def _said(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that no number follows from: messages, types, names, amounts of work."""
    match node:
        case ast.JoinedStr() | ast.Raise() | ast.Assert():
            yield from ast.walk(node)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log" | "warnings"))):
            yield from ast.walk(node)
        case ast.Expr(value=ast.Call(func=func)) if _is_log(func):
            yield from ast.walk(node)
        case ast.AnnAssign(annotation=part) | ast.arg(annotation=part) if part is not None:
            yield from ast.walk(part)
        case (
            ast.FunctionDef(returns=part, decorator_list=decorators)
            | ast.AsyncFunctionDef(returns=part, decorator_list=decorators)
        ):
            for piece in (*([part] if part else []), *decorators):
                yield from ast.walk(piece)
        case ast.ClassDef(decorator_list=decorators):
            for piece in decorators:
                yield from ast.walk(piece)
        case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("_") and name.isupper():
            yield from ast.walk(node)  # an amount of work or a tolerance of this module alone
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield from ast.walk(node)
        case ast.Call(func=ast.Attribute(attr="reshape"), args=lengths):
            # NumPy takes any negative length for what is left, as it does -1.
            for length in lengths:
                parts = length.elts if isinstance(length, ast.Tuple) else [length]
                yield from (part.operand for part in parts if isinstance(part, ast.UnaryOp))
        case ast.keyword(arg="strict" | "indent", value=value):
            # As an assertion, of lengths that are equal anyway; how a file looks to the eye.
            yield from ast.walk(value)
        case ast.Compare(left=left, ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()]):
            if any(_is_drawn(side) for side in (left, *node.comparators)):
                yield node  # a real number that is drawn never is its limit


def _is_drawn(side: ast.expr) -> bool:
    match side:
        case ast.Call(func=ast.Attribute(attr="rand" | "random" | "uniform")):
            return True
    return False


def _is_log(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and func.attr in {"info", "debug", "warning", "log"}


def runs_at_import(source: str, line: int) -> bool:
    """Whether a line of a module stands in no function's body."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return not any(f.body[0].lineno <= line <= (f.end_lineno or line) for f in functions)


def spoilt(fault: Fault, source: str) -> str:
    """A module's source with the fault in it."""
    tree = ast.parse(source)
    node = next(n for at, n in enumerate(ast.walk(tree)) if at == fault.node)
    found = change(node)
    assert found is not None
    found[1]()
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
