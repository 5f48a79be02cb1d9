"""What the pages say is so: quoted messages exist, and links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    assert [file for file in files if not (page.parent / file).exists()] == []
