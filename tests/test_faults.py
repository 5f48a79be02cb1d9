"""What `tools/mutants.py` draws: faults of expressions, and none that nothing follows from."""

import ast
import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import faults

SOURCE = """
_BLOCK = 7
LIMIT = 7
def tell(x, log):
    log.info(1 + 2)
    rows = x.reshape(-1, 3).sum()
    last = x[-1]
    pairs = x.reshape((5, -1))
    if last > LIMIT:
        raise ValueError(9 - 8)
    return rows, pairs
async def told() -> int | None:
    return LIMIT
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    file = tmp_path / "ibl_mtm" / "room" / "module.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    return file


def test_what_is_drawn(module):
    """Neither an amount of work, nor what is logged or raised, nor types; of a reshape no sign."""
    found = list(faults.faults_of(module))
    assert {(fault.line, fault.kind) for fault in found} == {
        (3, "7 -> 8"),
        (6, "3 -> 4"),
        (7, "1 -> 2"),
        (8, "5 -> 6"),
        (9, "condition inverted"),
        (9, "Gt -> GtE"),
    }
    assert {fault.room for fault in found} == {"room"}


def test_a_fault_changes_its_line_alone(module):
    clean = ast.unparse(ast.parse(SOURCE)).splitlines()
    changed = {}
    for fault in faults.faults_of(module):
        spoilt = faults.spoilt(fault, SOURCE).splitlines()
        assert len(spoilt) == len(clean)
        (changed[fault.line, fault.kind],) = set(spoilt) - set(clean)
    assert changed[6, "3 -> 4"] == "    rows = x.reshape(-1, 4).sum()"
    assert changed[9, "condition inverted"] == "    if not last > LIMIT:"
    assert len(changed) == 6


def test_what_is_said_to_change_nothing_stands_in_the_package():
    """With its reason below it, or the list has grown stale."""
    told = faults.equivalent_faults()
    files = {faults.ROOT / line.partition(": ")[0] for line in told}
    assert told <= {fault.told for file in files for fault in faults.faults_of(file)}
    lines = (faults.ROOT / "tools" / "equivalent_faults.txt").read_text().splitlines()
    reasons = [after for line, after in itertools.pairwise(lines) if line in told]
    assert len(reasons) == len(told)
    assert all(reason.startswith("    ") for reason in reasons)
