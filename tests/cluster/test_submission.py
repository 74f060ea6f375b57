"""tools/submit.py on a cluster: an array of configs, and a run that is preempted."""

import json
import re
import sys
from pathlib import Path

import pytest

from .job import Job, hold_folder
from .lab import CONFIG, Lab

pytest.importorskip("submitit")

TOLD = re.compile(r"^job (\S+): .*\n +follow +tail -F (\S+)$", re.MULTILINE)


def submit(lab: Lab, outputs: list[Path], *words: object) -> list[Job]:
    """Submit runs through the tool as a user does, and take what it tells of each."""
    told = lab.run(sys.executable, "tools/submit.py", "--gpus-per-node", "0", *words)
    found = TOLD.findall(told)
    return [
        Job(lab, job_id, Path(log), output)
        for (job_id, log), output in zip(found, outputs, strict=True)
    ]


def test_an_array_of_configs(lab: Lab, two_nodes: Job, tmp_path: Path) -> None:
    config = (two_nodes.output / "config.yaml").read_text()
    outputs = [tmp_path / name for name in ("a", "b")]
    for output in outputs:
        mine = config.replace(str(two_nodes.output), str(output))
        output.with_suffix(".yaml").write_text(mine)
    configs = [output.with_suffix(".yaml") for output in outputs]
    jobs = submit(lab, outputs, "--array-of-configs", *configs, "--", "train.max_iter=2")
    assert jobs[0].job_id.partition("_")[0] == jobs[1].job_id.partition("_")[0]
    for job in jobs:
        job.wait()
        assert json.loads((job.output / "evaluation.json").read_text())


def test_after_preemption(
    lab: Lab, data: list[str], side_by_side: tuple[Job, Job], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    (job,) = submit(
        lab, [output], "--sbatch", "nodelist=n1", "--time", "10", "--",
        "--config-file", CONFIG, "--num-gpus", "2", *data, f"train.output_dir={output}",
        f"lr_multiplier.folder={hold_folder(output)}",
    )  # fmt: skip
    job.wait_held(2)
    lab.preempt("n1", tmp_path)
    job.wait()
    job.expect_saved_and_queued_again()
    job.expect_equal(side_by_side[0])
