"""What to call the activity tasks, wherever one is named to people.

TASK_TITLES["co_smoothing"], in_text("wheel_speed")      # "Co-smoothing", "wheel speed"
"""

__all__ = ["TASK_TITLES", "UNIT_TITLES", "in_text"]

TASK_TITLES = {
    "co_smoothing": "Co-smoothing",
    "forward_prediction": "Forward prediction",
    "intra_region": "Intra-region",
    "inter_region": "Inter-region",
}
"""The activity tasks, in the order of tables."""

UNIT_TITLES = {**TASK_TITLES, "encoding": "From behaviour"}
"""Those that are scored in bits/spike: what models of behaviour predict from it is one too."""


def in_text(task: str) -> str:
    """A task's name within a line; of a behaviour too."""
    return TASK_TITLES.get(task, task.replace("_", " ")).lower()
