"""The benchmark's files on this disk: which recordings there are, opened as a task is defined.

data = BenchmarkData(Path("/data/bwb"))             # holds all_units/ and selected_units/
with data.open(TASKS["ts2-forecasting"], eid) as recording:
    ...
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ibl_mtm.benchmark.tasks import BUILD_OF, Suite, Task
from ibl_mtm.brainsets.layout import BUILDS, Build, Regime, file_of, recordings_in
from ibl_mtm.brainsets.recording import Recording, open_recording
from ibl_mtm.errors import UserError

__all__ = ["BenchmarkData"]


@dataclass(frozen=True)
class BenchmarkData:
    """Files of the benchmark below one folder.

    Attributes
    ----------
    root
        Holds ``BUILD/ibl_brain_wide_bench_2026/REGIME/EID.h5``.
    """

    root: Path

    def __post_init__(self) -> None:
        if not any((self.root / build).is_dir() for build in BUILDS):
            raise UserError(
                f"{self.root} holds none of {', '.join(BUILDS)}: give --data the folder that has "
                "BUILD/ibl_brain_wide_bench_2026/eval/EID.h5 in it"
            )

    @cached_property
    def recordings(self) -> list[str]:
        """Ids of the recordings for evaluation of which there is a file, sorted."""
        return sorted({eid for build in BUILDS for eid in recordings_in(self.root, build, "eval")})

    def choose(self, asked: Sequence[str] | None) -> list[str]:
        """Recordings by id or the beginning of it; all of them if none is asked for.

        Raises
        ------
        UserError
            If one is not there, or the beginning is that of several.
        """
        if not self.recordings:
            raise UserError(f"{self.root} holds no recording for evaluation (no eval/EID.h5)")
        found = []
        for name in asked or self.recordings:
            fits = [eid for eid in self.recordings if eid.startswith(name)]
            if len(fits) != 1:
                what = f"{len(fits)} recordings begin so" if fits else "no such recording"
                raise UserError(f"--session {name}: {what} in {self.root}")
            found.append(fits[0])
        return sorted(set(found))

    @contextmanager
    def open(self, task: Task | Suite, eid: str, regime: Regime = "eval") -> Iterator[Recording]:
        """Open a recording in the build that a task is defined on.

        Raises
        ------
        SessionError
            If it is missing, damaged, or of another build or regime than its folder says.
        """
        build: Build = task.build if isinstance(task, Task) else BUILD_OF[task]
        with open_recording(file_of(self.root, build, regime, eid)) as recording:
            if recording.build != build or recording.regime != regime:
                raise recording.wrong(
                    f"holds {recording.build} for {recording.regime} and lies in {build}/{regime}; "
                    "put it where it belongs, or fetch it anew"
                )
            yield recording
