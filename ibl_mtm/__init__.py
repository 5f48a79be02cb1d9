"""From IBL recordings to a trained, scored population model.

    import ibl_mtm

    cache = ibl_mtm.open_cache("cache.zarr")        # a mapping: eid -> lazy xarray.Dataset
    model = ibl_mtm.load_model("runs/mtm")          # a torch module, in evaluation mode
    rates = ibl_mtm.predict(model, cache[eid], task="co_smoothing")
    responses = ibl_mtm.psth(cache[eid], by="choice")               # (choice, time, unit), spikes/s

What there is stands in ``__init__.pyi``, and comes when it is first needed: importing this package
imports neither torch nor ONE nor xarray.
"""

import lazy_loader

from ibl_mtm._provenance import __version__

__getattr__, _, _exported = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_exported]


def __dir__() -> list[str]:
    return sorted(__all__)
