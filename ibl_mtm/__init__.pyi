# The public API, by where it is made. lazy_loader reads this file, and so do type checkers.

from . import plot
from .cache.cache import Cache, open_cache
from .cache.queries import population_raster, psth, region_summary, select_units
from .config.catalog import load_catalog
from .errors import SessionError, UserError
from .evaluation.activity.embed import embed
from .evaluation.activity.impute import impute
from .evaluation.activity.predictions import predict
from .evaluation.activity.stored_predictions import Predictions, open_predictions
from .evaluation.behaviour.decode import decode
from .evaluation.compare import compare_runs
from .evaluation.evaluate import evaluate, evaluate_baseline
from .evaluation.imputation import score_imputation
from .evaluation.scored_run import read_scored_run
from .ingest.add_session import add_session
from .ingest.ingest_dataset import ingest_dataset
from .report.page import write_report
from .sessions.bins import rebin
from .training.checkpoint.pretrained import PretrainedMtM, load_model
from .training.run import train
from .training.settings import read_run_settings

__all__ = [
    "Cache",
    "Predictions",
    "PretrainedMtM",
    "SessionError",
    "UserError",
    "__version__",
    "add_session",
    "compare_runs",
    "decode",
    "embed",
    "evaluate",
    "evaluate_baseline",
    "impute",
    "ingest_dataset",
    "load_catalog",
    "load_model",
    "open_cache",
    "open_predictions",
    "plot",
    "population_raster",
    "predict",
    "psth",
    "read_run_settings",
    "read_scored_run",
    "rebin",
    "region_summary",
    "score_imputation",
    "select_units",
    "train",
    "write_report",
]

__version__: str
