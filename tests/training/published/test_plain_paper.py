"""`paper` against the published step written out plainly: start, dropout, masks, loss, schedule."""

from collections import Counter

import numpy as np
import pytest
import torch
from plain_paper import PROMPTS, PlainModel, draw_plain_mask, plain_loss, save_plain
from torch.nn import functional as F

from ibl_mtm.model.group import Group
from ibl_mtm.model.layers import Dropout
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.objective.draw_tasks import SessionRows, Task, draw_tasks, tasks_loss
from ibl_mtm.training.published.convert import read_published
from ibl_mtm.training.settings import read_run_settings

EID, N_UNITS, N_TIME, N_TRIALS = "a-session", 9, 12, 5
SIZES = {"width": 64, "layers": 5, "heads": 4, "mlp": 128, "stitch": 84, "n_time": 100}
TINY = {"width": 16, "layers": 2, "heads": 2, "mlp": 24, "stitch": 10, "n_time": N_TIME}
DATA = {"region_map": "region", "min_units_per_region": 1, "void_and_root": "use"}
#: Acronyms as they come, with one unit in two of them.
REGIONS = np.array(["CA1", "CA1", "root", "CA1", "DG", "void", "VISa", "VISa", "CA1"])


def paper(sizes, *changes):
    names = {"stitch": "stitch_width"}
    overrides = [f"model.{names.get(k, k)}={v}" for k, v in sizes.items() if k != "n_time"]
    return read_run_settings("paper", [*overrides, *changes])


def new_model(settings, n_units=N_UNITS, n_time=100):
    scope = Scope(tuple(f"u{i}" for i in range(n_units)), (EID,), ("CA1",),
                  TrialFormat(n_time, 0.02, "stimOn_times", -0.5), ("neuron",))  # fmt: skip
    model = MtM(settings.model, scope)
    zeros = torch.zeros(n_units)
    model.start_units(torch.arange(n_units), zeros, zeros + 1, zeros - 3, session=0)
    return model


def pair(tmp_path, **changes):
    """A published model and ours with the same weights."""
    torch.manual_seed(3)
    plain = PlainModel({EID: N_UNITS}, **TINY | changes)
    published = read_published(save_plain(plain, tmp_path / "model_best.pt"))
    units = {EID: [f"u{i}" for i in range(N_UNITS)]}
    return plain, published.to_model(units, (), published.prompts or ("neuron",), DATA)


def counts_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 4, (N_TRIALS, N_TIME, N_UNITS), generator=generator)


def ours(model, counts, hidden, scheme):
    name = scheme.replace("-", "_")
    group = Group(counts, hidden, torch.arange(N_UNITS), 0, name, name == "causal")
    return model([group])[0]


@pytest.mark.parametrize("prompts", [True, False], ids=["prompted", "unprompted"])
def test_as_many_parameters(prompts):
    sizes = {"width": 512, "layers": 5, "heads": 8, "mlp": 1024, "stitch": 668, "n_time": 100}
    torch.manual_seed(0)
    plain = PlainModel({EID: 668}, prompts=prompts, **sizes)
    model = new_model(paper(sizes, f"model.prompt={prompts}".lower()), n_units=668)
    there, here = (sum(p.numel() for p in m.parameters()) for m in (plain, model))
    unused = 512 * 668 + 668  # its linear decoder
    of_other_schemes = 2 * 512 if prompts else 0  # our temporal and random prompts
    assert here == there - unused + of_other_schemes
    assert there == pytest.approx(13.3e6, rel=0.005)


def tables_of(model):
    """Names of what starts alike, and the tensors."""
    state = dict(model.named_parameters())
    if isinstance(model, MtM):
        found = {"positions": state["positions"], "session": state["session_token"],
                 "prompt": state["prompt_token"], "read-in": state["read_in"],
                 "read-in bias": state["read_in_bias"], "read-out": state["read_out"],
                 "read-out bias": state["read_out_bias"], "embed": state["embed.0.weight"],
                 "project": state["embed.2.weight"]}  # fmt: skip
        layers = [dict(block.named_parameters()) for block in model.blocks]
        for name, of in (("attended", lambda p: p["project.weight"]),
                         ("up", lambda p: p["mlp.0.weight"]), ("down", lambda p: p["mlp.3.weight"]),
                         ("query", lambda p: p["qkv.weight"][:64]),
                         ("key", lambda p: p["qkv.weight"][64:128]),
                         ("value", lambda p: p["qkv.weight"][128:]),
                         ("value bias", lambda p: p["qkv.bias"][128:]),
                         ("down bias", lambda p: p["mlp.3.bias"])):  # fmt: skip
            found[name] = torch.stack([of(parameters) for parameters in layers])
        return found
    embedder, number = "encoder.embedder.", "300"
    reader = f"encoder.stitcher.stitcher_dict.{number}."
    writer = f"stitch_decoder.stitch_decoder_dict.{number}."
    found = {"positions": state[embedder + "embed_pos.weight"],
             "session": state[embedder + "embed_session.weight"],
             "prompt": state[embedder + "embed_prompt.weight"], "read-in": state[reader + "weight"],
             "read-in bias": state[reader + "bias"], "read-out": state[writer + "weight"],
             "read-out bias": state[writer + "bias"],
             "embed": state[embedder + "embed_spikes.weight"],
             "project": state[embedder + "projection.weight"]}  # fmt: skip
    for name, of in (("attended", "attn.out_proj.weight"), ("up", "mlp.up_proj.weight"),
                     ("down", "mlp.down_proj.weight"), ("query", "attn.query.weight"),
                     ("key", "attn.key.weight"), ("value", "attn.value.weight"),
                     ("value bias", "attn.value.bias"),
                     ("down bias", "mlp.down_proj.bias")):  # fmt: skip
        found[name] = torch.stack([state[f"encoder.layers.{i}.{of}"] for i in range(5)])
    return found


