"""The public API: what `import ibl_mtm` offers."""

import ast
from pathlib import Path

import pytest

import ibl_mtm

STUB = Path(ibl_mtm.__file__).with_suffix(".pyi")


def test_everything_that_is_promised_is_there() -> None:
    (promised,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
    )
    assert sorted(ibl_mtm.__all__) == dir(ibl_mtm) == sorted(promised)
    assert len(promised) >= 20
    for name in promised:
        assert getattr(ibl_mtm, name) is not None, name


def test_what_is_not_there_is_said_so() -> None:
    with pytest.raises(AttributeError, match=r"ibl_mtm.*open_cash"):
        ibl_mtm.open_cash  # noqa: B018
