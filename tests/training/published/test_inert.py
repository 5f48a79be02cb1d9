"""Files that would run something, are damaged, or hold another model are refused by name."""

import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from plain_paper import PlainModel, save_plain
from torch import nn

from ibl_mtm.errors import UserError
from ibl_mtm.training.published.convert import read_published
from ibl_mtm.training.published.inert import _checked, _pickle_of, names_in

TINY = {"width": 8, "layers": 2, "heads": 2, "mlp": 12, "stitch": 6, "n_time": 7}


def make(**changes):
    torch.manual_seed(0)
    return PlainModel({"a": 5, "b": 9}, **TINY | changes)


class Runs:
    """Would create a file when it is unpickled."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def refused(file, told):
    with pytest.raises(UserError, match=told) as error:
        read_published(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_the_published_code_is_read(tmp_path):
    model = make()
    model.encoder.max_F = np.int64(7)  # counts may be numbers of NumPy
    published = read_published(save_plain(model, tmp_path / "model_best.pt"))
    assert (published.eids, published.sizes) == (("a", "b"), (5, 9))
    assert published.prompts == ("neuron", "causal", "inter_region", "intra_region")
    assert published.settings.stitch_width == 6


def hostile(what, marker):
    """A call that leaves a file, by way of this function."""
    text = str(marker)
    return {
        "os.system": Runs(os.system, f"touch {text}"),
        "builtins.eval": Runs(eval, f"open({text!r}, 'w')"),
        "builtins.open": Runs(open, text, "w"),
        "builtins.getattr": Runs(getattr, os, "system"),
        "torch.load": Runs(torch.load, text),
        "numpy.load": Runs(np.load, text),
    }[what]


@pytest.mark.parametrize(
    ("what", "name"),
    [("os.system", "system"), ("builtins.eval", "eval"), ("builtins.open", "open"),
     ("torch.load", "torch.serialization.load"), ("numpy.load", "numpy.load")],
)  # fmt: skip
@pytest.mark.parametrize("place", ["beside", "in a layer", "in the configuration"])
def test_a_file_that_would_run_something_is_refused_by_name(tmp_path, what, name, place):
    marker = tmp_path / "it-ran"
    bad, model, more = hostile(what, marker), make(), {}
    if place == "beside":
        more["optimizer"] = bad
    elif place == "in a layer":
        model.encoder.layers[1].mlp.note = bad
    else:
        model.encoder.embedder.eid_lookup = ["a", bad]
    refused(save_plain(model, tmp_path / "model.pt", **more), f"nothing in it was run.*{name}")
    assert not marker.exists()


def test_a_name_that_is_found_in_another_way_is_refused(tmp_path):
    """Later protocols take names from the stack, where a list of names would not see them."""
    file, marker = tmp_path / "model.pt", tmp_path / "it-ran"
    torch.save({"model": hostile("os.system", marker)}, file, pickle_protocol=4)
    refused(file, "nothing in it was run.*STACK_GLOBAL")
    assert "opcode INST" in names_in(b"(S'touch x'\nios\nsystem\n.")
    assert names_in(pickle.dumps(os.getcwd, 2)) == {"posix getcwd"}
    assert not marker.exists()


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (1, "names 'builtins.eval', which no"),
        (3, "names 'builtins.eval', 'io.open', 'numpy.load', which no"),
        (4, "names 'builtins.eval', 'io.open', 'numpy.load' and 1 more, which no"),
        (5, "names 'builtins.eval', 'io.open', 'numpy.load' and 2 more, which no"),
    ],
)
def test_of_many_names_three_are_told(tmp_path, n, told):
    file = tmp_path / "model.pt"
    names = "builtins.eval", "builtins.open", "numpy.load", "torch.load", "os.system"
    torch.save({"model": [hostile(name, tmp_path) for name in names[:n]]}, file)
    with pytest.raises(UserError) as error:
        read_published(file)
    assert told in str(error.value).replace("__builtin__", "builtins")


def rewritten(file, change, compression=zipfile.ZIP_STORED):
    """The same archive with other entries."""
    with zipfile.ZipFile(file) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in change(entries):
            archive.writestr(name, content)
    return file


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_two_readers_may_see_differently_are_refused(tmp_path):
    file = save_plain(make(), tmp_path / "model.pt")
    content = file.read_bytes()
    refused(rewritten(file, lambda entries: entries, zipfile.ZIP_DEFLATED), "compressed")
    file.write_bytes(content)
    refused(rewritten(file, lambda entries: [*entries, entries[0]]), "a name twice")
    file.write_bytes(content)
    refused(rewritten(file, lambda e: [*e, ("archive/constants.pkl", b"\x80\x02N.")]), "2 pickles")
    file.write_bytes(content)
    refused(rewritten(file, lambda e: [("code.pkl", e[0][1]), *e[1:]]), "no data.pkl")


def test_damaged_and_other_files_are_told(tmp_path):
    file = save_plain(make(), tmp_path / "model.pt")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused(file, "damaged, or no checkpoint of PyTorch")
    refused(tmp_path / "none.pt", "No such file")
    (tmp_path / "text.pt").write_text("not a model")
    refused(tmp_path / "text.pt", "no archive of PyTorch 1.6")
    legacy = tmp_path / "legacy.pt"
    torch.save({"a": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
    refused(legacy, "no archive of PyTorch 1.6")
    torch.save(make().state_dict(), tmp_path / "state.pt")
    refused(tmp_path / "state.pt", "no model of the published code")
    less = save_plain(make(), tmp_path / "less.pt")
    rewritten(less, lambda entries: [e for e in entries if not e[0].endswith("data/3")])
    refused(less, "is damaged")
    cut = save_plain(make(), tmp_path / "cut.pt")
    rewritten(cut, lambda e: [(e[0][0], e[0][1][:-40]), *e[1:]])
    refused(cut, "damaged")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_bytes_turned_over_is_read_or_refused(tmp_path):
    """Never a traceback, whatever they are."""
    file, rng = save_plain(make(), tmp_path / "model.pt"), np.random.default_rng(0)
    content, n_refused = file.read_bytes(), 0

    def turn_over(entries):
        (name, pickled), *rest = entries
        changed = bytearray(pickled)
        for at in rng.integers(len(changed), size=3):
            changed[at] = rng.integers(256)
        return [(name, bytes(changed)), *rest]

    for _ in range(60):
        file.write_bytes(content)
        rewritten(file, turn_over)
        try:
            read_published(file)
        except UserError as error:
            n_refused += "\n" not in str(error)
    assert n_refused > 30
    # Here a storage is no storage: PyTorch looks for its type.
    file.write_bytes(content)
    rewritten(file, lambda e: [(e[0][0], e[0][1].replace(b"ctorch\nFloatStorage\n", b"}")), *e[1:]])
    refused(file, "is damaged")


def set_weight(model, value):
    model.encoder.out_norm.weight.data = value


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: set_weight(m, torch.full((8,), torch.nan)), "out_norm.weight.* not finite"),
        (lambda m: set_weight(m, torch.ones(1).expand(8)), "out_norm.weight.* no table"),
        (lambda m: set_weight(m, torch.ones(8).double()), "out_norm|DoubleStorage"),
        (lambda m: set_weight(m, torch.ones(9)), r"out_norm.weight' has shape \(9,\)"),
        (lambda m: setattr(m.encoder, "extra", nn.Linear(2, 2)), "extra.bias' has shape"),
        (lambda m: setattr(m, "method", "ctc"), "method is 'ctc', not 'ssl'"),
        (lambda m: setattr(m.encoder.embedder, "tokenize_binary_mask", True), "tokenize_binary"),
        (lambda m: setattr(m.encoder.embedder, "scale", 22.6), "embedder.scale is 22.6"),
        (lambda m: setattr(m.encoder.embedder, "use_session", False), "use_session"),
        (lambda m: setattr(m.encoder.layers[0].attn, "use_rope", True), "use_rope"),
        (lambda m: setattr(m.encoder.layers[1].mlp, "act", nn.Softsign()), "mlp.act is 'Softsign'"),
        (lambda m: setattr(m.encoder.embedder, "mask_types", ["neuron", "x"]), "a prompt 'x'"),
        (lambda m: delattr(m.encoder.embedder, "eid_lookup"), "lacks 'eid_lookup'"),
        (lambda m: setattr(m.encoder, "out_norm", m.encoder.layers[0].ln1), "part of itself"),
        (lambda m: setattr(m.encoder.embedder, "act", nn.ReLU()), "ReLU"),
        (lambda m: setattr(m.encoder.embedder, "adapt", True), "embedder.adapt is True, not False"),
        (lambda m: setattr(m.encoder.embedder, "stack", True), "embedder.stack is True, not False"),
        (lambda m: setattr(m.encoder.embedder, "pos", False), "embedder.pos is False, not True"),
        (lambda m: setattr(m.encoder, "int_spikes", True), "int_spikes is True, not False"),
        (lambda m: setattr(m.loss_fn, "log_input", False), "use_lograte is False, not True"),
        (lambda m: setattr(m, "loss_fn", nn.Softsign()), "loss is 'Softsign', not 'Poisson"),
    ],
    ids=["nan", "expanded", "double", "wider", "more", "ctc", "mask", "scale", "session", "rope",
         "activation", "prompt", "sessions", "shared", "relu", "adapt", "stack", "pos", "int",
         "rate", "loss"],
)  # fmt: skip
def test_other_models_are_refused(tmp_path, change, told):
    model = make()
    change(model)
    refused(save_plain(model, tmp_path / "model.pt"), told)


def test_nothing_but_the_reading_of_this_file_is_allowed_afterwards(tmp_path):
    """The stand-ins are known to PyTorch for as long as one file is read."""
    file = save_plain(make(), tmp_path / "model.pt")
    before = set(torch.serialization.get_safe_globals())
    read_published(file)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(file.read_bytes()), weights_only=True)


def archive(path, names, how=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        with zipfile.ZipFile(path, "w", how) as file:
            for name in names:
                file.writestr(name, b"what is in " + name.encode())
    return path


def test_the_pickle_of_an_archive(tmp_path):
    path = archive(tmp_path / "a", ["x/data.pkl", "x/data/0"])
    assert _pickle_of(path) == b"what is in x/data.pkl"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["x/data/0"], "0 pickles in it"),
        (["x/data.pkl", "y/data.pkl"], "2 pickles in it"),
        (["x/data.pkl", "x/0", "x/0"], "a name twice"),
        (["x/other.pkl"], r"no data\.pkl"),
    ],
)
def test_archives_that_hold_another_number_of_pickles(tmp_path, names, told):
    with pytest.raises(ValueError, match=told):
        _pickle_of(archive(tmp_path / "a", names))


def test_what_is_no_archive_is_not_what_is_not_there(tmp_path):
    (tmp_path / "a").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"no archive of PyTorch 1\.6 or newer"):
        _pickle_of(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        _pickle_of(tmp_path / "b")
    with pytest.raises(ValueError, match="compressed"):
        _pickle_of(archive(tmp_path / "c", ["x/data.pkl"], zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1.0], "no table of single-precision numbers"),
        (torch.ones(2, dtype=torch.float64), "no table"),
        (torch.ones(1).expand(5), "no table"),
        (torch.ones(2, 2).to_sparse(), "no table"),
        (torch.tensor([1.0, torch.nan]), "not finite"),
        (torch.tensor([torch.inf]), "not finite"),
    ],
)
def test_parameters_are_tables_of_finite_numbers(value, told):
    with pytest.raises(ValueError, match=rf"'a\.b' .*{told}"):
        _checked("a.b", value)


def test_a_parameter_is_taken_as_it_is():
    value = torch.arange(4.0).reshape(2, 2).requires_grad_()
    found = _checked("a", value)
    assert torch.equal(found, value)
    assert not found.requires_grad
