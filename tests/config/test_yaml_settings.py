"""Settings files: inheritance, overrides, and errors that name the file, the line and the key."""

import pytest
from pydantic import Field

from ibl_mtm.config.yaml_settings import Settings, read_settings
from ibl_mtm.errors import UserError


class Inner(Settings):
    depth: int = 1
    names: list[str] = Field(default_factory=list)


class Outer(Settings):
    inner: Inner = Inner()
    parts: dict[str, Inner] = Field(default_factory=dict)
    rate: float = 0.1


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_defaults_files_and_overrides(write):
    path = write("inner:\n  depth: 3\n")
    assert read_settings(path, Outer) == Outer(inner=Inner(depth=3))
    overridden = read_settings(path, Outer, ["inner.depth=4", "rate=2e-1", "inner.names=[a, b]"])
    assert overridden == Outer(inner=Inner(depth=4, names=["a", "b"]), rate=0.2)


def test_a_file_inherits_through_its_base(write):
    write("inner: {depth: 3, names: [a]}\nrate: 0.5\n", "base.yaml")
    path = write("base: base.yaml\ninner: {names: [b]}\n")
    assert read_settings(path, Outer) == Outer(inner=Inner(depth=3, names=["b"]), rate=0.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inner:\n  detph: 3\n", "line 2: unknown key 'inner.detph'; did you mean 'depth'?"),
        ("colour: red\n", "line 1: unknown key 'colour'; known keys: inner, parts, rate"),
        ("rate: 1\nparts:\n  a:\n    deep: 1\n", "line 4: unknown key 'parts.a.deep'"),
        ("inner:\n  depth: x\n", "line 2: inner.depth: input should be a valid integer"),
        ("rate: 1\nrate: 2\n", "line 2: 'rate' stands here twice"),
        ("rate: [1\n", "line 2: "),
        ("- 1\n", "expected a mapping"),
        ("base: config.yaml\n", "leads back to the file itself"),
        ("base: none.yaml\n", "none.yaml: No such file"),
    ],
)
def test_what_does_not_fit_is_named(write, text, told):
    path = write(text)
    with pytest.raises(UserError) as error:
        read_settings(path, Outer)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_line_of_an_inherited_key_is_the_bases(write):
    write("rate: 1\ninner: {deepth: 2}\n", "base.yaml")
    with pytest.raises(UserError, match=r"base\.yaml, line 2: unknown key 'inner\.deepth'"):
        read_settings(write("base: base.yaml\n"), Outer)


@pytest.mark.parametrize("override", ["rate", "=3", "rate=[", "rate.deep=1", "ratee=1"])
def test_overrides_that_do_not_fit_are_named(write, override):
    with pytest.raises(UserError) as error:
        read_settings(write("rate: 1\n"), Outer, [override])
    assert override.partition("=")[0] in str(error.value)
