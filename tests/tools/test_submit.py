"""Submitting to Slurm, without one: scripts, refusals, and programs that stand in for Slurm's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tools import submit

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
model = dict()
dataloader = dict(
    train=dict(dataset=dict(), total_batch_size=16, num_workers=4), test=dict(dataset=dict()),
    evaluator=dict(),
)
optimizer = dict()
lr_multiplier = dict()
train = dict(
    output_dir={folder!r}, init_checkpoint="", device=None, seed=0, max_iter=9, log_period=3,
    eval_period=0, checkpointer=dict(period=3), checkpoint=dict(allow_partial=False),
    amp=dict(enabled=False), ddp=dict(),
    dist=dict(port=None, backend=None, timeout_s=9),
)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, "one")


def write_config(tmp_path: Path, name: str, folder: str = "") -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(CONFIG.format(folder=str(tmp_path / "runs" / (folder or name))))
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the path: with none of Slurm's programs, but for those put there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put_program(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{code}\n")
    path.chmod(0o755)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the sentence that a request is refused with."""
    with pytest.raises(SystemExit) as stop:
        submit.main([str(word) for word in words])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


# --- What would be submitted ----------------------------------------------------------------------


def test_help_comes_without_what_is_heavy():
    code = (
        "import sys, runpy; sys.argv = ['submit.py', '--help']\n"
        "try: runpy.run_path('tools/submit.py', run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules, 'submitit' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "--array-of-configs" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False"


def test_dry_run_prints_the_script_of_a_job_on_several_nodes(programs, config, tmp_path, capsys):
    options = "--nodes 2 --gpus-per-node 4 --time 600 --job-name my --partition p --mem 64G"
    more = "--constraint a100 --exclude n[1-2] --signal-delay 120 --sbatch reservation=r"
    submit.main(
        [*options.split(), *more.split(), "--account", "a b", "--dry-run", "--sbatch", "exclusive"]
        + ["--", "--config-file", str(config), "train.seed=1"]
    )
    script, _, command = capsys.readouterr().out.partition("# each node: ")
    flags = {line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")}
    folder = tmp_path / "runs/one/slurm"
    assert flags == {
        "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=4", "--cpus-per-task=20",
        "--time=600", "--job-name=my", "--partition=p", "--mem=64G", "--constraint=a100",
        "--exclude='n[1-2]'", "--account='a b'", "--reservation=r", "--exclusive",
        "--signal=USR2@120", "--requeue", "--open-mode=append", f"--output={folder}/%j_0_log.out",
    }  # fmt: skip
    srun = next(line for line in script.splitlines() if line.startswith("srun "))
    assert "--kill-on-bad-exit=1" in srun and "--cpus-per-task=20" in srun
    assert f"{sys.executable} -u -m submitit.core._submit {folder}" in srun
    assert f"export PYTHONPATH={ROOT}" in script
    assert command.split() == [
        sys.executable, "-u", f"{ROOT}/train_net.py", "--slurm", "--num-gpus", "4",
        "--config-file", str(config), "train.seed=1",
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words", "processes", "cpus"),
    [
        ("--gpus-per-node 4", "--num-gpus 2", 2, 10),
        ("--gpus-per-node 0", "", 1, 5),
        ("--gpus-per-node 0 --cpus-per-task 3", "--num-gpus 8", 8, 24),
        ("", "dataloader.train.num_workers=0", 1, 1),
    ],
)
def test_processes_and_cpus_of_a_node(programs, config, capsys, options, words, processes, cpus):
    argv = [*options.split(), "--dry-run", "--", "--config-file", str(config), *words.split()]
    submit.main(argv)
    out = capsys.readouterr().out
    assert f"--num-gpus {processes} " in out and f"#SBATCH --cpus-per-task={cpus}\n" in out
    assert ("--gpus-per-node" in out) == ("--gpus-per-node 0" not in options)


def test_dry_run_of_an_array(programs, tmp_path, capsys):
    configs = [str(write_config(tmp_path, name)) for name in ("one", "two", "three")]
    submit.main(["--dry-run", "--array-of-configs", *configs, "--", "--resume", "train.seed=1"])
    out = capsys.readouterr().out
    assert "#SBATCH --array=0-2%3\n" in out and f"{tmp_path}/runs/one/slurm/%A_%a_0_log.out" in out
    for number, config in enumerate(configs):
        line = next(line for line in out.splitlines() if line.startswith(f"# task {number} "))
        assert line.endswith(f"--num-gpus 1 --config-file {config} --resume train.seed=1")


def test_dry_run_of_a_local_run(programs, config, capsys):
    submit.main(["--local", "--dry-run", "--", "--config-file", str(config)])
    out = capsys.readouterr().out
    assert out.startswith("# each node: ") and "--slurm" not in out


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words", "reason"),
    [
        ("--nodes 0", "", "--nodes 0: must be 1 or more"),
        ("--time 0", "", "--time 0: must be 1 or more"),
        ("--time 1", "", "--signal-delay 90"),
        ("--gpus-per-node -1", "", "--gpus-per-node -1: must be 0 or more"),
        ("--cpus-per-task 0", "", "--cpus-per-task 0: must be 1 or more"),
        ("--sbatch =x", "", "NAME=VALUE"),
        ("--sbatch=--reservation=R", "", "--sbatch --reservation=R: not of the form NAME=VALUE"),
        ("--sbatch array=0-1", "", "--sbatch array=0-1: this tool sets that itself"),
        ("--sbatch ntasks-per-node=2", "", "this tool sets that itself"),
        ("", "train.output_dir=runs/80%train", "Slurm takes no % in its logs' names"),
        ("--local --nodes 2", "", "--local runs one config on one machine"),
        ("--gpus-per-node 2", "--num-gpus 4", "--num-gpus 4: a node has --gpus-per-node 2"),
        ("--gpus-per-node 2", "--num-gpus 0", "--num-gpus 0: must be 1 or more"),
        ("--nodes 3", "", "total_batch_size=16 is not a multiple of the 3 processes"),
        ("--gpus-per-node 0", "train.device=cuda", "train.device=cuda, but the job has no GPU"),
        ("--gpus-per-node 2", "train.device=cuda:1", "cuda:1 is one GPU for 2 processes"),
        ("", "train.seed=5000000000", "train.seed=5000000000 must be"),
        ("", "train.sead=1", "did you mean seed?"),
        ("", "train.seed=1 --resume", "put flags before"),
        ("", "--slurm", "--slurm after -- is for the job to set"),
        ("", "--num-machines 1", "--num-machines after -- is for the job to set"),
        ("", "--machine-rank 0", "--machine-rank after -- is for the job to set"),
        ("", "--dist-url auto", "--dist-url after -- is for the job to set"),
        ("", "--checkpoint a.pth", "--checkpoint goes with --eval-only"),
        ("", "--eval-only", "holds no checkpoint"),
        ("", "--eval-only --checkpoint none.pth", "none.pth"),
        ("", "train.init_checkpoint=none.pth", "none.pth does not exist"),
        ("", "train.max_iter=0", "train.max_iter=0 must be a whole number"),
        ("", "train.checkpointer.period=0", "train.checkpointer.period=0 must be"),
        ("", "train.dist.backend=foo", "train.dist.backend=foo: not one of"),
        ("--gpus-per-node 1", "train.device=gpu", "train.device=gpu: not a device"),
        ("", "train.output_dir=~/x", 'write "$HOME" for ~'),
        ("", "train.output_dir=null", "names no folder"),
    ],
)
def test_refusals(programs, config, capsys, options, words, reason):
    argv = [*options.split(), "--dry-run", "--", "--config-file", config, *words.split()]
    assert reason in refusal(capsys, *argv)


def test_a_config_that_is_not_there(programs, tmp_path, capsys):
    assert "--config-file is missing" in refusal(capsys, "--dry-run")
    missing = tmp_path / "none.py"
    assert "does not exist" in refusal(capsys, "--dry-run", "--", "--config-file", missing)


def test_data_that_is_not_there(programs, config, capsys):
    data = "dict(_target_='detectron2.data.get_detection_dataset_dicts', names='none')"
    config.write_text(config.read_text().replace("dict(dataset=dict(),", f"dict(dataset={data},"))
    reason = refusal(capsys, "--dry-run", "--", "--config-file", config)
    assert "data set none is not registered" in reason


def test_the_folder_of_another_run(programs, config, tmp_path, capsys):
    (tmp_path / "runs/one").mkdir(parents=True)
    (tmp_path / "runs/one/last_checkpoint").write_text("model_0000001.pth")
    torch.save({}, tmp_path / "runs/one/model_0000001.pth")
    words = ["--", "--config-file", str(config)]
    assert "pass --resume" in refusal(capsys, "--dry-run", *words)
    submit.main(["--dry-run", *words, "--resume"])
    submit.main(["--dry-run", "--nodes", "3", *words, "--eval-only"])


def test_an_array_whose_runs_would_meet(programs, tmp_path, capsys):
    one, two = write_config(tmp_path, "one"), write_config(tmp_path, "two", folder="one")
    array = ["--dry-run", "--array-of-configs", one]
    assert "have one train.output_dir" in refusal(capsys, *array, two)
    assert "have one train.output_dir" in refusal(capsys, *array, one)
    assert "same for all" in refusal(capsys, *array, "--", "train.output_dir=runs/x")
    assert "in one of them" in refusal(capsys, *array, "--", "--config-file", two)
    assert "--local runs one config" in refusal(capsys, "--local", *array)


def test_a_machine_without_slurm(programs, config, capsys):
    assert "sbatch is not to be found" in refusal(capsys, "--", "--config-file", config)


def test_local_with_more_gpus_than_there_are(programs, config, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    words = ["--local", "--gpus-per-node", "2", "--", "--config-file", config]
    assert "--gpus-per-node 2: this machine has 1." in refusal(capsys, *words)


# --- Submitting -----------------------------------------------------------------------------------


def test_submission_tells_of_the_job(programs, config, tmp_path, capsys):
    put_program(programs, "srun", "exit 1")
    put_program(programs, "sbatch", "echo Submitted batch job 77")
    submit.main(["--nodes", "2", "--", "--config-file", str(config)])
    out = capsys.readouterr().out
    folder = tmp_path / "runs/one/slurm"
    for words in ("job 77:", f"tail -F {folder}/77_0_log.out", "squeue --jobs 77", "scancel 77"):
        assert words in out
    assert (folder / "77_submitted.pkl").exists() and (folder / "77_submission.sh").exists()


def test_submission_of_an_array(programs, tmp_path, capsys):
    put_program(programs, "srun", "exit 1")
    put_program(programs, "sbatch", "echo Submitted batch job 77")
    configs = [str(write_config(tmp_path, name)) for name in ("one", "two")]
    submit.main(["--array-of-configs", *configs])
    out = capsys.readouterr().out
    for words in ("job 77_0: ", "job 77_1: ", "77_1_0_log.out", "scancel 77_1\n", "scancel 77\n"):
        assert words in out
    assert (tmp_path / "runs/one/slurm/77_1_submitted.pkl").exists()


def test_slurm_refuses(programs, config, capsys):
    put_program(programs, "srun", "exit 1")
    put_program(programs, "sbatch", "echo sbatch: error: Invalid partition >&2; exit 1")
    reason = refusal(capsys, "--", "--config-file", config)
    assert reason == "error: Slurm refuses the job: Invalid partition.\n"


def test_slurms_reason_is_not_its_advice(programs, config, capsys):
    put_program(programs, "srun", "exit 1")
    told = "sbatch: unrecognized option --bogus=9"
    advice = "Try sbatch --help for more information"
    put_program(programs, "sbatch", f"echo {told} >&2; echo {advice} >&2; exit 1")
    reason = refusal(capsys, "--", "--config-file", config)
    assert reason == "error: Slurm refuses the job: unrecognized option --bogus=9.\n"


def test_a_job_that_submits_hands_nothing_of_its_own_on(programs, config, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    put_program(programs, "srun", "exit 1")
    put_program(programs, "sbatch", f"export -p >{tmp_path}/env; echo Submitted batch job 77")
    submit.main(["--", "--config-file", str(config)])
    exported = (tmp_path / "env").read_text()
    assert "SLURM_CONF" in exported and "SLURM_RESTART_COUNT" not in exported
    assert os.environ["SLURM_RESTART_COUNT"] == "1"


def test_a_job_that_is_not_to_come_back(programs, config, capsys):
    argv = ["--sbatch", "no-requeue", "--dry-run", "--", "--config-file", str(config)]
    submit.main(argv)
    script = capsys.readouterr().out
    assert "#SBATCH --no-requeue" in script and "#SBATCH --requeue" not in script


def test_a_folder_for_logs_that_is_a_file(programs, config, tmp_path, capsys):
    put_program(programs, "srun", "exit 1")
    put_program(programs, "sbatch", "echo Submitted batch job 77")
    (tmp_path / "runs/one").mkdir(parents=True)
    (tmp_path / "runs/one/slurm").touch()
    assert "the job's logs: " in refusal(capsys, "--", "--config-file", config)


@pytest.mark.slow
def test_local_job_runs_in_the_background(config, tmp_path, monkeypatch):
    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.submission import TrainingJob
    from tools.submit_checks import Run

    monkeypatch.setenv("PYTHONPATH", "")  # is set for the job
    script = tmp_path / "stub.py"
    script.write_text("import sys; print(sys.argv[1:])\nsys.exit('fail' in sys.argv)")
    args, _ = submit.parse(["--local", "--gpus-per-node", "0"])
    for word in ("pass", "fail"):
        stub = TrainingJob((word,), 2, str(tmp_path / "run"), slurm=False, script=str(script))
        run = Run(str(config), load_config(str(config)), stub)
        (job,) = submit.submit([run], submit.local_executor(args, [run]))
        while not job.done():
            time.sleep(0.1)
        assert f"['--num-gpus', '2', '{word}']" in job.paths.stdout.read_text()
        error = job.exception()
        assert error is None if word == "pass" else "exit code 1" in str(error)
