"""Settings: pydantic models read from YAML, with errors that name the file, the line and the key.

    class Training(Settings):
        steps: int = 1000

    read_settings(Path("config.yaml"), Training, overrides=["steps=200"])

A file may inherit from another one through the single key ``base:`` (a path relative to it, or the
name of a shipped configuration); its own keys win, mappings are merged, everything else is
replaced.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ibl_mtm.errors import UserError

__all__ = [
    "Places",
    "Settings",
    "find_shipped",
    "read_located",
    "read_settings",
    "settings_of",
    "shipped",
    "validate_settings",
]

Key = tuple[str | int, ...]
#: Where each key was given: a line of a file, or an override.
Places = dict[Key, str]
#: Keys of which a file or override that gives one drops the other.
Alternatives = tuple[tuple[str, str], ...]


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    #: Pairs of keys that say the same thing in two ways: what is given later counts.
    alternatives: ClassVar[Alternatives] = ()


S = TypeVar("S", bound=Settings)


def read_settings(path: Path, model: type[S], overrides: Iterable[str] = ()) -> S:
    """Read a YAML file (and the ones it is based on), apply ``KEY=VALUE`` overrides, validate.

    Parameters
    ----------
    path
        A YAML file that holds one mapping.
    model
        The settings that it must fit.
    overrides
        Strings ``key.subkey=value``; the value is read as YAML.

    Raises
    ------
    UserError
        Names the file, the line and the key that do not fit, and what would.
    """
    return read_located(path, model, overrides)[0]


def read_located(path: Path, model: type[S], overrides: Iterable[str] = ()) -> tuple[S, Places]:
    """The same, and where each key was given."""
    values, places = _read_yaml(path, (), model.alternatives)
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"'{override}' is no setting: write KEY=VALUE, for example seed=1")
        keys = key.split(".")
        value = _parse_value(override, text)
        _assign(given, keys, value, override)
        _drop_alternative(values, {keys[0]: value}, model.alternatives)
        _assign(values, keys, value, override)
        # The command line is to blame now, not the line of a file that says something else.
        places = {k: place for k, place in places.items() if k[: len(keys)] != tuple(keys)}
        places[tuple(keys)] = f"'{override}'"
    _refuse_both(given, model.alternatives, "the command line")
    return validate_settings(values, model, str(path), places), places


def settings_of(values: Mapping[str, Any], model: type[S]) -> S:
    """Settings from a mapping as a file would hold it: nested, with a ``base`` if it has one.

    Raises
    ------
    UserError
        Names the key that does not fit, or the base that is not there.
    """
    own = dict(values)
    where = "the given settings"
    if (base := own.pop("base", None)) is None:
        return validate_settings(own, model, where)
    file = _find_base(Path("settings"), str(base), where)
    inherited, places = _read_yaml(file, (), model.alternatives)
    _drop_alternative(inherited, own, model.alternatives)
    return validate_settings(_merge(inherited, own), model, where, places)


def validate_settings(
    values: Mapping[str, Any], model: type[S], where: str, places: Places | None = None
) -> S:
    """Fit a mapping to a settings model; `where` (and `places`) locate what does not fit."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        unknown = [p for p in problems if p["type"] == "extra_forbidden"]
        first = (unknown or problems)[0]
        message = _explain(first, model, where, places or {})
        more = len(problems) - 1
        raise UserError(message + (f" (and {more} more)" if more else "")) from None


def find_shipped(name: str, *, start: Path | None = None) -> Path:
    """Find a file of the project: from the working directory upwards, else the installed copy.

    Parameters
    ----------
    name
        A relative path, such as ``data_catalog.yaml`` or ``pipelines/configs/mtm_small.yaml``.
    start
        Where the search begins; by default the working directory.

    Raises
    ------
    UserError
        If there is no such file in either place.
    """
    start = Path.cwd() if start is None else start
    package = Path(__file__).parents[1]
    # An editable install has no copy inside the package: its files are the checkout's own.
    for folder in (start, *start.parents, package / "_shipped", package.parent):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"no file '{name}' here, in a folder above, or in the installed package")


def shipped(name: str) -> Path:
    """A file of the project as it is installed, whatever the working directory."""
    package = Path(__file__).parents[1]
    copy = package / "_shipped" / name
    return copy if copy.is_file() else package.parent / name


