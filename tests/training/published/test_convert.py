"""What a published checkpoint says of its model: all of it, whatever its version leaves unsaid."""

import pytest
import torch
from plain_paper import PROMPTS, PlainModel, save_plain

from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import SCHEMES
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.published.convert import read_published

SIZES = {"width": 8, "layers": 2, "heads": 2, "mlp": 12, "stitch": 6, "n_time": 7}
DATA = {"region_map": "region", "min_units_per_region": 1, "void_and_root": "use"}
UNITS = {"a": ["u1", "u2", "u3"], "b": ["v1", "v2"]}


def make(**changes):
    torch.manual_seed(0)
    return PlainModel({eid: len(units) for eid, units in UNITS.items()}, **SIZES | changes)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model_best.pt"


def test_settings_are_those_of_the_paper_with_the_files_sizes(file):
    published = read_published(save_plain(make(dropout=(0.1, 0.25, 0.5)), file))
    assert published.settings == ModelSettings(
        width=8, layers=2, heads=2, mlp=12, stitch_width=6, input_dropout=0.1, dropout=0.25,
        attention_dropout=0.5, dropout_at="paper", t_fixup=True, embedding_std=1.0,
        stitcher_bias="uniform", bias="zero", shared_token=False, leading_tokens_see_all=True,
    )  # fmt: skip
    assert published.trial_format == TrialFormat(7, 0.02, "stimOn_times", -0.5)
    unprompted = read_published(save_plain(make(prompts=False), file))
    assert unprompted.prompts == ()
    assert unprompted.settings.n_prompts == 0


@pytest.mark.parametrize(
    ("part", "key"),
    [
        (lambda m: m.encoder, "int_spikes"),
        (lambda m: m.encoder.layers[0].attn, "use_rope"),
        *(
            (lambda m: m.encoder.embedder, key)
            for key in ("adapt", "stack", "pos", "scale", "tokenize_binary_mask", "use_session")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_choice_that_a_version_does_not_name_is_the_usual_one(file, part, key):
    model = make()
    delattr(part(model), key)
    assert read_published(save_plain(model, file)).sizes == (2, 3)


def test_a_model_may_be_saved_alone_but_not_a_part_of_one(file):
    assert read_published(save_plain(make(), file, bare=True)).eids == ("a", "b")
    for bare in (True, False):
        save_plain(make().encoder, file, bare=bare)
        with pytest.raises(UserError, match=r"holds no model of the published code \(models\.ndt1"):
            read_published(file)


def test_an_activation_may_serve_all_layers(file):
    model = make()
    for layer in model.encoder.layers:
        layer.mlp.act = model.encoder.layers[0].mlp.act
    assert read_published(save_plain(model, file)).settings.layers == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: setattr(m.encoder.embedder, "embed_spikes", torch.nn.Linear(6, 13)),
         r"embed_spikes\.bias' has shape \(13,\), where \(12,\)"),
        (lambda m: setattr(m.encoder.layers[1].mlp, "up_proj", torch.nn.Linear(8, 13)),
         r"layers\.1\.mlp\.up_proj\.bias' has shape \(13,\), where \(12,\)"),
        (lambda m: setattr(m.encoder.embedder, "embed_session", torch.nn.Embedding(3, 8)),
         r"embed_session\.weight' has shape \(3, 8\), where \(2, 8\)"),
        (lambda m: setattr(m.encoder.embedder, "mask_types", PROMPTS[:3]),
         r"embed_prompt\.weight' has shape \(4, 8\), where \(3, 8\)"),
        (lambda m: m.stitch_decoder.stitch_decoder_dict.pop("3"),
         r"stitch_decoder_dict\.3\.bias' has shape None, where \(3,\)"),
        (lambda m: setattr(m.encoder.embedder, "use_prompt", False),
         r"embed_prompt\.weight' has shape \(4, 8\), where None"),
    ],
    ids=["embedding", "a layer", "sessions", "prompts", "a stitcher", "unprompted"],
)  # fmt: skip
def test_tables_that_do_not_fit_each_other_are_named(file, change, told):
    model = make()
    change(model)
    with pytest.raises(UserError, match=told):
        read_published(save_plain(model, file))


def test_its_linear_decoder_may_be_of_any_size(file):
    model = make()
    model.decoder = torch.nn.Sequential(torch.nn.Linear(3, 2))
    assert read_published(save_plain(model, file)).n_time == 7


def test_weights_stand_where_they_belong(file):
    """Rows of two sessions, one after the other; a scheme without a token begins at the mean."""
    plain = make()
    published = read_published(save_plain(plain, file))
    model = published.to_model({"b": UNITS["b"], "a": UNITS["a"]}, ("X",), ("neuron",), DATA)
    assert not model.training
    assert (model.scope.units, model.scope.sessions) == (("v1", "v2", "u1", "u2", "u3"), ("b", "a"))
    readers, writers = plain.encoder.stitcher.stitcher_dict, plain.stitch_decoder
    writers = writers.stitch_decoder_dict
    assert torch.equal(model.read_in, torch.cat([readers["2"].weight.T, readers["3"].weight.T]))
    assert torch.equal(model.read_out_bias, torch.cat([writers["2"].bias, writers["3"].bias]))
    assert torch.equal(model.session_token, plain.encoder.embedder.embed_session.weight[[1, 0]])
    tokens = plain.encoder.embedder.embed_prompt.weight
    for row, scheme in enumerate(SCHEMES):
        name = scheme.replace("_", "-")
        own = tokens[PROMPTS.index(name)] if name in PROMPTS else tokens.mean(0)
        torch.testing.assert_close(model.prompt_token[row], own)


def test_units_without_weights_are_told_with_the_nearest_numbers(file):
    """The three nearest of four, whoever asks for a model."""
    sizes = {"a": 3, "b": 11, "c": 6, "d": 9}
    published = read_published(save_plain(PlainModel(sizes, **SIZES), file))
    told = (
        r"session a has 7 units, and .*model_best\.pt has no stitchers for so many \(the .*: %s\)"
    )
    with pytest.raises(UserError, match=told % "6, 9, 3"):
        published.to_model({"a": list("1234567")}, (), ("neuron",), DATA)
    with pytest.raises(UserError, match=r"session e is none of the 4 that"):
        published.check({"e": list("123")})
    assert published.check({"c": list("123"), "a": list("123456789")}) is None
