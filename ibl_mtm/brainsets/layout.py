"""Where the files of the brain-wide map lie, and which recordings are kept for evaluation.

    file_of(Path("/data/bwb"), "all_units", "eval", eid)      # /data/bwb/all_units/.../eval/EID.h5

A root holds `BUILD/ibl_brain_wide_bench_2026/REGIME/EID.h5`, as the bucket
`s3://brain-wide-bench/brainsets` does. Nothing here needs h5py.
"""

from pathlib import Path
from typing import Literal, get_args

__all__ = [
    "BEHAVIOURS",
    "BRAINSET",
    "BUILDS",
    "EVAL_RECORDING_IDS",
    "RATE",
    "REGIMES",
    "SPLITS",
    "Build",
    "Regime",
    "domain_scopes",
    "file_of",
    "folder_of",
    "key_of",
    "recordings_in",
]

BRAINSET = "ibl_brain_wide_bench_2026"
"""The id of the brainset: a folder below each build, and an attribute of each file."""

Build = Literal["all_units", "selected_units"]
Regime = Literal["eval", "pretrain"]
BUILDS: tuple[Build, ...] = get_args(Build)
REGIMES: tuple[Regime, ...] = get_args(Regime)
SPLITS = ("train", "val", "test")
BEHAVIOURS = ("whisker", "paws", "licks", "wheel")
"""Groups of behaviour; any may be missing in a recording for pre-training."""

RATE = 50.0
"""Samples per second of every behaviour."""

EVAL_RECORDING_IDS = (
    "0802ced5-33a3-405e-8336-b65ebc5cb07c",
    "09394481-8dd2-4d5c-9327-f2753ede92d7",
    "0cbeae00-e229-4b7d-bdcc-1b0569d7e0c3",
    "12dc8b34-b18e-4cdd-90a9-da134a9be79c",
    "16693458-0801-4d35-a3f1-9115c7e5acfd",
    "19e66dc9-bf9f-430b-9d6a-acfa85de6fb7",
    "28338153-4113-485b-835b-91cb96d984f2",
    "29a6def1-fc5c-4eea-ac48-47e9b053dcb5",
    "2d9bfc10-59fb-424a-b699-7c42f86c7871",
    "3bcb81b4-d9ca-4fc9-a1cd-353a966239ca",
    "5569f363-0934-464e-9a5b-77c8e67791a1",
    "56956777-dca5-468c-87cb-78150432cc57",
    "5c0c560e-9e1f-45e9-b66e-e4ee7855be84",
    "5ec72172-3901-4771-8777-6e9490ca51fc",
    "6713a4a7-faed-4df2-acab-ee4e63326f8d",
    "6f6d2c8e-28be-49f4-ae4d-06be2d3148c1",
    "77e6dc6a-66ed-433c-b1a2-778c914f523c",
    "7cc74598-9c1b-436b-84fa-0bf89f31adf6",
    "810b1e07-009e-4ebe-930a-915e4cd8ece4",
    "8c025071-c4f3-426c-9aed-f149e8f75b7b",
    "934dd7a4-fbdc-459c-8830-04fe9033bc28",
    "b9c205c3-feac-485b-a89d-afc96d9cb280",
    "c958919c-2e75-435d-845d-5b62190b520e",
    "d0c91c3c-8cbb-4929-8657-31f18bffc294",
    "dc21e80d-97d7-44ca-a729-a8e3f9b14305",
    "e1931de1-cf7b-49af-af33-2ade15e8abe7",
    "f4eb56a4-8bf8-4bbc-a8f3-6e6535134bad",
    "f56194bc-8215-4ae8-bc6a-89781ad8e050",
    "fe1fd79f-b051-411f-a0a9-2530a02cc78d",
)
"""The recordings that the benchmark evaluates, sorted (as in `ibl-bwb-eval` 0.1.0)."""


def domain_scopes(regime: Regime) -> tuple[str, ...]:
    """Prefixes of a regime's domains: `ts1_train_domain`, `pretrain_val_domain`, …"""
    return ("ts1", "ts2") if regime == "eval" else ("pretrain",)


def key_of(build: Build, regime: Regime, eid: str) -> str:
    """Place of a recording's file below the root, with slashes."""
    return f"{folder_of(build, regime)}/{eid}.h5"


def folder_of(build: Build, regime: Regime) -> str:
    """Folder of the recordings of a build and a regime below the root, with slashes."""
    return f"{build}/{BRAINSET}/{regime}"


def file_of(root: Path, build: Build, regime: Regime, eid: str) -> Path:
    """File of a recording; whether it is there is not looked at."""
    return root / key_of(build, regime, eid)


def recordings_in(root: Path, build: Build, regime: Regime) -> list[str]:
    """Ids of the recordings of which there is a file, sorted."""
    return sorted(path.stem for path in (root / folder_of(build, regime)).glob("*.h5"))
