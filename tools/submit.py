#!/usr/bin/env python
"""Submit a run to Slurm, which queues it again where preemption or the time limit stops it.

    python tools/submit.py --nodes 2 --gpus-per-node 8 --time 600 -- \\
        --config-file configs/coco/mask_rcnn_r50_inspire_1x.py train.output_dir=runs/my

What follows `--` is train_net.py's: flags, then overrides of the config. Each node starts one
process per GPU; --num-gpus after `--` asks for fewer. Without GPUs (--gpus-per-node 0) a node
starts --num-gpus processes on its CPUs.

Several configs as one job array, each with the train.output_dir that it names; what would be
submitted; the same run on this machine, without Slurm:

    python tools/submit.py --gpus-per-node 8 --array-of-configs A.py B.py -- train.seed=1
    python tools/submit.py --gpus-per-node 8 --dry-run -- --config-file A.py
    python tools/submit.py --gpus-per-node 0 --local -- --config-file A.py --num-gpus 2

The request is checked first: config, overrides, data, folders, batch. Logs and what submitit keeps
of a job go to <train.output_dir>/slurm, of an array to that of its first config. Python, packages
and the working folder are those of this command, and must be seen by the nodes.
"""

import argparse
import contextlib
import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    import submitit

    from tools.submit_checks import Run

# Options of sbatch that are handed on as they are.
HANDED_ON = ("partition", "account", "qos", "constraint", "mem", "exclude")
# Those that have options here, or whose values the job rests on.
OWN = (
    *("array", "cpus-per-task", "error", "gpus-per-node", "job-name", "nodes", "ntasks"),
    *("ntasks-per-node", "open-mode", "output", "signal", "time", "wrap"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Check the request, then submit it; exits with 2 where it is wrong."""
    args, words = parse(sys.argv[1:] if argv is None else argv)
    with exit_on_input_error():
        check_request(args)

        from tools.submit_checks import prepare

        runs = prepare(args, words)
        if args.dry_run:
            show(args, runs)
        else:
            executor = local_executor(args, runs) if args.local else slurm_executor(args, runs)
            tell(args, runs, submit(runs, executor))


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; return what is ours, and the words after ``--``."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] -- --config-file FILE [train_net.py's flags] [KEY=VALUE ...]",
    )  # fmt: skip
    add = parser.add_argument
    add("--nodes", type=int, default=1, help="machines (default: %(default)s)")
    add("--gpus-per-node", type=int, default=1, metavar="N", help="0 for none (default: 1)")
    add(
        "--time", type=int, default=1440, metavar="MINUTES",
        help="limit of one start; a run that takes longer is queued again (default: a day)",
    )  # fmt: skip
    add("--job-name", default="inspire_d2", metavar="NAME", help="default: %(default)s")
    add(
        "--cpus-per-task", type=int, metavar="N",
        help="CPUs for each process (default: the config's data loading workers, and one)",
    )  # fmt: skip
    add(
        "--signal-delay", type=int, default=90, metavar="SECONDS",
        help="time for a checkpoint before the time limit (default: %(default)s)",
    )  # fmt: skip
    for name in HANDED_ON:
        add(f"--{name}", help="as sbatch has it")
    add(
        "--sbatch", action="append", default=[], metavar="NAME=VALUE",
        help="any other option of sbatch, such as reservation=R or gres=gpu:a100:8",
    )  # fmt: skip
    add("--array-of-configs", nargs="+", metavar="CONFIG", help="in place of --config-file")
    add("--local", action="store_true", help="run on this machine; ignores what is Slurm's alone")
    add("--dry-run", action="store_true", help="print what would be submitted")
    return parser.parse_args(argv[:end]), list(argv[end + 1 :])


def check_request(args: argparse.Namespace) -> None:
    """Raise InputError where an option of the job cannot be used, or not here."""
    for name, least in (("nodes", 1), ("gpus_per_node", 0), ("time", 1), ("signal_delay", 0)):
        if getattr(args, name) < least:
            option = name.replace("_", "-")
            raise InputError(f"--{option} {getattr(args, name)}: must be {least} or more.")
    if args.cpus_per_task is not None and args.cpus_per_task < 1:
        raise InputError(f"--cpus-per-task {args.cpus_per_task}: must be 1 or more.")
    if args.signal_delay >= args.time * 60:
        raise InputError(
            f"--signal-delay {args.signal_delay}: the job would be told to stop as it begins, as "
            f"--time {args.time} gives it {args.time * 60} seconds."
        )
    for option in args.sbatch:
        name = option.partition("=")[0]
        if not name or name.startswith("-"):
            raise InputError(f"--sbatch {option}: not of the form NAME=VALUE.")
        if name in OWN:
            raise InputError(
                f"--sbatch {option}: this tool sets that itself; see its own options (--help)."
            )
    if args.local and (args.nodes > 1 or args.array_of_configs):
        raise InputError("--local runs one config on one machine, in one job.")
    if (
        not args.local
        and not args.dry_run
        and not (shutil.which("sbatch") and shutil.which("srun"))
    ):
        raise InputError(
            "sbatch is not to be found: submit from a login node of the cluster, or pass --dry-run "
            "or --local."
        )


def slurm_executor(args: argparse.Namespace, runs: list["Run"]) -> "submitit.SlurmExecutor":
    """Return what writes the script for sbatch and submits it."""
    import submitit

    class Executor(submitit.SlurmExecutor):
        """One that writes scripts where there is no Slurm, too."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    workers = max(run.cfg.dataloader.train.get("num_workers", 0) for run in runs)
    # One task a node, which starts all processes of it.
    cpus = runs[0].job.processes * (args.cpus_per_task or workers + 1)
    more = dict(option.split("=", 1) if "=" in option else (option, True) for option in args.sbatch)
    executor = Executor(folder_of(runs))
    executor.update_parameters(
        job_name=args.job_name,
        time=args.time,
        nodes=args.nodes,
        ntasks_per_node=1,
        cpus_per_task=cpus,
        gpus_per_node=args.gpus_per_node or None,
        signal_delay_s=args.signal_delay,
        stderr_to_stdout=True,
        wckey=None,  # submitit's own, which a cluster that checks these would refuse
        setup=[f"export PYTHONPATH={shlex.quote(python_path())}"],
        # Without the first, a node waits for one that has failed; without the second, since Slurm
        # 22.05, all processes of a node would share one CPU.
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}"],
        # Some clusters queue jobs again only where asked to.
        additional_parameters={
            **({} if "no-requeue" in more else {"requeue": True}),
            **{k.replace("-", "_"): v for k, v in more.items()},
        },
        **{name: getattr(args, name) for name in HANDED_ON},
    )
    return executor


def local_executor(args: argparse.Namespace, runs: list["Run"]) -> "submitit.LocalExecutor":
    """Return what runs a job on this machine, in the background.

    Raises:
        InputError: it has fewer GPUs than asked for.
    """
    import submitit
    import torch

    gpus = torch.cuda.device_count()
    if args.gpus_per_node > gpus:
        raise InputError(f"--gpus-per-node {args.gpus_per_node}: this machine has {gpus}.")
    executor = submitit.LocalExecutor(folder_of(runs))
    executor.update_parameters(
        timeout_min=args.time,
        gpus_per_node=args.gpus_per_node,
        visible_gpus=visible_gpus() if args.gpus_per_node else (),
        signal_delay_s=args.signal_delay,
        stderr_to_stdout=True,
    )
    os.environ["PYTHONPATH"] = python_path()
    return executor


def folder_of(runs: list["Run"]) -> Path:
    """Return where submitit keeps scripts, logs and results.

    Raises:
        InputError: Slurm would read something else into the name.
    """
    folder = Path(runs[0].job.output_dir).absolute() / "slurm"
    if "%" in str(folder):
        raise InputError(f"train.output_dir={folder.parent}: Slurm takes no % in its logs' names.")
    return folder


def python_path() -> str:
    """Return PYTHONPATH for a job, which is to find this checkout where it is not installed."""
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))


