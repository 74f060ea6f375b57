"""Processes and devices that cannot be had are refused before anything starts."""

import argparse
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from inspire_d2.engine import launch
from inspire_d2.engine.arguments import argument_parser
from inspire_d2.engine.dist import backend_of
from inspire_d2.engine.launch import check_processes, launch_main
from inspire_d2.engine.rendezvous import Machines
from inspire_d2.engine.signals import stop_signals
from inspire_d2.engine.slurm import SlurmTask
from inspire_d2.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def config(batch: int = 4, amp: bool = False) -> DictConfig:
    return OmegaConf.create(
        {
            "dataloader": {"train": {"total_batch_size": batch}},
            "train": {"amp": {"enabled": amp}},
        }
    )


def arguments(*words: str) -> argparse.Namespace:
    return argument_parser().parse_args([*words])


def test_flags_are_detectron2s() -> None:
    args = arguments("--num-gpus", "2", "--resume", "train.max_iter=3", "model.x=1")
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (2, 1, 0)
    assert args.resume and not args.eval_only and args.dist_url == "auto"
    assert args.opts == ["train.max_iter=3", "model.x=1"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--num-gpus", "0"], "must be 1 or more"),
        (["--num-machines", "2", "--machine-rank", "2"], "not within 0..1"),
        (["--num-machines", "2"], "needs --dist-url"),
    ],
)
def test_wrong_processes_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_processes(arguments(*words), config())


@pytest.mark.parametrize(
    ("dist", "sentence"),
    [
        ({"backend": "mpi"}, "train.dist.backend=mpi: not one of nccl, gloo"),
        ({"backend": "nccl"}, "no GPU that PyTorch can use"),
        ({"port": 0}, "train.dist.port=0: not within 1..65535"),
        ({"port": "x"}, "train.dist.port=x: not within 1..65535"),
        ({"timeout_s": 0}, "train.dist.timeout_s=0: not above 0"),
        ({"timeout_s": None}, "train.dist.timeout_s=None: not above 0"),
    ],
)
def test_wrong_ways_to_meet_are_refused(
    dist: dict[str, object], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = config()
    cfg.train.dist = dist
    with pytest.raises(InputError, match=sentence):
        check_processes(arguments(), cfg)


def test_machines_are_slurms(monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments("--slurm")
    args.slurm_task = SlurmTask("71", num_machines=2, rank=1, restarts=0, token="71.0.0")
    check_processes(args, config())
    assert (args.num_machines, args.machine_rank) == (2, 1)


def test_batch_must_divide_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="total_batch_size=4 is not a multiple of the 3"):
        check_processes(arguments("--num-gpus", "3"), config())
    check_processes(arguments("--num-gpus", "2"), config())
    check_processes(arguments("--num-gpus", "3", "--eval-only"), config())


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--num-gpus 2: this machine has 1"):
        check_processes(arguments("--num-gpus", "2"), config())


def test_processes_have_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cfg, two = config(), arguments("--num-gpus", "2")
    cfg.train.device = "cuda:1"
    check_processes(arguments(), cfg)
    with pytest.raises(InputError, match="cuda:1 is one GPU for 2 processes.*train.device=cuda"):
        check_processes(two, cfg)
    for device, backend in ((None, None), ("cuda", None), ("cpu", "gloo")):
        cfg.train.device = device
        check_processes(two, cfg)
        assert backend_of(cfg) == backend
    cfg.train.dist = {"backend": "nccl"}
    with pytest.raises(InputError, match="nccl is for GPUs, not for train.device=cpu"):
        check_processes(two, cfg)


def _leave_a_mark(args: argparse.Namespace, cfg: DictConfig) -> None:
    assert torch.distributed.is_initialized()
    destroy = torch.distributed.destroy_process_group
    mark = Path(cfg.train.output_dir) / str(comm.get_rank())

    def destroy_and_tell() -> None:
        destroy()
        mark.write_text(str(torch.distributed.is_initialized()))

    torch.distributed.destroy_process_group = destroy_and_tell


def test_processes_end_their_group_after_the_work(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path)}})
    launch_main(_leave_a_mark, arguments("--num-gpus", "2"), cfg)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"0": "False", "1": "False"}


def _wrong_for_the_second(args: argparse.Namespace, cfg: DictConfig) -> None:
    if comm.get_rank() == 1:
        raise InputError("image a.jpg cannot be read")
    comm.synchronize()


@pytest.mark.slow
def test_what_one_process_meets_is_told(capfd: pytest.CaptureFixture) -> None:
    cfg = OmegaConf.create({"train": {"output_dir": ""}})
    with pytest.raises(SystemExit) as stop:
        launch_main(_wrong_for_the_second, arguments("--num-gpus", "2"), cfg)
    assert stop.value.code == 2
    assert capfd.readouterr().err.count("error: image a.jpg cannot be read") == 1


def _fail_on_the_second(args: argparse.Namespace, cfg: DictConfig) -> None:
    if comm.get_rank() == 1:
        if cfg.train.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("no such thing")
    comm.synchronize()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_rank_that_dies_ends_the_run_and_is_named_first(
    killed: bool, capfd: pytest.CaptureFixture
) -> None:
    cfg = OmegaConf.create({"train": {"output_dir": "", "killed": killed}})
    with pytest.raises(SystemExit) as stop:
        launch_main(_fail_on_the_second, arguments("--num-gpus", "2"), cfg)
    assert stop.value.code == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    if killed:
        assert any("process 1 terminated with signal SIGKILL" in line for line in errors)
    else:
        assert errors[0].startswith("error: rank 1 of 2 on ") and errors[0].endswith(" failed:")


