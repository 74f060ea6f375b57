"""The scripts slurm_train.sh and slurm_test.sh, with programs that stand in for Slurm's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRUN = """
printf '%s\\n' "$@" "" >>"$CALLS"
code=$(head -n 1 "$CODES" 2>/dev/null); sed -i 1d "$CODES"
[[ $code != 75+ ]] || { date +%N >"$WORK_DIR/last_checkpoint"; code=75; }
exit "${code:-0}"
"""


def put_program(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{code}\n")
    path.chmod(0o755)


class Cluster:
    """A folder with a srun that notes its arguments, and ends with the codes it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work_dir = folder / "my run"
        self.work_dir.mkdir()
        (folder / "bin").mkdir()
        put_program(folder / "bin", "srun", SRUN)
        self.show("FAILED")

    def show(self, state: str) -> None:
        """Have squeue say that the last job is in this state."""
        find = """sed -n 's/^--comment=//p' "$CALLS" | tail -n 1"""
        put_program(self.folder / "bin", "squeue", f'echo "{state} $({find})"; echo RUNNING other')

    def run(
        self, script: str, *words: object, codes: tuple[object, ...] = (), **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))
        (self.folder / "calls").unlink(missing_ok=True)
        ours = ("GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK", "SRUN_ARGS", "GRES", "PYTHON")
        environment = {k: v for k, v in os.environ.items() if k not in ours and "SLURM" not in k}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        environment |= {"CALLS": str(self.folder / "calls"), "CODES": str(self.folder / "codes")}
        return subprocess.run(
            [ROOT / "tools" / script, *map(str, words)],
            env=environment | {"WORK_DIR": str(self.work_dir)} | variables,
            capture_output=True,
            text=True,
        )

    def calls(self) -> list[list[str]]:
        """Return the arguments of each call of srun, without the comment."""
        path = self.folder / "calls"
        blocks = path.read_text().split("\n\n")[:-1] if path.exists() else []
        return [
            [word for word in block.split("\n") if not word.startswith("--comment=")]
            for block in blocks
        ]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_slurm_train_asks_for_one_task_a_node(cluster):
    words = ["part", "job", "a config.py", cluster.work_dir, "train.seed=1", "--resume", "a={b: 1}"]
    result = cluster.run(
        "slurm_train.sh", *words, GPUS="16", SRUN_ARGS="--account=a --time=9", PYTHON="py"
    )
    assert result.returncode == 0, result.stderr
    assert cluster.calls() == [
        [
            "--partition=part", "--job-name=job", "--gres=gpu:8", "--nodes=2",
            "--ntasks-per-node=1", "--cpus-per-task=40", "--kill-on-bad-exit=1", "--account=a",
            "--time=9", "py", "-u", f"{ROOT}/train_net.py", "--slurm", "--num-gpus", "8",
            "--config-file", "a config.py", "--resume", f"train.output_dir={cluster.work_dir}",
            "train.seed=1", "a={b: 1}",
        ]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["--gres=gpu:8", "--nodes=1", "--cpus-per-task=40", "8"]),
        ({"GPUS": "2"}, ["--gres=gpu:2", "--nodes=1", "--cpus-per-task=10", "2"]),
        (
            {"GPUS": "4", "GPUS_PER_NODE": "1", "CPUS_PER_TASK": "3", "GRES": "none"},
            ["--gres=none", "--nodes=4", "--cpus-per-task=3", "1"],
        ),
    ],
)
def test_slurm_train_counts_nodes_and_cpus(cluster, variables, expected):
    cluster.run("slurm_train.sh", "part", "job", "a.py", cluster.work_dir, **variables)
    (call,) = cluster.calls()
    names = ("--gres", "--nodes", "--cpus-per-task")
    found = [word for word in call if word.startswith(names)]
    assert [*found, call[call.index("--num-gpus") + 1]] == expected


def test_slurm_train_goes_on_where_a_signal_stopped_it(cluster):
    words = ["part", "job", "a.py", cluster.work_dir, "train.seed=1"]
    result = cluster.run("slurm_train.sh", *words, codes=("75+", 75, "75+", 75, 75, "75+", 3))
    assert result.returncode == 3
    first, *others = cluster.calls()
    assert "--resume" not in first and len(others) == 6
    resumed = first[:]
    resumed.insert(first.index("a.py") + 1, "--resume")
    assert others == [resumed] * 6