def visible_gpus() -> tuple[int, ...]:
    """Return CUDA_VISIBLE_DEVICES, which submitit would not heed; () where it is not set."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    try:
        return tuple(int(name) for name in names.split(",") if name)
    except ValueError as error:
        raise InputError(f"CUDA_VISIBLE_DEVICES={names}: --local needs numbers there.") from error


def submit(runs: list["Run"], executor: "submitit.Executor") -> list["submitit.Job[None]"]:
    """Submit one job, or several as one array.

    Raises:
        InputError: Slurm refuses them, with its reason, or the logs' folder cannot be made.
    """
    from submitit.core.utils import FailedJobError

    try:
        # submitit prints the reason as well.
        with contextlib.redirect_stderr(io.StringIO()), _outside_of_a_job():
            if len(runs) == 1:
                return [executor.submit(runs[0].job)]
            with executor.batch():
                jobs = [executor.submit(run.job) for run in runs]
            return jobs
    except FailedJobError as error:
        lines = [line for line in str(error).splitlines() if line and not line.startswith("Try ")]
        reason = (lines or ["sbatch failed"])[-1].removeprefix("sbatch: error: ")
        raise InputError(f"Slurm refuses the job: {reason.removeprefix('sbatch: ')}.") from error
    except OSError as error:
        raise InputError(f"the job's logs: {error}.") from error


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the variables of a job that this runs in, which Slurm would hand on to the new one."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def show(args: argparse.Namespace, runs: list["Run"]) -> None:
    """Print what sbatch would be given, and what it runs on each node."""
    if not args.local:
        executor = slurm_executor(args, runs)
        if len(runs) > 1:
            executor.parameters["map_count"] = len(runs)
        print(executor._make_submission_file_text(executor._submitit_command_str, uid=""))
    for number, run in enumerate(runs):
        where = f"task {number} of the array, each node" if len(runs) > 1 else "each node"
        print(f"# {where}: {shlex.join(run.job.command())}")
    print("nothing was submitted", file=sys.stderr)


def tell(args: argparse.Namespace, runs: list["Run"], jobs: list["submitit.Job[None]"]) -> None:
    """Print each job's id and log, and the commands to follow, look and cancel."""
    for run, job in zip(runs, jobs, strict=True):
        nodes = f"{args.nodes} node{'s' if args.nodes > 1 else ''}"
        print(f"job {job.job_id}: {run.config_file} on {nodes}, {run.job.processes} processes each")
        print(f"  follow  tail -F {shlex.quote(str(job.paths.stdout))}")
        if args.nodes > 1:
            print(f"          (node 0's; of node 1: {job.job_id}_1_log.out, and so on)")
        if args.local:
            print(f"  look    ps -fp {job.job_id}")
            print(f"  stop    kill {job.job_id}    (it writes a checkpoint first)")
        else:
            print(f"  look    squeue --jobs {job.job_id}")
            print(f"  cancel  scancel {job.job_id}")
    if len(jobs) > 1:
        array = jobs[0].job_id.partition("_")[0]
        print(f"all of the array: squeue --jobs {array}; scancel {array}")


if __name__ == "__main__":
    main()
