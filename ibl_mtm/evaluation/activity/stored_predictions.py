"""Predictions of many sessions in one Zarr hierarchy, a group for each.

found = open_predictions("rates.zarr")
found[eid]                          # a lazy xarray.DataArray
found.asked["task"]

A session appears with the one rename of its folder, whole or not at all, and is checked as those
of a cache are; any reader of Zarr v3 opens it.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import xarray as xr
from safetensors.torch import save

from ibl_mtm._provenance import __version__
from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import open_group, read_metadata, write_group
from ibl_mtm.cache.guard import reading
from ibl_mtm.cache.staging import lock_cache, remove_leftovers, stage
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import DAMAGE, SessionError, UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import as_text, counted

__all__ = ["Predictions", "open_predictions", "predict_cache"]

logger = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "ibl-mtm predictions", 1
_RATE = "rate"
"""Name of the variable of a session that has one alone."""


class Predictions(Mapping[str, xr.DataArray | xr.Dataset]):
    """Predictions of sessions, each read when it is asked for.

    Parameters
    ----------
    path
        The folder.

    Attributes
    ----------
    path
        The same.
    asked
        What was predicted: task, prompt, source, …, and a digest of the model's weights.
    left_out
        Sessions that the call which made them left out, as they are damaged or lack what was asked
        for: eid -> reason.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, path: Path, left_out: Mapping[str, str] | None = None) -> None:
        self.path, self.left_out = path, dict(left_out or {})
        self.asked: dict[str, Any] = _read_asked(path)

    def __getitem__(self, eid: str) -> xr.DataArray | xr.Dataset:
        if eid not in self:
            raise KeyError(eid)
        with reading(eid):
            ds = open_group(self.path / eid)
        return ds[_RATE] if list(ds.data_vars) == [_RATE] else ds

    def __contains__(self, eid: object) -> bool:
        return isinstance(eid, str) and (self.path / eid / "zarr.json").is_file()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(file.parent.name for file in self.path.glob("*/zarr.json")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        what = ", ".join(f"{k} {v}" for k, v in self.asked.items() if v and k != "model")
        return f"<{FORMAT} {self.path}> {counted(len(self), 'session')}; {what}"


def open_predictions(path: str | Path) -> Predictions:
    """Open what `ibl_mtm.predict` wrote of a cache.

    Parameters
    ----------
    path
        Its folder.

    Returns
    -------
    Predictions
        A mapping from session to a lazy DataArray (trial, time, unit) of expected spikes per bin;
        to a Dataset where `given` and `targets` were asked for.

    Raises
    ------
    UserError
        If there are none, or of a newer format.

    Examples
    --------
    >>> made = ibl_mtm.predict(model, "cache.zarr", into="rates.zarr")
    >>> rates = open_predictions("rates.zarr")
    >>> len(rates), rates.asked["task"]
    (2, None)
    >>> rates[ds.attrs["eid"]].dims
    ('trial', 'time', 'unit')
    """
    return Predictions(Path(path))


class _UnfitError(UserError):
    """What is in the folder already; no session goes on beside it."""


def predict_cache(
    model: MtM,
    cache: Cache,
    asked: Mapping[str, Any],
    predict: Callable[[MtM, xr.Dataset], xr.DataArray | xr.Dataset],
    into: Path,
    say: Callable[[str], None] | None = None,
) -> Predictions:
    """Predict the sessions of a cache that a model knows, one after the other.

    Parameters
    ----------
    model, cache, into, say
        As for `ibl_mtm.predict`.
    asked
        What is to be predicted, in plain values that JSON has.
    predict
        Predicts it of a session.

    Raises
    ------
    UserError
        If the model knows no session of the cache, or `into` holds something else; or if no
        session has what is asked for.
    SessionError
        If none can be read. Where some can, the others are left out, with a warning.
    """
    eids = [eid for eid in cache if eid in model.scope.sessions]
    if not eids:
        raise UserError(f"{cache.path} holds no session that the model was trained on")
    if len(eids) < len(cache):
        n = len(cache) - len(eids)
        logger.warning("%s of %s are not the model's: left out", counted(n, "session"), cache.path)
    check_folder(into)
    _claim(into, {**asked, "model": _digest(model)})
    left_out: dict[str, str] = {}
    error: UserError | SessionError | None = None
    for number, eid in enumerate(eids, start=1):
        try:
            with reading(eid):
                ds = cache[eid]
                data = _data_of(ds)
            if _is_there(into, eid, data):
                continue
            if say is not None:
                say(f"predicting session {number} of {len(eids)}: {eid}")
            with reading(eid):
                ds = ds.load()
            found = predict(model, ds)
        except _UnfitError:
            raise
        except (UserError, SessionError) as reason:
            error = reason
            left_out[eid] = reason.reason if isinstance(reason, SessionError) else str(reason)
            logger.warning("session %s is left out: %s", eid, left_out[eid])
        else:
            _write(into, eid, found, {"eid": eid, "data": data})
    if error is not None and len(left_out) == len(eids):
        raise error
    return Predictions(into, left_out)


def _claim(into: Path, asked: dict[str, Any]) -> None:
    """Make the folder, or make sure that it is one of these very predictions."""
    asked = json.loads(json.dumps(asked))
    if not into.exists() or (into.is_dir() and not any(into.iterdir())):
        into.mkdir(parents=True, exist_ok=True)
        attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, "asked": asked}
        document = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes | {"ibl_mtm": __version__},
        }
        text = json.dumps(document, indent=1)
        replace_file(into / "zarr.json", lambda path: path.write_text(text, encoding="utf-8"))
    there = _read_asked(into)
    for name, value in asked.items():
        if there.get(name) != value:
            what = "of another model" if name == "model" else f"with {name} {there.get(name)!r}"
            raise UserError(f"{into} holds predictions {what}; give these a folder of their own")
    with lock_cache(into):
        remove_leftovers(into)


