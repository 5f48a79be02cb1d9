"""A training that ends too early never looks like one that is done, and no process is missing."""

import json
import os
import signal
import sys

import pytest
import yaml
from lightning.pytorch.utilities import rank_zero_only
from training_runs import TINY, tiny_settings

from ibl_mtm.cli import DEFECT, main
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.run import train


@pytest.fixture
def command(cache, tmp_path, monkeypatch, capsys):
    """Run `ibl-mtm train` here, and do something as a step begins."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    undisturbed = Training.training_step

    def command(act, step, *arguments):
        def training_step(self, batch, batch_idx):
            if self.global_step == step:
                act()
            return undisturbed(self, batch, batch_idx)

        words = ["train", tmp_path / "tiny.yaml", "--cache", cache.path, "--run", tmp_path / "run"]
        with monkeypatch.context() as patched:
            patched.setattr(Training, "training_step", training_step)
            patched.setattr(sys, "argv", ["ibl-mtm", *map(str, [*words, *arguments])])
            with pytest.raises(SystemExit) as stop:
                main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    return command


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_ends_a_training_with_its_code_and_how_to_go_on(command, number, code):
    """A time limit, `timeout`, docker stop: `train && eval` scored an unfinished model."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    def act():
        os.kill(os.getpid(), number)

    found, out, err = command(act, 9)
    assert (found, out) == (code, "")
    line = err.strip().splitlines()[-1]
    assert "stopped at step" in line
    assert line.endswith("go on with --resume")
    assert "Traceback" not in err
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    found, out, _ = command(lambda: None, 0, "--resume", "--json")
    assert (found, json.loads(out)["steps"]) == (0, 12)


def test_one_stopped_before_its_first_checkpoint_begins_again(command):
    found, _, err = command(lambda: os.kill(os.getpid(), signal.SIGTERM), 1)
    assert found == 143
    assert err.strip().endswith("begin again")
    assert command(lambda: None, 0)[0] == 0


def test_a_defect_is_told_from_a_session_that_failed(command):
    def act():
        raise ZeroDivisionError("of our own making")

    code, _, err = command(act, 2)
    assert code == DEFECT
    assert "ZeroDivisionError" in err
    assert "this is a defect" in err


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"LOCAL_RANK": "2"},
        {
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NAME": "train",
            "SLURM_NTASKS": "4",
            "SLURM_NTASKS_PER_NODE": "4",
            "SLURM_PROCID": "1",
            "SLURM_LOCALID": "1",
            "SLURM_NODEID": "0",
            "SLURM_NODELIST": "n1",
        },
    ],
    ids=["RANK", "LOCAL_RANK", "SLURM"],
)
def test_a_training_of_one_process_is_whole_whatever_its_number(
    cache, tmp_path, monkeypatch, environment
):
    """A sweep under `srun -n 4`: three of four runs had neither settings nor outcome."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # As Lightning sets it when it is imported in such an environment.
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run = tmp_path / "run"
    report = train(tiny_settings(steps=4), cache, run, progress=False)
    assert report.steps == 4
    for name in ("config.yaml", "units.parquet", "training.json", "model.safetensors", ".lock"):
        assert (run / name).is_file()
    assert any((run / "logs").iterdir())
