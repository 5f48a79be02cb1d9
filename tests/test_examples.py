"""Examples that open modules: they parse, and call what is there with arguments that it takes.

Examples name things that a reader has (`ds`, `run`, `cache`), so that they cannot be run as they
stand; what they call is bound to its signature instead.
"""

import ast
import builtins
import importlib
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ibl_mtm

PACKAGE = Path(ibl_mtm.__file__).parent
MODULES = sorted(
    ".".join(("ibl_mtm", *file.relative_to(PACKAGE).with_suffix("").parts))
    for file in PACKAGE.rglob("*.py")
    if not file.stem.startswith("__")
)


def example(docstring: str) -> str:
    """The code of a docstring: blocks whose first line is code, told by what they are followed by.

    An example is a paragraph in which every line parses as Python together with the others.
    """
    blocks = [textwrap.dedent(b).strip("\n") for b in inspect.cleandoc(docstring).split("\n\n")[1:]]
    return "\n".join(block for block in blocks if _is_code(block))


def _is_code(block: str) -> bool:
    try:
        body = ast.parse(block).body
    except SyntaxError:
        return False
    nodes = [node for statement in body for node in ast.walk(statement)]
    return any(isinstance(node, (ast.Call, ast.Attribute)) for node in nodes)


def offered() -> dict[str, list[Any]]:
    """What modules of the package offer, by name."""
    found: dict[str, list[Any]] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for word in getattr(module, "__all__", ()):
            found.setdefault(word, []).append(getattr(module, word))
    return found


def wrong_calls(code: str, module: ModuleType, others: dict[str, list[Any]]) -> Iterator[str]:
    """Calls that would not bind: of the module's own names, or of those of other modules.

    Of what a class or a function with a known type returned, attributes are looked up as well.
    """
    tree = ast.parse(code)
    defined: dict[str, list[Any]] = {}  # what the example itself gives a name to, by its types

    def candidates(name: str) -> list[Any] | None:
        if name in defined:
            return defined[name]
        if name in READERS_OWN or hasattr(builtins, name):
            return []
        if name in getattr(module, "__all__", ()):
            return [getattr(module, name)]
        return others.get(name)

    for node in ast.walk(tree):
        for name in _bound(node):
            defined.setdefault(name, [])
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func)):
                kinds = [_returned(found) for found in _found(candidates, func)]
                defined[name] = [kind for kind in kinds if kind is not None]
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func):
                called = _found(candidates, func)
                if isinstance(func, ast.Name) and func.id in defined:  # an instance
                    kinds = [kind for kind in called if inspect.isclass(kind)]
                    called = [vars(kind).get("__call__") for kind in kinds]
                problems = [_unbound(found, node) for found in called]
                if problems and all(problems):
                    yield f"{ast.unparse(node)}: {problems[0]}"
                if isinstance(func, ast.Name) and candidates(func.id) is None:
                    yield f"{func.id}: no module offers it"
            case ast.Attribute(value=ast.Name(id=name), attr=part):
                kinds = candidates(name) or []
                if kinds and not any(_has(kind, part) for kind in kinds):
                    yield f"{ast.unparse(node)}: no {part}"


def _bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.arg(arg=name):
            yield name


def _found(candidates: Callable[[str], list[Any] | None], func: ast.expr) -> list[Any]:
    """What a name, or an attribute of one, may be; nothing where that is not known."""
    match func:
        case ast.Name(id=name):
            return candidates(name) or []
        case ast.Attribute(value=inner, attr=part):
            return [
                getattr(kind, part) for kind in _found(candidates, inner) if hasattr(kind, part)
            ]
    return []


def _returned(found: Any) -> Any:
    """The class that a call gives, if it is one of the package's."""
    if inspect.isclass(found):
        return found
    try:
        kind = typing.get_type_hints(found).get("return")
    except (NameError, TypeError):
        return None
    ours = inspect.isclass(kind) and kind.__module__.startswith("ibl_mtm")
    return kind if ours else None


def _has(kind: Any, part: str) -> bool:
    if hasattr(kind, part) or not inspect.isclass(kind):
        return hasattr(kind, part)
    parents = [parent for parent in kind.__mro__ if parent.__module__.startswith("ibl_mtm")]
    known = set().union(*(getattr(parent, "__annotations__", {}) for parent in parents))
    return part in known or any(f"self.{part}" in inspect.getsource(parent) for parent in parents)


def _unbound(found: Any, call: ast.Call) -> str | None:
    if not callable(found) or any(
        isinstance(part, ast.Starred) or (isinstance(part, ast.Constant) and part.value is ...)
        for part in call.args
    ):
        return None
    signature = inspect.signature(found)
    given: list[None] = [None for _ in call.args]
    first = next(iter(signature.parameters), "")
    if first == "self":  # a method, looked up in its class
        given = [None, *given]
    try:
        signature.bind(*given, **{word.arg: None for word in call.keywords if word.arg})
    except TypeError as error:
        return str(error)
    return None


#: What a reader of an example has of their own.
READERS_OWN = {"Path", "One", "closing", "ask", "model"}


@pytest.fixture(scope="module")
def others() -> dict[str, list[Any]]:
    return offered()


@pytest.mark.parametrize("name", MODULES)
def test_the_example_that_opens_a_module_calls_what_is_there(name: str, others: dict) -> None:
    module = importlib.import_module(name)
    assert list(wrong_calls(example(module.__doc__ or ""), module, others)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "psth(ds, 'unit', 'title', 3)",
        "psth(ds, bye='choice')",
        "psht(ds)",
        "cache = open_cache('x')\ncache.were('n_units > 3')",
        "cache = open_cache('x')\ncache.where()",
    ],
)
def test_a_wrong_example_is_noticed(wrong: str, others: dict) -> None:
    module = importlib.import_module("ibl_mtm.cache.queries")
    assert list(wrong_calls(wrong, module, others))


def test_examples_are_found() -> None:
    found = [n for n in MODULES if example(importlib.import_module(n).__doc__ or "")]
    assert len(found) > 90
