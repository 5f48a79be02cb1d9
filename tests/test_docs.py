"""What the pages say is so: quoted messages exist, and links lead somewhere."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def messages() -> list[str]:
    """Every text in the package's source, with … where a value is filled in."""
    texts = []
    for path in (ROOT / "ibl_mtm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                texts.append("".join(map(str, parts)))
    return texts


def test_every_message_of_the_troubleshooting_page_is_in_the_source() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [found[1] for found in re.findall(r"^### (`+)(.+?)\1$", page, flags=re.M)]
    known = messages()
    assert len(quoted) == page.count("\n### ") >= 25
    # A message may be quoted in part, but not by a single word.
    assert all(len(re.findall(r"\w+", quote)) >= 2 for quote in quoted)
    assert [quote for quote in quoted if not any(quote in text for text in known)] == []


def test_everything_that_the_plan_of_the_house_names_is_there() -> None:
    """Modules and what they offer, as `ibl_mtm.room.module.name`; files, as `tests/….py`."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(ibl_mtm(?:\.\w+)+)`", page)
    assert len(named) > 20
    for name in named:
        parts = name.split(".")
        module = next(
            importlib.import_module(".".join(parts[:n]))
            for n in range(len(parts), 0, -1)
            if find_spec_of(parts[:n])
        )
        rest = name.removeprefix(module.__name__).strip(".")
        assert not rest or hasattr(module, rest), name
    files = re.findall(r"`((?:tests|docs|ibl_mtm)/[\w/.]+)`", page)
    assert [file for file in files if not (ROOT / file).exists()] == []
    rooms = re.findall(r"^\| `(\w+)/` \|", page, flags=re.M)
    assert set(rooms) == {p.parent.name for p in (ROOT / "ibl_mtm").glob("*/__init__.py")}


def find_spec_of(parts: list[str]) -> bool:
    file = ROOT.joinpath(*parts)
    return file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    assert [file for file in files if not (page.parent / file).exists()] == []