def test_slurm_train_gives_up_without_a_checkpoint(cluster):
    words = ["part", "job", "a.py", cluster.work_dir]
    result = cluster.run("slurm_train.sh", *words, codes=(75, 75, 75, 0))
    assert result.returncode == 75 and len(cluster.calls()) == 3
    assert "give it more time" in result.stderr


def test_slurm_train_does_not_undo_scancel(cluster):
    cluster.show("CANCELLED")
    words = ["part", "job", "a.py", cluster.work_dir]
    result = cluster.run("slurm_train.sh", *words, codes=("75+", 0))
    assert result.returncode == 75 and len(cluster.calls()) == 1
    assert "cancelled" in result.stderr


def test_slurm_train_ends_with_its_allocation(cluster):
    words = ["part", "job", "a.py", cluster.work_dir]
    result = cluster.run("slurm_train.sh", *words, codes=("75+", 0), SLURM_JOB_ID="7")
    assert result.returncode == 75 and len(cluster.calls()) == 1


def test_slurm_test_scores_checkpoints(cluster):
    words = ["part", "job", "a.py", "runs/my/model_*.pth", "train.seed=1", "--flag"]
    words += ["--checkpoint", "b/x=1.pth", "--checkpoint=c.pth", "train.max_iter=2", "--num-gpus"]
    result = cluster.run("slurm_test.sh", *words, codes=(75,), GPUS="2")
    assert result.returncode == 75
    (call,) = cluster.calls()
    assert call[call.index("--slurm") + 1 :] == [
        "--num-gpus", "2", "--config-file", "a.py", "--eval-only", "--checkpoint",
        "runs/my/model_*.pth", "--flag", "--checkpoint", "b/x=1.pth", "--checkpoint=c.pth",
        "--num-gpus", "train.seed=1", "train.max_iter=2",
    ]  # fmt: skip


@pytest.mark.parametrize("script", ["slurm_train.sh", "slurm_test.sh"])
def test_scripts_refuse_in_a_sentence(cluster, script):
    result = cluster.run(script, "part", "job", "a.py")
    assert result.returncode == 2 and f"tools/{script} PARTITION" in result.stderr
    for name, value, reason in (
        ("GPUS", "12", "GPUS=12 is not a multiple of GPUS_PER_NODE=8."),
        ("GPUS", "0", "GPUS=0: not a number, 1 or more."),
        ("CPUS_PER_TASK", "x", "CPUS_PER_TASK=x: not a number, 1 or more."),
    ):
        result = cluster.run(script, "part", "job", "a.py", cluster.work_dir, **{name: value})
        assert result.returncode == 2 and cluster.calls() == []
        assert result.stderr == f"error: {reason}\n"


@pytest.mark.parametrize("script", ["slurm_train.sh", "slurm_test.sh"])
def test_scripts_refuse_where_there_is_no_srun(cluster, tmp_path, script):
    programs = tmp_path / "no slurm"
    programs.mkdir()
    for name in ("bash", "dirname"):
        (programs / name).symlink_to(shutil.which(name))
    result = cluster.run(script, "part", "job", "a.py", "b", PATH=str(programs))
    assert result.returncode == 2
    assert result.stderr.startswith("error: srun is not to be found")


def test_scripts_are_found_by_a_link(cluster, tmp_path):
    link = tmp_path / "train.sh"
    link.symlink_to(ROOT / "tools/slurm_train.sh")
    result = cluster.run(link, "part", "job", "a.py", cluster.work_dir, PYTHON="py")
    assert result.returncode == 0, result.stderr
    assert f"{ROOT}/train_net.py" in cluster.calls()[0]


@pytest.mark.parametrize("script", ["slurm_common.sh", "setup_env.sh"])
def test_scripts_look_nowhere_else(tmp_path, script):
    """A relative call where CDPATH has a folder tools: its first lines, and where they lead to."""
    (tmp_path / "tools").mkdir()
    lines = (ROOT / "tools" / script).read_text().splitlines()
    last = next(k for k, line in enumerate(lines) if "cd " in line and "BASH_SOURCE" in line)
    (tmp_path / "here" / "tools").mkdir(parents=True)
    (tmp_path / "here" / "tools" / script).write_text("\n".join([*lines[: last + 1], "pwd"]))
    shown = subprocess.run(
        ["bash", "-c", f'. tools/{script}; echo "${{root-}}"'],
        cwd=tmp_path / "here",
        env=os.environ | {"CDPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(shown) == {str(tmp_path / "here")}
