"""The plan of the house: arrows between rooms go downwards, and no room is too full."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import ibl_mtm

PACKAGE = Path(ibl_mtm.__file__).parent

#: From the cellar to the roof. A room may use those below it, not those beside it or above.
FLOORS = (
    ("errors", "_provenance", "logs"),
    ("config", "disk"),
    ("sessions",),
    ("one_files", "brainsets"),
    ("cache", "model", "simulate"),
    ("ingest", "training"),
    ("evaluation",),
    ("benchmark",),
    ("report",),
    ("experiments", "plot"),
    ("cli",),
)
#: The same within ingestion, whose kinds of source must not know who asks them. A name of a
#: sub-room stands for all that is in it.
INGEST = (
    ("outcome", "recording", "retry", "targets"),
    ("on_disk",),
    ("alyx", "brainsets", "bulk"),
    ("brainsets", "bulk"),
    ("own",),
    ("sources",),
    ("job",),
    ("add_session",),
    ("cluster",),
    ("run",),
    ("ingest_dataset",),
)
MOST_LINES, MOST_FILES = 2500, 16

Arrow = tuple[str, str]


def arrows(package: Path, *, types: bool = True) -> Iterator[Arrow]:
    """Every import of the package within itself, wherever it stands: from which module, of which.

    Names of modules lack the package's own. Without `types` what stands under TYPE_CHECKING is
    passed over.
    """
    for file in sorted(package.rglob("*.py")):
        module = file.relative_to(package).with_suffix("")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        passed_over = {
            inner
            for node in ast.walk(tree)
            if not types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            names = []
            if node in passed_over:
                continue
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports name their module in full"
                assert node.module is not None
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                first, *rest = name.split(".")
                if first == package.name:
                    yield ".".join(module.parts), ".".join(rest)


def wrong_arrows(
    found: Iterator[Arrow], floors: tuple[tuple[str, ...], ...] = FLOORS
) -> list[Arrow]:
    """Those that do not lead downwards. The package's own `__init__` may import anything."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    wrong = []
    for user, used in found:
        a, b = user.split(".")[0], used.split(".")[0]
        if a not in ("__init__", b) and floor[a] <= floor.get(b, len(FLOORS)):
            wrong.append((user, used))
    return wrong


def test_arrows_between_rooms_go_downwards() -> None:
    found = list(arrows(PACKAGE))
    assert len(found) > 300
    assert wrong_arrows(iter(found)) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cache/a.py", "from ibl_mtm.training.run import train"),
        ("training/a.py", "def f():\n    from ibl_mtm.ingest import run"),  # a neighbour
        ("sessions/a.py", "import ibl_mtm"),  # the front door
        ("sessions/a.py", "from ibl_mtm import open_cache"),
        ("errors.py", "from ibl_mtm import _provenance"),
    ],
)
def test_an_arrow_upwards_is_noticed(tmp_path: Path, file: str, source: str) -> None:
    room = tmp_path / "ibl_mtm"
    (room / file).parent.mkdir(parents=True)
    (room / file).write_text(source)
    assert len(wrong_arrows(arrows(room))) == 1


def within(room: str) -> Iterator[Arrow]:
    """The arrows within a room, between what its floors name."""
    named = {name for names in INGEST for name in names}
    for user, used in arrows(PACKAGE):
        (a, *inner), (b, *other) = user.split("."), used.split(".")
        if a == b == room and inner[0] in named and other[0] in named:
            yield ".".join(inner), ".".join(other)


def test_arrows_within_ingestion_go_downwards() -> None:
    found = list(within("ingest"))
    assert len(found) > 30
    assert wrong_arrows(iter(found), INGEST) == []
    assert wrong_arrows(iter([("alyx.a", "sources.local.find")]), INGEST) != []


def test_no_module_needs_itself_by_a_detour() -> None:
    """What is imported for types alone does not count."""
    modules = {
        ".".join(f.relative_to(PACKAGE).with_suffix("").parts) for f in PACKAGE.rglob("*.py")
    }
    needs: dict[str, set[str]] = {}
    for user, used in arrows(PACKAGE, types=False):
        target = used if used in modules else used.rpartition(".")[0]
        if target in modules:
            needs.setdefault(user, set()).add(target)
    assert len(needs) > 100
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the cycle


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms == {room for rooms in FLOORS for room in rooms}
    assert all(below.isdisjoint(above) for below, above in pairwise(map(set, FLOORS)))


def test_no_room_is_too_full() -> None:
    full = []
    for room in {file.parent for file in PACKAGE.rglob("*.py")}:
        files = [file for file in room.glob("*.py") if file.stem != "__init__"]
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
        if lines > MOST_LINES or len(files) > MOST_FILES:
            full.append((room.name, lines, len(files)))
    assert full == []


def test_sources_that_need_no_one_do_without() -> None:
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        "for name in ('brainsets.load_file', 'bulk.load_release', 'job'):\n"
        "    import_module(f'ibl_mtm.ingest.{name}')\n"
        "    print(name, {'one', 'brainbox'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [line.split(" ", 1)[1] for line in done.stdout.splitlines()]
    assert found == ["set()"] * 3, done.stdout


def test_no_name_of_a_file_stands_three_times() -> None:
    names = [file.name for file in PACKAGE.rglob("*.py") if not file.stem.startswith("__")]
    assert [name for name in set(names) if names.count(name) > 2] == []


def test_no_two_files_of_tests_have_one_name() -> None:
    """Or pytest cannot collect them together."""
    names = [file.name for file in Path(__file__).parent.rglob("test_*.py")]
    assert [name for name in set(names) if names.count(name) > 1] == []
