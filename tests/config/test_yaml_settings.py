"""Settings files: inheritance, overrides, and errors that name the file, the line and the key."""

import pytest
from pydantic import Field, model_validator

from ibl_mtm.config.yaml_settings import Settings, read_settings
from ibl_mtm.errors import UserError


class Inner(Settings):
    depth: int = 1
    names: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _deep_enough(self):
        if len(self.names) > self.depth:
            raise ValueError("more names than depth")
        return self


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
        ("base: none.yaml\n", "none.yaml: No such file, and no shipped configuration"),
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


def test_values_that_do_not_go_together_are_blamed_on_those_that_were_given_last(write):
    path = write("rate: 1\ninner:\n  depth: 2\n")
    for overrides, told in [
        (["inner.names=[a, b, c]"], "'inner.names=[a, b, c]': inner: more names than depth"),
        (
            ["inner.depth=0", "rate=2", "inner.names=[a]"],
            "'inner.depth=0', 'inner.names=[a]': inner",
        ),
    ]:
        with pytest.raises(UserError) as error:
            read_settings(path, Outer, overrides)
        assert str(error.value).startswith(told)
    path = write("inner:\n  names: [a, b]\n")
    with pytest.raises(UserError, match=r"config.yaml, line 1: inner: more names than depth"):
        read_settings(path, Outer, ["rate=2"])


def test_an_override_is_to_blame_for_itself(write):
    """Not the line of a shipped file, which says something else."""
    path = write("rate: 1\ninner:\n  depth: 3\n  names: [a]\n")
    for override, told in [
        ("rate=fast", "'rate=fast': rate: input should be a valid number"),
        ("inner.depth=x", "'inner.depth=x': inner.depth: input should be a valid integer"),
        ("inner={deph: 3}", "'inner={deph: 3}': unknown key 'inner.deph'"),
        ("rate=.nan", "'rate=.nan': rate: input should be a finite number"),
    ]:
        with pytest.raises(UserError) as error:
            read_settings(path, Outer, [override])
        assert str(error.value).startswith(told)
    with pytest.raises(UserError, match="line 3"):
        read_settings(write("rate: 1\ninner:\n  depth: x\n"), Outer, ["rate=2"])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "config.yaml"
    path.write_bytes("rate: 1  # Größe\n".encode(encoding))
    with pytest.raises(UserError, match=r"config\.yaml: not UTF-8 \(byte 0x.. at \d+\)"):
        read_settings(path, Outer)
    path.write_bytes("\ufeffrate: 2  # Größe\r\n".encode())
    assert read_settings(path, Outer).rate == 2
