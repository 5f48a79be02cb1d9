"""Tables worked on by rows: the same as one small table for each session, at a fixed cost."""

import torch

from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.loop.ema import EMA
from ibl_mtm.training.loop.optimizer import RowAdamW
from ibl_mtm.training.loop.rows import Rows
from ibl_mtm.training.objective.draw_tasks import SessionRows

N_TIME, CPU = 6, torch.device("cpu")
SETTINGS = ModelSettings(
    width=8, layers=1, heads=2, mlp=8, stitch_width=None, mask_indicator=True, standardise=True
)
OPTIONS = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}


def make_model(sizes=(3, 4, 2), width=8):
    torch.manual_seed(0)
    scope = Scope(
        tuple(f"u{i}" for i in range(sum(sizes))),
        tuple(f"s{i}" for i in range(len(sizes))),
        (),
        TrialFormat(N_TIME, 0.02, "stimOn_times", -0.5),
        ("neuron",),
    )
    model = MtM(SETTINGS.model_copy(update={"width": width}), scope)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def rows_of(sizes, session):
    first = sum(sizes[:session])
    units = torch.arange(first, first + sizes[session])
    return SessionRows(session, units, torch.full_like(units, -1))


def test_a_model_computes_the_same_from_gathered_rows():
    sizes, model = (3, 4, 2), make_model()
    own = [rows_of(sizes, 2), rows_of(sizes, 0)]
    rows = Rows(own, CPU)
    tables = rows.gather(model)
    counts = [torch.randint(0, 3, (2, N_TIME, len(r.units))) for r in own]
    groups = [
        Group(c, c > 1, r.units, r.session, "neuron") for c, r in zip(counts, own, strict=True)
    ]
    local = []
    for group in groups:
        units, session = rows.place[group.session]
        local.append(Group(group.counts, group.hidden, units, session, "neuron"))
    expected = model(groups)
    got = torch.func.functional_call(model, tables, (local,))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    # Gradients end at the copies, and are those of the whole tables' rows.
    sum(a.exp().sum() for a in got).backward()
    by_rows = {name: table.grad for name, table in tables.items() if table.requires_grad}
    assert model.read_in.grad is None
    model.zero_grad()
    sum(a.exp().sum() for a in expected).backward()
    assert set(by_rows) == {
        "read_in",
        "indicator",
        "read_out",
        "read_out_bias",
        "read_in_bias",
        "session_token",
    }
    for name, gradient in by_rows.items():
        whole = getattr(model, name).grad
        assert torch.allclose(gradient, whole[rows.index(name)], atol=1e-5), name
        assert whole.count_nonzero() == gradient.count_nonzero()


def test_rows_are_updated_as_small_tables_that_adamw_passes_over():
    """The reference: one parameter for each session, and AdamW, which skips those without grad."""
    torch.manual_seed(1)
    table, bias = (torch.nn.Parameter(torch.randn(9, *shape)) for shape in ((5,), ()))
    index = [torch.arange(0, 3), torch.arange(3, 7), torch.arange(7, 9)]
    body = torch.nn.Parameter(torch.randn(4))
    small = [[torch.nn.Parameter(t.detach()[i].clone()) for i in index] for t in (table, bias)]
    twin = torch.nn.Parameter(body.detach().clone())
    ours = RowAdamW([{"params": [body]}, {"params": [table, bias]}], **OPTIONS)
    reference = torch.optim.AdamW([twin, *small[0], *small[1]], **OPTIONS)
    for session in (0, 1, 0, 0, 2, 1, 0):
        reference.zero_grad()
        body.grad = twin.grad = torch.randn(4)
        for parameter, pieces in zip((table, bias), small, strict=True):
            gradient = torch.randn_like(pieces[session])
            pieces[session].grad = gradient
            ours.touch(parameter, index[session], gradient.clone())
        ours.step()
        reference.step()
        assert torch.allclose(body, twin, atol=1e-7)
        assert torch.allclose(table, torch.cat(small[0]), atol=1e-6)
        assert torch.allclose(bias, torch.cat(small[1]), atol=1e-6)


def test_the_optimizers_state_can_be_saved_without_pickling(tmp_path):
    def make():
        torch.manual_seed(1)
        table = torch.nn.Parameter(torch.randn(6, 3))
        return table, RowAdamW([table], fused=True, **OPTIONS)

    def step(table, optimizer, rows):
        optimizer.touch(table, torch.tensor(rows), torch.ones(len(rows), 3))
        optimizer.step()

    table, optimizer = make()
    step(table, optimizer, [0, 1])
    step(table, optimizer, [1, 2])
    torch.save([table.detach(), optimizer.state_dict()], tmp_path / "state.ckpt")
    again, resumed = make()
    values, state = torch.load(tmp_path / "state.ckpt", weights_only=True)
    with torch.no_grad():
        again.copy_(values)
    resumed.load_state_dict(state)
    for t, o in ((table, optimizer), (again, resumed)):
        step(t, o, [5, 1])
    assert torch.equal(table, again)


def test_the_average_is_that_of_every_row_in_every_step():
    """The reference averages all weights after each step, whatever it touched."""
    sizes, model = (3, 4, 2), make_model()
    steps, decay = 60, 0.7
    average = EMA(model, decay, steps)
    plain = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    for step in range(steps):
        session = int(torch.randint(0, 3, (), generator=generator))
        rows = Rows([rows_of(sizes, session if step else 0)], CPU)
        before = rows.gather(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                index = rows.index(name) if name in before else slice(None)
                parameter[index] += torch.randn(parameter[index].shape, generator=generator)
        average.update(model, step, rows, before)
        weight = min(decay, (1 + step) / (10 + step)) if step else 0.0
        for name, parameter in model.named_parameters():
            plain[name] = weight * plain[name] + (1 - weight) * parameter.detach()
        if step in (0, 5, 30, 59):
            read = Rows([rows_of(sizes, 2), rows_of(sizes, 1)], CPU)
            for name, table in average.gather(model, step, read).items():
                if name in plain:
                    assert torch.allclose(table, plain[name][read.index(name)], atol=1e-5), name
        if step == 30:  # reading everything in between changes nothing
            average.make_up_all(model, step)
    kept = average.make_up_all(model, steps - 1)
    for name, parameter in kept.named_parameters():
        assert torch.allclose(parameter, plain[name], atol=1e-5), name
