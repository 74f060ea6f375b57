"""Trainings and scorings over two nodes, and two of them on one node."""

import json
import sys
from pathlib import Path

from .job import Job
from .lab import CONFIG, Lab


def test_two_nodes_train_as_one(two_nodes: Job) -> None:
    hosts = [two_nodes.processes()[rank][0] for rank in range(4)]
    assert hosts == ["n1", "n1", "n2", "n2"]
    lines = [
        json.loads(line) for line in (two_nodes.output / "metrics.json").read_text().splitlines()
    ]
    assert [line["iteration"] for line in lines if "total_loss" in line] == list(range(8))
    names = {path.name for path in two_nodes.output.glob("model_*.pth")}
    assert names == {"model_0000002.pth", "model_0000005.pth", "model_final.pth"}
    assert two_nodes.show()["Restarts"] == "0"


def test_two_nodes_score_as_one_process(
    lab: Lab, data: list[str], two_nodes: Job, tmp_path: Path
) -> None:
    overrides = (
        f"train.init_checkpoint={two_nodes.output}/model_final.pth",
        "dataloader.evaluator.evaluators.1.protocol=True",
    )
    job = lab.train(data, tmp_path / "two_nodes", "--eval-only", *overrides, nodes=2)
    alone = [
        sys.executable, "train_net.py", "--config-file", CONFIG, "--eval-only", *data, *overrides,
        f"train.output_dir={tmp_path / 'alone'}",
    ]  # fmt: skip
    job.wait()
    lab.run(*alone)
    for name in ("evaluation.json", "coco_instances_results.json", "polyp_per_image.json"):
        ours, theirs = (
            json.loads((tmp_path / run / "evaluation" / name).read_text())
            for run in ("two_nodes", "alone")
        )
        assert ours == theirs, name
        assert name != "evaluation.json" or "polyp_protocol" in ours


def test_two_runs_share_a_node(side_by_side: tuple[Job, Job]) -> None:
    first, second = side_by_side
    own, other = (set(job.processes().values()) for job in side_by_side)
    assert {host for host, _ in own | other} == {"n1"} and len(own | other) == 4
    for job in side_by_side:
        # Where its machines met is nobody's business any more.
        assert not list(job.output.glob(".rendezvous-*"))
