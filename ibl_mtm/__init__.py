"""From IBL recordings to a trained, scored population model.

    import ibl_mtm

    cache = ibl_mtm.open_cache("cache.zarr")        # a mapping: eid -> lazy xarray.Dataset
    model = ibl_mtm.load_model("runs/mtm")          # a torch module, in evaluation mode
    rates = ibl_mtm.predict(model, cache[eid], task="co_smoothing")
    responses = ibl_mtm.psth(cache[eid], by="choice")               # (choice, time, unit), spikes/s

Importing this package imports neither torch nor ONE nor xarray; they come when first needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ibl_mtm._provenance import __version__

if TYPE_CHECKING:
    from ibl_mtm.cache.cache import Cache, open_cache
    from ibl_mtm.cache.queries import population_raster, psth, region_summary, select_units
    from ibl_mtm.evaluation.activity.embed import embed
    from ibl_mtm.evaluation.activity.predict import predict
    from ibl_mtm.training.checkpoint.pretrained import PretrainedMtM, load_model

__all__ = [
    "Cache",
    "PretrainedMtM",
    "__version__",
    "embed",
    "load_model",
    "open_cache",
    "population_raster",
    "predict",
    "psth",
    "region_summary",
    "select_units",
]

_EXPORTS = {
    "Cache": "ibl_mtm.cache.cache",
    "PretrainedMtM": "ibl_mtm.training.checkpoint.pretrained",
    "embed": "ibl_mtm.evaluation.activity.embed",
    "load_model": "ibl_mtm.training.checkpoint.pretrained",
    "open_cache": "ibl_mtm.cache.cache",
    "population_raster": "ibl_mtm.cache.queries",
    "predict": "ibl_mtm.evaluation.activity.predict",
    "psth": "ibl_mtm.cache.queries",
    "region_summary": "ibl_mtm.cache.queries",
    "select_units": "ibl_mtm.cache.queries",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'ibl_mtm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