def _read_asked(path: Path) -> dict[str, Any]:
    try:
        attributes = read_metadata(path)["attributes"]
        if attributes["format"] != FORMAT:
            raise ValueError(f"it is {attributes['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not path.exists():
            raise UserError(f"no predictions at {path}") from None
        raise UserError(f"{path} holds no predictions of ibl_mtm.predict ({error})") from None
    if attributes.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{path} was written by a newer ibl-mtm; update this one")
    asked: dict[str, Any] = attributes["asked"]
    return asked


def _data_of(ds: xr.Dataset) -> str:
    """A digest of what a session's predictions depend on, besides the model."""
    parts = [
        str(ds.attrs["definition_hash"]),
        *as_text(ds.unit).tolist(),
        *map(str, ds.trial.values),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _digest(model: MtM) -> str:
    """As `ibl_mtm.training.checkpoint.pretrained.model_digest` of the folder it is saved to."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    return sha256(save(weights)).hexdigest()[:16]


def _is_there(into: Path, eid: str, data: str) -> bool:
    try:
        attributes = read_metadata(into / eid)["attributes"]
    except FileNotFoundError:
        return False
    except DAMAGE as error:
        raise _UnfitError(f"{into / eid} is damaged ({error}); delete it") from None
    if attributes.get("data") != data:
        raise _UnfitError(
            f"{into / eid} is of other units or trials than the cache has now; delete it, or give "
            "a folder of its own"
        )
    return True


def _write(
    into: Path, eid: str, found: xr.DataArray | xr.Dataset, attributes: dict[str, str]
) -> None:
    ds = found if isinstance(found, xr.Dataset) else found.to_dataset(name=_RATE)
    ds = ds.assign_attrs(attributes)
    with stage(into, eid) as aside:
        write_group(aside / "session", ds)
        with lock_cache(into):
            if not (into / eid).exists():  # another process may have been quicker
                (aside / "session").rename(into / eid)