def _read_yaml(
    path: Path, children: tuple[Path, ...], alternatives: Alternatives
) -> tuple[dict[str, Any], Places]:
    path = Path(path)
    if path.resolve() in children:
        raise UserError(f"{path}: 'base' leads back to the file itself")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}: not UTF-8 (byte 0x{byte:02x} at {error.start}); save it as UTF-8"
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(f"{path}{line}: {problem}") from None
    if values is None:
        values, node = {}, None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values at the top level")
    places: Places = {}
    if node is not None:
        _collect_places(node, (), path, places)
    base = values.pop("base", None)
    if base is None:
        return values, places
    if not isinstance(base, str):
        raise UserError(f"{places[('base',)]}: 'base' must be the path of a file")
    file = _find_base(path, base, places[("base",)])
    inherited, inherited_places = _read_yaml(file, (*children, path.resolve()), alternatives)
    _drop_alternative(inherited, values, alternatives)
    return _merge(inherited, values), inherited_places | places


def _find_base(path: Path, base: str, place: str) -> Path:
    """The file that another one is based on: beside it, or one of the shipped configurations."""
    beside = path.parent / Path(base).expanduser()
    if beside.is_file():
        return beside
    try:
        return find_shipped(f"pipelines/configs/{Path(base).with_suffix('.yaml').name}")
    except UserError:
        raise UserError(
            f"{place}: base: {beside}: No such file, and no shipped configuration '{base}'"
        ) from None


def _drop_alternative(
    before: dict[str, Any], now: Mapping[str, Any], alternatives: Alternatives
) -> None:
    for pair in alternatives:
        for key, other in (pair, pair[::-1]):
            if now.get(key) is not None and now.get(other) is None:
                before.pop(other, None)


def _refuse_both(values: Mapping[str, Any], alternatives: Alternatives, where: str) -> None:
    for a, b in alternatives:
        if values.get(a) is not None and values.get(b) is not None:
            raise UserError(f"{where} gives both {a} and {b}, of which one follows; give one")


def _collect_places(node: yaml.Node, key: Key, path: Path, places: Places) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for name, value in node.value:
            if name.value in seen:
                raise UserError(
                    f"{path}, line {name.start_mark.line + 1}: '{name.value}' stands here twice"
                )
            seen.add(name.value)
            places[(*key, name.value)] = f"{path}, line {name.start_mark.line + 1}"
            _collect_places(value, (*key, name.value), path, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[(*key, index)] = f"{path}, line {value.start_mark.line + 1}"
            _collect_places(value, (*key, index), path, places)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _parse_value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"'{override}': the value is not readable as YAML") from None


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UserError(f"'{override}': '{key}' is a single value and has no keys below it")
    values[keys[-1]] = value


def _explain(problem: Any, model: type[BaseModel], where: str, places: Places) -> str:
    location: Key = problem["loc"]
    # A discriminated union puts its tag into the location, which the file does not have.
    for end in range(len(location), 0, -1):
        known = [key for key in places if _is_subsequence(key, location[:end])]
        if known:
            where = places[max(known, key=len)]
            break
    # Values that do not go together: those that were given on the command line are to blame.
    given = [
        place
        for key, place in places.items()
        if len(key) > len(location) > 0 and key[: len(location)] == location and place[0] == "'"
    ]
    where = ", ".join(given) or where
    name = ".".join(map(str, location))
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        of = f"{name}: " if name else ""
        return f"{where}: {of}{message[:1].lower()}{message[1:]}"
    allowed = _fields_at(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(sorted(allowed))}"
    return f"{where}: unknown key '{name}'; {hint}"


def _is_subsequence(short: Key, long: Key) -> bool:
    rest = iter(long)
    return bool(short) and short[0] == long[0] and all(part in rest for part in short)


def _fields_at(model: type[BaseModel], location: Key) -> list[str]:
    """Names of the keys that are allowed at a location of an error."""
    found: list[type[BaseModel]] = [model]
    for part in location:
        below: list[type[BaseModel]] = []
        for candidate in found:
            field = candidate.model_fields.get(str(part))
            below += _models_in(field.annotation) if field else []
        # Tags of unions and keys of mappings are no fields: stay where we are.
        found = below or found
        tagged = [m for m in found if "kind" in m.model_fields and _kind_of(m) == part]
        found = tagged or found
    return sorted({name for m in found for name in m.model_fields})


def _kind_of(model: type[BaseModel]) -> Any:
    arguments = getattr(model.model_fields["kind"].annotation, "__args__", (None,))
    return arguments[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]