def test_weights_start_alike():
    """Mean, spread, and the largest of them, which tells uniform from normal."""
    torch.manual_seed(0)
    there = tables_of(PlainModel({EID: 300}, **SIZES))
    here = tables_of(new_model(paper(SIZES), n_units=300))
    assert there.keys() == here.keys()
    for name, table in there.items():
        own = here[name].detach()
        noise = 5 * (1 / table.numel() + 1 / own.numel()) ** 0.5
        assert own.std().item() == pytest.approx(table.std().item(), rel=noise), name
        assert abs(own.mean() - table.mean()) < noise * table.std(), name
        if name not in ("positions", "session", "prompt"):
            assert own.abs().max().item() == pytest.approx(table.abs().max().item(), rel=noise)
        else:
            assert own.std().item() == pytest.approx(1, rel=noise)
    ratio = here["value"].std() / here["query"].std()
    assert ratio.item() == pytest.approx(0.67 * 5**-0.25 * 2**0.5, rel=0.03)  # 0.63
    assert (here["up"].std() * 8 * 3**0.5).item() == pytest.approx(0.448, rel=0.03)


@pytest.mark.parametrize("scheme", [*PROMPTS, None])
def test_log_rates_are_the_same(tmp_path, scheme):
    plain, model = pair(tmp_path, prompts=scheme is not None)
    rng = np.random.default_rng(1)
    hidden, _ = draw_plain_mask(scheme or "neuron", N_TRIALS, N_TIME, REGIONS, 0.3, rng)
    with torch.no_grad():
        expected = plain(counts_of(), hidden, EID, scheme or "neuron")
        found = ours(model, counts_of(), hidden, scheme or "neuron")
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)
    assert expected.std() > 0.1


