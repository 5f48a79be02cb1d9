"""A checkpoint of the paper's published code, as a model of ours.

    published = read_published(Path("model_best.pt"))
    published.eids, published.sizes          # sessions, and the numbers of units that it can read
    model = published.to_model(units={eid: uuids}, data=data, regions=(), schemes=published.prompts)

Of its main branch (github.com/colehurwitz/IBL_MtM_model, e0c39bd): NDT-1 with stitchers, which are
known there by the number of a session's units; tokens of session and prompt; log rates. The same
inputs give the same log rates as there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.published.inert import Inert, read_module, tensors_of

__all__ = ["Published", "read_published"]

#: Bins of the published recordings.
BIN_SIZE, START, EVENT = 0.02, -0.5, "stimOn_times"
_STITCHERS = ("encoder.stitcher.stitcher_dict.", "stitch_decoder.stitch_decoder_dict.")
#: Our names of what every layer holds.
_OF_A_LAYER = {
    "norm_1": "ln1",
    "project": "attn.out_proj",
    "norm_2": "ln2",
    "mlp.0": "mlp.up_proj",
    "mlp.3": "mlp.down_proj",
}
_OF_THE_BODY = {
    "embed.0": "encoder.embedder.embed_spikes",
    "embed.2": "encoder.embedder.projection",
    "norm": "encoder.out_norm",
}


@dataclass(frozen=True)
class Published:
    """What a published checkpoint holds.

    Attributes
    ----------
    file
        Where it was read.
    settings
        Of a model of ours that computes the same.
    n_time
        Number of time bins.
    eids
        Sessions that have a token.
    sizes
        Numbers of units that there are stitchers for.
    prompts
        Schemes in the order of their tokens; empty without prompts.
    tensors
        Its parameters by name.
    """

    file: Path
    settings: ModelSettings
    n_time: int
    eids: tuple[str, ...]
    sizes: tuple[int, ...]
    prompts: tuple[Scheme, ...]
    tensors: Mapping[str, Tensor]

    @property
    def trial_format(self) -> TrialFormat:
        """The format of the published recordings."""
        return TrialFormat(self.n_time, BIN_SIZE, EVENT, START)

    @torch.no_grad()
    def to_model(
        self,
        units: Mapping[str, Sequence[str]],
        regions: Sequence[str],
        schemes: Sequence[Scheme],
        data: Mapping[str, Any],
        trial_format: TrialFormat | None = None,
    ) -> MtM:
        """A model of ours with these weights.

        Parameters
        ----------
        units
            Uuids of the units of each session, in the order of the published recordings.
        regions
            Names of regions.
        schemes
            That it was trained with.
        data
            Of its scope: ``region_map``, ``min_units_per_region``, ``void_and_root``.
        trial_format
            By default the published one.

        Raises
        ------
        UserError
            If it has no token for a session, or no stitchers for its number of units.
        """
        self.check(units)
        scope = Scope(
            units=tuple(unit for names in units.values() for unit in names),
            sessions=tuple(units),
            regions=tuple(regions),
            trial_format=trial_format or self.trial_format,
            schemes=tuple(schemes),
            **data,
        )
        model, own = MtM(self.settings, scope), self.tensors
        for name, theirs in _names(self.settings.layers).items():
            for kind in ("weight", "bias"):
                model.get_parameter(f"{name}.{kind}").copy_(own[f"{theirs}.{kind}"])
        for layer in range(self.settings.layers):
            for kind in ("weight", "bias"):
                parts = [own[f"encoder.layers.{layer}.attn.{part}.{kind}"]
                         for part in ("query", "key", "value")]  # fmt: skip
                model.get_parameter(f"blocks.{layer}.qkv.{kind}").copy_(torch.cat(parts))
        model.positions.copy_(own["encoder.embedder.embed_pos.weight"])
        if self.prompts:
            tokens = own["encoder.embedder.embed_prompt.weight"]
            # A scheme that it does not know begins at the mean of those that it does.
            model.prompt_token.copy_(tokens.mean(0).expand_as(model.prompt_token))
            rows = [SCHEMES.index(scheme) for scheme in self.prompts]
            model.prompt_token[rows] = tokens
        first = 0
        for row, (eid, names) in enumerate(units.items()):
            here, n = slice(first, first + len(names)), len(names)
            reader, writer = (f"{stitchers}{n}" for stitchers in _STITCHERS)
            model.read_in[here] = own[f"{reader}.weight"].T
            model.read_in_bias[row] = own[f"{reader}.bias"]
            model.read_out[here] = own[f"{writer}.weight"]
            model.read_out_bias[here] = own[f"{writer}.bias"]
            session = own["encoder.embedder.embed_session.weight"]
            model.session_token[row] = session[self.eids.index(eid)]
            first += n
        return model.eval()

    def check(self, units: Mapping[str, Sequence[str]]) -> None:
        """Make sure that there are weights for these units; UserError names what is missing."""
        for eid, names in units.items():
            if eid not in self.eids:
                raise UserError(
                    f"session {eid} is none of the {len(self.eids)} that {self.file} knows"
                )
            if len(names) not in self.sizes:
                near = sorted(self.sizes, key=lambda size: abs(size - len(names)))[:3]
                raise UserError(
                    f"session {eid} has {len(names)} units, and {self.file} has no stitchers for "
                    f"so many (the nearest: {', '.join(map(str, near))}); it wants all units of a "
                    "session, in its order"
                )


def read_published(file: Path) -> Published:
    """Read a checkpoint of the published code; nothing in it is run.

    Raises
    ------
    UserError
        If it is refused (see `read_module`), or of another model than the paper's.
    """
    module = read_module(file)
    try:
        tensors = tensors_of(module)
        published = _describe(file, module, tensors)
        _check_shapes(published)
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{file} is of another model than the paper's NDT-1 with stitchers: {reason}"
        ) from None
    return published


def _describe(file: Path, module: Inert, tensors: Mapping[str, Tensor]) -> Published:
    part = _finder(module)
    encoder, embedder = part("encoder").state, part("encoder.embedder").state
    layers = part("encoder.layers").state["_modules"]
    attention = part("encoder.layers.0.attn").state
    _expect("method", module.state["method"], "ssl")
    for key, value in (("adapt", False), ("stack", False), ("pos", True), ("scale", 1),
                       ("tokenize_binary_mask", False), ("use_session", True)):  # fmt: skip
        _expect(f"embedder.{key}", embedder.get(key, value), value)
    _expect("int_spikes", encoder.get("int_spikes", False), False)
    _expect("use_rope", attention.get("use_rope", False), False)
    _expect("embedder.act", _activation(part("encoder.embedder")), "Softsign")
    for layer in layers:
        _expect("mlp.act", _activation(part(f"encoder.layers.{layer}.mlp")), _GELU)
    _expect("loss", type(part("loss_fn")).__name__, "PoissonNLLLoss")
    _expect("use_lograte", part("loss_fn").state["log_input"], True)
    prompts: tuple[Scheme, ...] = ()
    if embedder.get("use_prompt"):
        prompts = tuple(_scheme(name) for name in embedder["mask_types"])
    settings = ModelSettings(
        width=tensors["encoder.embedder.projection.weight"].shape[0],
        layers=len(layers),
        heads=int(attention["n_heads"]),
        mlp=tensors["encoder.layers.0.mlp.up_proj.weight"].shape[0],
        stitch_width=tensors["encoder.embedder.embed_spikes.weight"].shape[1],
        input_dropout=float(embedder["_modules"]["dropout"].state["p"]),
        dropout=float(part("encoder.layers.0.mlp.dropout").state["p"]),
        attention_dropout=float(attention["attn_dropout"]),
        dropout_at="paper",
        t_fixup=True,
        embedding_std=1.0,
        stitcher_bias="uniform",
        bias="zero",
        prompt=bool(prompts),
        shared_token=False,
        leading_tokens_see_all=True,
    )
    sizes = sorted(
        int(name.removeprefix(_STITCHERS[0]).partition(".")[0])
        for name in tensors
        if name.startswith(_STITCHERS[0]) and name.endswith(".weight")
    )
    eids = tuple(str(eid) for eid in embedder["eid_lookup"])
    n_time = len(tensors["encoder.embedder.embed_pos.weight"])
    return Published(file, settings, n_time, eids, tuple(sizes), prompts, tensors)


_GELU = ("GELUActivation", "GELU", "gelu")


def _check_shapes(published: Published) -> None:
    """Compare every parameter with what a model of these settings has."""
    own = published.settings
    wanted: dict[str, tuple[int, ...]] = {}
    width, stitch, mlp = own.width, own.stitch_width, own.mlp
    assert stitch is not None
    shapes: dict[str, tuple[int, ...]] = {
        "embed.0": (2 * stitch, stitch),
        "embed.2": (width, 2 * stitch),
        "norm": (width,),
    }
    for layer in range(own.layers):
        at = f"blocks.{layer}."
        shapes |= {at + "norm_1": (width,), at + "norm_2": (width,), at + "project": (width, width)}
        shapes |= {at + "mlp.0": (mlp, width), at + "mlp.3": (width, mlp)}
        for name in ("query", "key", "value"):
            wanted[f"encoder.layers.{layer}.attn.{name}"] = (width, width)
    wanted |= {theirs: shapes[name] for name, theirs in _names(own.layers).items()}
    for size in published.sizes:
        reader, writer = (f"{stitchers}{size}" for stitchers in _STITCHERS)
        wanted |= {reader: (stitch, size), writer: (size, width)}
    tables = {"embed_pos": published.n_time, "embed_session": len(published.eids)}
    if published.prompts:
        tables["embed_prompt"] = len(published.prompts)
    expected: dict[str, tuple[int, ...]] = {
        f"encoder.embedder.{name}.weight": (n, width) for name, n in tables.items()
    }
    for name, shape in wanted.items():
        expected |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    found = {name: tuple(tensor.shape) for name, tensor in published.tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        # Its linear decoder is there beside the stitchers, and nothing uses it.
        if not name.startswith("decoder.") and expected.get(name) != found.get(name):
            raise ValueError(
                f"'{name}' has shape {found.get(name)}, where {expected.get(name)} is expected"
            )


def _names(layers: int) -> dict[str, str]:
    """Our names of what has a weight and a bias in both models, and theirs."""
    names = dict(_OF_THE_BODY)
    for layer in range(layers):
        for own, theirs in _OF_A_LAYER.items():
            names[f"blocks.{layer}.{own}"] = f"encoder.layers.{layer}.{theirs}"
    return names


def _finder(module: Inert) -> Callable[[str], Inert]:
    def find(path: str) -> Inert:
        part = module
        for name in path.split("."):
            part = part.state["_modules"][name]
        return part

    return find


def _activation(part: Inert) -> str:
    """Name of an activation, which is a module or a function."""
    found = part.state["_modules"].get("act", part.state.get("act"))
    return str(getattr(found, "__name__", type(found).__name__))


def _scheme(name: str) -> Scheme:
    scheme = name.replace("-", "_")
    for known in SCHEMES:
        if known == scheme:
            return known
    raise ValueError(f"a prompt '{name}'")


def _expect(what: str, found: Any, wanted: Any) -> None:
    if found not in (wanted if isinstance(wanted, tuple) else (wanted,)):
        raise ValueError(f"{what} is {found!r}, not {wanted!r}")
