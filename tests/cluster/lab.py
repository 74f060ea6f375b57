"""A throw-away Slurm cluster, and how trainings are submitted to it."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .job import PATIENCE_S, Job, hold_folder

ROOT = Path(__file__).resolve().parents[2]
JOBS = Path(__file__).with_name("jobs")
CONFIG = JOBS / "tiny.py"
NODES = ("n1", "n2")
# Waits for the end of its input, then stops the cluster. A node's network goes with its last
# connection, minutes later where the other end is gone: not so its cable.
SWEEP = """
cat >/dev/null
"$1/stop_slurm.sh" "$2"
for node in "${@:4}"; do ip link del "$3-$node"; done
"""


class Lab:
    """The cluster of ``scripts`` (start_slurm.sh and stop_slurm.sh), which lives in ``folder``."""

    def __init__(self, scripts: Path, folder: Path) -> None:
        self._scripts, self._folder = scripts, folder
        number = os.getpid() % 200
        cluster = {
            "LAB_NET": "netns",
            "LAB_BRIDGE": f"lab{os.getpid() % 10**6}",
            "LAB_PORT": str(7200 + 10 * number),
            "LAB_SUBNET": f"10.213.{20 + number}",
            "LAB_KILL_WAIT": "15",  # from SIGTERM to SIGKILL: a checkpoint on a busy machine
        }
        # The variables of a job in which these tests may run are not those of the jobs here.
        own = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
        self.env = cluster | own | {
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(JOBS),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        }  # fmt: skip
        if sys.dont_write_bytecode:
            # Else every process of every job compiles all it imports: two thirds of its time.
            prefix = folder.with_name("bytecode")
            self.env |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(prefix)}

    def start(self) -> None:
        """Start the daemons, on two CPUs, so that a job's processes get as many threads anywhere.

        Raises:
            RuntimeError: they did not start; the message holds their logs' last lines.
        """
        # Ends with its input, so that nothing stays when the tests are killed.
        self._sweeper = subprocess.Popen(
            ["bash", "-c", SWEEP, "-", self._scripts, self._folder, self.env["LAB_BRIDGE"], *NODES],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
        done = subprocess.run(
            ["taskset", "-c", cpus, self._scripts / "start_slurm.sh", self._folder],
            env=self.env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the cluster does not start:\n{done.stderr}")

    def stop(self) -> None:
        """End all jobs and daemons."""
        self._sweeper.communicate()

    def run(self, *words: object, stdin: str | None = None) -> str:
        """Run a command as a user of the cluster; return what it prints.

        Raises:
            AssertionError: it fails.
        """
        done = subprocess.run(
            [*map(str, words)], env=self.env, cwd=ROOT, input=stdin, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{shlex.join(map(str, words))}: {done.stderr}{done.stdout}"
        return done.stdout

    def submit(self, script: str, output: Path, *options: str) -> "Job":
        """Submit a script, with sbatch's options; ``output`` is the folder of the run in it."""
        log = output.with_name(output.name + ".out")
        job_id = self.run(
            "sbatch", "--parsable", "--open-mode=append", f"--output={log}", *options,
            stdin=f"#!/bin/bash\n{script}\n",
        )  # fmt: skip
        return Job(self, job_id.strip(), log, output)

    def train(
        self,
        options: list[str],
        output: Path,
        *words: str,
        nodes: int = 1,
        hold: bool = False,
        sbatch: tuple[str, ...] = (),
        before: str = "",
    ) -> "Job":
        """Submit a training of two processes a node, of which ``hold`` makes all wait halfway.

        Args:
            options: overrides that name the data.
            words: train_net.py's flags, then more overrides, in which $SLURM_NODEID may stand.
            sbatch: more options of sbatch.
            before: shell commands to run first.
        """
        flags = [word for word in words if word.startswith("-")]
        more = [word for word in words if not word.startswith("-")]
        if hold:
            more.append(f"lr_multiplier.folder={hold_folder(output)}")
        command = [
            sys.executable, "train_net.py", "--slurm", "--num-gpus", "2",
            "--config-file", str(CONFIG), *flags, *options, f"train.output_dir={output}",
        ]  # fmt: skip
        # A shell on every node, so that words may hold variables of it.
        each = ["srun", "--kill-on-bad-exit=1", "bash", "-c", f'exec "$@" {" ".join(more)}', "-"]
        return self.submit(
            f"{before}\n{shlex.join(each + command)}", output,
            f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=2", "--requeue", *sbatch,
        )  # fmt: skip

    def preempt(self, node: str, folder: Path) -> None:
        """Submit something urgent that needs a whole node, for as long as it takes to begin."""
        options = ("--partition=high", f"--nodelist={node}", "--cpus-per-task=4")
        self.submit("true", folder / "urgent", *options)

    @contextlib.contextmanager
    def power_failure(self, node: str) -> Iterator[None]:
        """Cut a node off and kill all that runs on it; afterwards bring it back, empty.

        Nobody is told that its connections end, as where its power fails.
        """
        (daemon,) = (
            pid for pid in _pids() if _words(pid)[:1] == ["slurmd"] and _words(pid)[-1] == node
            and self._is_ours(pid)
        )  # fmt: skip
        enter = ["nsenter", f"--target={daemon}", "--net", "--uts", "--mount"]
        env = self.env | {"SLURM_TEST_CLUSTER": str(self._folder)}  # stop_slurm.sh ends it
        # Keeps the node's network in being.
        keeper = subprocess.Popen([*enter, "sleep", "infinity"], env=env)
        _wait_until(lambda: _network(keeper.pid) == _network(daemon))
        network, cable = _network(daemon), f"{self.env['LAB_BRIDGE']}-{node}"
        self.run("ip", "link", "set", cable, "down")
        for pid in _pids():
            if _network(pid) == network and pid != keeper.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            # What it would find out by itself after SlurmdTimeout.
            self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=power")
            yield
        finally:
            self.run("ip", "link", "set", cable, "up")
            enter[1] = f"--target={keeper.pid}"
            subprocess.Popen(
                [*enter, "slurmd", "-D", "-N", node],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            _wait_until(lambda: self._is_back(node))
            keeper.kill()
            keeper.wait()

    def _is_back(self, node: str) -> bool:
        """Whether a node answers and takes jobs; tell Slurm to use it again if it is down."""
        state = self.run("sinfo", "-hNn", node, "-p", "normal", "-o%t").strip()
        if "down" in state:
            # It may have come back by itself since it was asked, which Slurm calls an error.
            with contextlib.suppress(AssertionError):
                self.run("scontrol", "update", f"nodename={node}", "state=resume")
        return state in ("idle", "mix", "alloc")

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            mark = f"SLURM_TEST_CLUSTER={self._folder}".encode()
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def obstacle(scripts: Path) -> str:
    """Say why no cluster can be started here, "" if one can."""
    needed = ("slurmctld", "slurmd", "munged", "sbatch", "ip", "unshare", "nsenter", "taskset")
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge iproute2"
    if not (scripts / "start_slurm.sh").is_file():
        return f"{scripts} has no start_slurm.sh: name its folder in SLURM_LAB"
    if os.geteuid() != 0:
        return "a Slurm cluster of one's own needs root"
    isolated = subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True)
    return "" if isolated.returncode == 0 else "no namespaces may be made here"


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    return []


def _network(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return ""
