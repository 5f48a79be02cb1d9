"""Read a pickled PyTorch module without running any of it.

module = read_module(Path("model_best.pt"))
module.state["hidden_size"], tensors_of(module)["encoder.out_norm.weight"]

A published checkpoint holds a whole module, and a pickle may name any function to be called. So the
names in it are read first, as text, and compared with the few that such a file has; then PyTorch's
restricted unpickler (``weights_only=True``) reads it, for which an inert object stands in for every
class: it keeps what it is given, and does nothing.
"""

import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ibl_mtm.errors import UserError

__all__ = ["Inert", "names_in", "read_module", "tensors_of"]


class Inert:
    """Stands in for an object of any class: keeps its arguments and its state.

    Attributes
    ----------
    arguments
        What it was made with.
    state
        What was to become its attributes.
    """

    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> "Inert":
        made = super().__new__(cls)
        made.arguments, made.state = arguments, {}
        return made

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.state = state


#: Classes and functions for which an inert object stands in, by module.
_STAND_INS = {
    "models.ndt1": (
        "NDT1",
        "NeuralAttention",
        "NeuralEmbeddingLayer",
        "NeuralEncoder",
        "NeuralEncoderLayer",
        "NeuralFactorsProjection",
        "NeuralMLP",
        "NeuralStitcher",
        "StitchDecoder",
    ),
    "models.stitcher": ("NeuralStitcher", "StitchDecoder"),
    "models.masker": ("Masker",),
    "numpy": ("dtype",),
    "numpy.core.multiarray": ("scalar",),
    "numpy._core.multiarray": ("scalar",),
    "torch._C._nn": ("gelu",),
    "torch.nn.modules.activation": ("GELU", "Softsign"),
    "torch.nn.modules.container": ("ModuleDict", "ModuleList", "Sequential"),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.loss": ("PoissonNLLLoss",),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.modules.sparse": ("Embedding",),
    "transformers.activations": ("GELUActivation",),
}
#: Names that are what they say: containers, numbers, tensors.
_PLAIN = {
    "__builtin__ set",
    "builtins set",
    "_codecs encode",
    "collections OrderedDict",
    "torch BoolStorage",
    "torch FloatStorage",
    "torch LongStorage",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    "torch.nn.parameter Parameter",
}
_CONFIG = "utils.config_utils DictConfig"
_KNOWN = {
    *(f"{module} {name}" for module, names in _STAND_INS.items() for name in names),
    *_PLAIN,
    _CONFIG,
}
#: What reading a damaged pickle may raise.
_DAMAGE = (
    UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
#: Ways to name something to be called, other than the one that such files use.
_OTHER_WAYS = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "PERSID"}


def names_in(pickled: bytes) -> set[str]:
    """Every global that a pickle names (``"module name"``), and opcodes that name one otherwise.

    The pickle is read as a list of opcodes; nothing in it is called.
    """
    names = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            names.add(str(argument))
        elif opcode.name in _OTHER_WAYS:
            names.add(f"opcode {opcode.name}")
    return names


def read_module(file: Path) -> Inert:
    """The module that a published checkpoint holds.

    Raises
    ------
    UserError
        If it is no such checkpoint, is damaged, or names anything that such files do not.
    """
    try:
        pickled = _pickle_of(file)
        names = names_in(pickled)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, EOFError, IndexError, KeyError) as error:
        raise UserError(f"{file} is damaged, or no checkpoint of PyTorch: {error}") from None
    if strange := sorted(names - _KNOWN):
        shown = ", ".join(f"'{name.replace(' ', '.')}'" for name in strange[:3])
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise UserError(
            f"{file} is refused, and nothing in it was run: it names {shown}{more}, which no "
            "checkpoint of the published model does"
        )
    try:
        with torch.serialization.safe_globals([set, *_stand_ins()]):
            held = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} is damaged: {reason}") from None
    module = held.get("model") if isinstance(held, dict) else held
    if not isinstance(module, Inert) or type(module).__name__ != "NDT1":
        raise UserError(f"{file} holds no model of the published code (models.ndt1.NDT1)")
    return module


def tensors_of(module: Inert) -> dict[str, Tensor]:
    """Parameters of a module and of what is in it, by their dotted names.

    Raises
    ------
    ValueError
        If the module is not as PyTorch builds one, or a parameter is no table of finite numbers.
    """
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Inert]] = [("", module)]
    seen: set[int] = set()
    while waiting:
        above, part = waiting.pop()
        parameters = part.state.get("_parameters") or {}
        if id(part) in seen:  # an activation may serve all layers
            if parameters:
                raise ValueError(f"'{above}' is a part of itself, or of two parts")
            continue
        seen.add(id(part))
        for name, tensor in parameters.items():
            if tensor is not None:
                found[f"{above}{name}"] = _checked(f"{above}{name}", tensor)
        for name, inner in (part.state.get("_modules") or {}).items():
            if isinstance(inner, Inert):
                waiting.append((f"{above}{name}.", inner))
    return found


def _checked(name: str, tensor: Any) -> Tensor:
    plain = isinstance(tensor, Tensor) and tensor.dtype == torch.float32
    # Only what is stored in full: a view may repeat one number a billion times.
    if not plain or tensor.layout != torch.strided or not tensor.is_contiguous():
        raise ValueError(f"'{name}' is no table of single-precision numbers")
    if not tensor.detach().isfinite().all():
        raise ValueError(f"'{name}' holds numbers that are not finite")
    return tensor.detach()


def _pickle_of(file: Path) -> bytes:
    """The one pickle in a checkpoint, which is an archive that compresses nothing."""
    if not zipfile.is_zipfile(file):
        if not file.is_file():
            raise FileNotFoundError(2, "No such file")
        raise ValueError("no archive of PyTorch 1.6 or newer")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        pickles = [name for name in names if name.endswith(".pkl")]
        if len(set(names)) < len(names) or len(pickles) != 1:
            raise ValueError(f"{len(pickles)} pickles in it, or a name twice")
        if not pickles[0].endswith("/data.pkl"):
            raise ValueError("no data.pkl in it")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed")
        return archive.read(pickles[0])


def _stand_ins() -> list[Any]:
    """A class that does nothing for each name, to be found by PyTorch under that name."""
    made: list[Any] = [
        type(name, (Inert,), {"__module__": module})
        for module, names in _STAND_INS.items()
        for name in names
    ]
    return [*made, (OrderedDict, _CONFIG.replace(" ", "."))]