def _write_text(args: argparse.Namespace, cfg: DictConfig) -> None:
    with open("/dev/full", "w") as file:
        file.write("predictions")


def _write_tensors(args: argparse.Namespace, cfg: DictConfig) -> None:
    with open("/dev/full", "wb") as file:  # as Detectron2's COCOEvaluator writes predictions
        torch.save(torch.zeros(10), file)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("main", [_write_text, _write_tensors])
def test_a_full_disk_is_told(
    main: Callable[..., None], capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "stop_signals", type(stop_signals)())
    monkeypatch.setattr(launch.stop_signals, "install", lambda: None)
    cfg = OmegaConf.create({"train": {"output_dir": "runs/a", "device": "cpu"}})
    with pytest.raises(SystemExit) as stop:
        launch_main(main, arguments(), cfg)
    assert stop.value.code == 2
    assert "error: no space left on the disk of runs/a" in capfd.readouterr().err


def test_machines_of_different_flags_do_not_belong_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identities = set()

    def meet(machines: Machines) -> None:
        identities.add(machines.identity)
        raise InputError("met")

    monkeypatch.setattr(launch, "meet", meet)
    cfg = OmegaConf.create({"train": {"output_dir": "runs/a", "device": "cpu"}})
    for words in (("--num-gpus", "2"), ("--num-gpus", "3"), ("--num-gpus", "2", "--resume")):
        args = arguments(*words, "--num-machines", "2")
        args.slurm_task = None
        with pytest.raises(InputError, match="met"):
            launch_main(lambda *_: None, args, cfg)
    assert len(identities) == 2


@pytest.mark.parametrize(("requested", "code"), [(0, 1), (75, 75)])
def test_a_process_that_was_stopped_and_then_lost_the_others_has_not_failed(
    monkeypatch: pytest.MonkeyPatch, requested: int, code: int
) -> None:
    def main(*_: object) -> None:
        launch.stop_signals.requested = requested
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")

    monkeypatch.setattr(launch, "stop_signals", type(stop_signals)())
    monkeypatch.setattr(launch.stop_signals, "install", lambda: None)
    monkeypatch.setattr(launch, "PATIENCE_S", 0)
    monkeypatch.setattr(launch, "check_group", lambda *_: [])
    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    monkeypatch.setattr(comm, "get_local_size", lambda: 1)
    cfg = OmegaConf.create({"train": {"output_dir": "runs/a", "device": "cpu"}})
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as stop:
            launch._guarded(main, arguments(), cfg)
    finally:
        torch.set_num_threads(threads)
    assert stop.value.code == code


def test_groups_have_the_runs_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr(torch.distributed, "new_group", lambda **kw: made.append(kw))
    process = launch._Process(lambda *_: None, "job", None)
    monkeypatch.setattr(process, "_end_with_launcher", lambda number: None)
    process._init_process_group(lambda **_: None, "gloo", timeout=timedelta(seconds=7))
    torch.distributed.new_group(backend="gloo")
    torch.distributed.new_group(timeout=timedelta(seconds=8))
    assert made == [
        {"backend": "gloo", "timeout": timedelta(seconds=7)},
        {"timeout": timedelta(seconds=8)},
    ]


def test_backend_is_the_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr(torch.distributed, "new_group", torch.distributed.new_group)  # put back
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **kw: made.append(kw))
    monkeypatch.setattr(torch.multiprocessing, "_prctl_pr_set_pdeathsig", lambda number: None)
    process = launch._Process(_leave_a_mark, "job", None)
    process._launcher = os.getppid()
    mark = torch.distributed.init_process_group
    for backend in (None, "gloo"):
        process._backend = backend
        torch.distributed.init_process_group = mark
        # as a spawned process gets it, before Detectron2 makes the group
        pickle.loads(pickle.dumps(process))
        torch.distributed.init_process_group(backend="NCCL", rank=3)
    assert made == [{"backend": "NCCL", "rank": 3}, {"backend": "gloo", "rank": 3}]


# A process as torch spawns it, which waits for a group that does not come about.
WAITING = """
import multiprocessing, os, pickle, signal, sys, time
import torch
from inspire_d2.engine.launch import _Process

def wait(**options):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # as forward_signals leaves it
    print(os.getpid(), flush=True)
    time.sleep(600)

def child(data):
    torch.distributed.init_process_group = wait
    pickle.loads(data)
    torch.distributed.init_process_group(backend="gloo")

if __name__ == "__main__":
    process = _Process(print, "job", None)
    process._launcher += int(sys.argv[1])
    data = pickle.dumps(process)
    process = multiprocessing.get_context("spawn").Process(target=child, args=(data,))
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def waiting(folder: Path, another_launcher: int) -> "subprocess.Popen[str]":
    (folder / "waiting.py").write_text(WAITING)
    words = [sys.executable, folder / "waiting.py", str(another_launcher)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.slow
def test_a_process_that_waits_for_the_group_ends_with_its_launcher(tmp_path: Path) -> None:
    launcher = waiting(tmp_path, 0)
    pid = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid):
        assert time.monotonic() < end, "the process waits on"
        time.sleep(0.05)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
def test_a_process_whose_launcher_has_ended_already_does_not_wait(tmp_path: Path) -> None:
    launcher = waiting(tmp_path, 1)
    assert launcher.communicate(timeout=120)[0] == ""
    assert launcher.returncode == 1
