"""Settings as they are resolved: each with where it comes from, and their JSON Schema.

for key, value, place in explain_settings(Path("mine.yaml"), RunSettings, ["seed=1"]):
    ...                                   # ("seed",), 1, "'seed=1'"
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from ibl_mtm.config.yaml_settings import Settings, read_located

__all__ = ["DEFAULT", "explain_settings", "explained_yaml", "headline", "settings_schema"]

DEFAULT = "default"
"""Where a setting comes from that nobody gave."""

#: Columns that a line of YAML has before its comment.
_COMMENT_AT = 44
#: A line with a list that is longer has an item a line instead.
_LONG_LIST = 60


def explain_settings(
    path: Path, model: type[Settings], overrides: Iterable[str] = ()
) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Every setting of a file, those of its bases, overrides and defaults included.

    Parameters
    ----------
    path, model, overrides
        As for `read_settings`.

    Yields
    ------
    Its key, its value as plain Python, and where it comes from: the name of a file and the line, an
    override, or `DEFAULT`.

    Raises
    ------
    UserError
        As `read_settings` does.
    """
    settings, places = read_located(path, model, overrides)

    def place(key: tuple[str, ...]) -> str:
        # A list, or a mapping given whole by an override, has one place for all that it holds.
        known = (places.get(key[:n]) for n in range(len(key), 0, -1))
        # That of a section tells where the section begins, and nothing of a key it does not give.
        found = places.get(key) or next((p for p in known if p and p.startswith("'")), None)
        if found is None:
            return DEFAULT
        file, line, number = found.rpartition(", line ")
        return f"{Path(file).name}{line}{number}" if line else found

    def walk(values: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Any]:
        for name, value in values.items():
            key = (*above, str(name))
            if isinstance(value, Mapping) and value:
                yield from walk(value, key)
            else:
                yield key, value, place(key)

    yield from walk(settings.model_dump(mode="json"), ())


def explained_yaml(settings: Iterable[tuple[tuple[str, ...], Any, str]]) -> str:
    """What `explain_settings` tells, as YAML that can be read again, places as comments."""
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for key, value, place in settings:
        shared = 0
        while shared < len(key) - 1 and key[: shared + 1] == before[: shared + 1]:
            shared += 1
        lines += [f"{'  ' * depth}{key[depth]}:" for depth in range(shared, len(key) - 1)]
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
        text = text.removesuffix("\n...").removesuffix("...").strip()
        line = f"{'  ' * (len(key) - 1)}{key[-1]}: {text}"
        items: list[str] = []
        if isinstance(value, list | tuple) and len(line) > _LONG_LIST:
            line = f"{'  ' * (len(key) - 1)}{key[-1]}:"
            dumped = yaml.safe_dump(list(value), default_flow_style=False)
            items = [f"{'  ' * len(key)}{item}" for item in dumped.splitlines()]
        lines += [f"{line:{_COMMENT_AT - 1}} # {place}", *items]
        before = key
    return "\n".join(lines) + "\n"


def headline(file: Path) -> str:
    """The first sentence of the comment that a file opens with."""
    lines = takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(". ")[0].rstrip(".")


def settings_schema(model: type[Settings], title: str) -> dict[str, Any]:
    """JSON Schema of a file of settings, for editors that complete and check YAML."""
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = title
    schema["properties"]["base"] = {
        "type": "string",
        "description": "A file beside this one, or a shipped one, whose settings these change.",
    }
    # With a base, none has to be given.
    schema.pop("required", None)
    return schema
