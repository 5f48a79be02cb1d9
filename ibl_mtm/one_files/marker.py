"""How a folder tells that its files are simulated."""

from pathlib import Path

__all__ = ["MARKER", "TRUTH_FOLDER", "is_simulated"]

TRUTH_FOLDER = "true_rates"
MARKER = "simulation.json"


def is_simulated(root: Path) -> bool:
    """Whether a folder's files are of a simulated experiment."""
    return (Path(root) / TRUTH_FOLDER / MARKER).is_file()