def test_its_causal_attention_leaks_and_ours_does_not(tmp_path):
    """With the leak log rates are its own; without, later bins move no earlier ones."""
    plain, model = pair(tmp_path)
    tight = MtM(model.settings.model_copy(update={"leading_tokens_see_all": False}), model.scope)
    tight.load_state_dict(model.state_dict())
    nothing = torch.zeros(N_TRIALS, N_TIME, N_UNITS, dtype=torch.bool)
    late = nothing.clone()
    late[:, N_TIME // 2 :] = True
    with torch.no_grad():
        for one, leaks in ((model, True), (tight.eval(), False)):
            before, after = (ours(one, counts_of(), h, "causal") for h in (nothing, late))
            moved = (before - after)[:, : N_TIME // 2].abs().max()
            assert moved > 1e-4 if leaks else moved < 1e-6
            expected = plain(counts_of(), late, EID, "causal", leak=leaks)
            torch.testing.assert_close(after, expected, rtol=0, atol=3e-6)


def test_dropout_is_where_it_is_there(tmp_path, monkeypatch):
    """Every dropout becomes a factor of its own rate: then places that differ give other rates."""
    plain, model = pair(tmp_path, dropout=(0.1, 0.25, 0.5))
    assert (model.settings.input_dropout, model.settings.dropout) == (0.1, 0.25)
    assert model.settings.attention_dropout == 0.5
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x * (1 + self.p))
    plain.drop = lambda x, p: x * (1 + p)
    elsewhere = MtM(model.settings.model_copy(update={"dropout_at": "branches"}), model.scope)
    elsewhere.load_state_dict(model.state_dict())
    for scheme in ("neuron", "causal"):
        hidden, _ = draw_plain_mask(
            scheme, N_TRIALS, N_TIME, REGIONS, 0.3, np.random.default_rng(1)
        )
        with torch.no_grad():
            expected = plain(counts_of(), hidden, EID, scheme)
            found = ours(model.train(), counts_of(), hidden, scheme)
            other = ours(elsewhere.train(), counts_of(), hidden, scheme)
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
        assert (other - expected).abs().max() > 1e-2


@pytest.mark.parametrize("scheme", PROMPTS)
def test_loss_and_gradients_are_the_same(tmp_path, scheme):
    """Ours is the sum over entries, averaged over trials: its sum, over their number."""
    plain, model = pair(tmp_path)
    hidden, target = draw_plain_mask(scheme, N_TRIALS, N_TIME, REGIONS, 0.3,
                                     np.random.default_rng(4))  # fmt: skip
    assert target.any()
    counts, name = counts_of(), scheme.replace("-", "_")
    expected = plain_loss(plain(counts, hidden, EID, scheme), counts, target)
    expected.backward()
    group = Group(counts, hidden, torch.arange(N_UNITS), 0, name, name == "causal")
    loss = tasks_loss([Task(group, target)], model([group]), paper(TINY).masks.loss)
    loss.backward()
    assert loss.item() * N_TRIALS == pytest.approx(expected.item(), rel=1e-5)
    layer, body = plain.encoder.layers[1], plain.encoder.embedder
    for mine, theirs in (
        (model.positions, body.embed_pos.weight),
        (model.embed[0].weight, body.embed_spikes.weight),
        (model.blocks[1].mlp[0].weight, layer.mlp.up_proj.weight),
        (model.blocks[1].qkv.weight[32:], layer.attn.value.weight),
        (model.session_token, body.embed_session.weight),
    ):
        table = mine if mine.is_leaf else None
        own = (table if table is not None else model.blocks[1].qkv.weight).grad
        own = own if table is not None else own[32:]
        torch.testing.assert_close(own * N_TRIALS, theirs.grad, rtol=1e-4, atol=1e-4)


def masks_of(settings, scheme, n_steps):
    """What `paper` hides and asks for in many steps: region of each, and targets (B, N)."""
    names = sorted(set(REGIONS.tolist()))
    rows = SessionRows(0, torch.arange(N_UNITS), torch.tensor([names.index(r) for r in REGIONS]))
    masks = settings.masks.model_copy(update={"schemes": {scheme: 1.0}})
    counts, trials = counts_of(), np.array([3, 4, 7, 11, 12])
    for step in range(n_steps):
        (task,) = draw_tasks(rows, counts, trials, 0, step, masks)
        shape = (N_TRIALS, N_TIME, N_UNITS)
        yield task.group.region, task.group.hidden.expand(shape), task.target.expand(shape)


@pytest.mark.parametrize("scheme", PROMPTS)
def test_masks_are_drawn_alike(scheme):
    """One region a step, each as often as any other; a coin for each unit, so some have none."""
    n_steps, rng = 600, np.random.default_rng(0)
    settings, name = paper(TINY), scheme.replace("-", "_")
    ratio = 0.6 if scheme == "causal" else 0.3
    found: dict[str, list[float]] = {"hidden": [], "target": [], "none": []}
    there: dict[str, list[float]] = {"hidden": [], "target": [], "none": []}
    regions: Counter[int] = Counter()
    for region, hidden, target in masks_of(settings, name, n_steps):
        assert len(region.unique()) == 1
        regions[int(region[0])] += 1
        for kind, values in (("hidden", hidden), ("target", target)):
            found[kind].append(values.float().mean().item())
        found["none"].append((~target.any(1).any(1)).float().mean().item())
        hidden, target = draw_plain_mask(scheme, N_TRIALS, N_TIME, REGIONS, ratio, rng)
        for kind, values in (("hidden", hidden), ("target", target)):
            there[kind].append(values.float().mean().item())
        there["none"].append((~target.any(1).any(1)).float().mean().item())
    for kind, values in found.items():
        error = 4 * (np.var(values) / n_steps + np.var(there[kind]) / n_steps) ** 0.5 + 1e-9
        assert abs(np.mean(values) - np.mean(there[kind])) < error, kind
        assert abs(np.std(values) - np.std(there[kind])) < 0.15 * np.std(there[kind]) + 0.02, kind
    if "region" in scheme:
        assert len(regions) == len(set(REGIONS))  # root and void, and those of one unit
        assert min(regions.values()) > 0.7 * n_steps / len(regions)
    if scheme == "intra-region":
        expected = np.mean([0.7 ** (r == REGIONS).sum() for r in np.unique(REGIONS)])
        assert np.mean(found["none"]) == pytest.approx(expected, abs=0.05)


def test_the_first_moment_goes_as_in_pytorchs_schedule(tmp_path):
    settings = paper(TINY, "steps=1000")
    module = Training(settings, new_model(settings, n_time=N_TIME), [], 1000)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-4, 1000, pct_start=0.15,
                                                 div_factor=10)  # fmt: skip
    moments, rates = [], []
    for _ in range(999):
        moments.append(optimizer.param_groups[0]["betas"][0])
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    own = [module.schedule.first_moment(step) for step in range(999)]
    assert np.abs(np.array(own) - moments).max() < 2e-3
    assert (own[0], min(own)) == (0.95, pytest.approx(0.85))
    relative = np.array([module.schedule.rate(step) for step in range(999)])
    assert np.abs(relative - np.array(rates) / 1e-4).max() < 0.02


def test_softsign_and_gelu_are_those_of_the_helper():
    """The helper against PyTorch, so that two mistakes cannot agree."""
    plain = PlainModel({EID: N_UNITS}, **TINY)
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(plain.encoder.embedder.act(x), F.softsign(x))
    assert torch.equal(plain.encoder.layers[0].mlp.act(x), F.gelu(x))
