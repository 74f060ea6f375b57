"""What the cost benchmark refuses, each in one sentence."""

import pytest
import torch

from inspire_d2.errors import InputError
from tools import benchmark
from tools.cost import options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--subjects", "inspire-flow"], "no subject inspire-flow: did you mean inspire2-flow"),
        (["--scopes", "backbones"], "no scope backbones: did you mean backbone"),
        (["--modes", "zzz"], "no mode zzz: take forward, train, memory"),
        (["--sizes", "800by1333"], "such as 800x1333, not 800by1333"),
        (["--sizes", "1x2x3"], "not 1x2x3"),
        (["--sizes", "32"], "sides must be 64 pixels or more"),
        (["--rounds", "0"], "--rounds must be 1 or more, not 0"),
        (["--batches", "2", "0"], "--batches must be 1 or more, not 0"),
        (["--threads", "0"], "--threads must be 1 or more"),
        (["--precisions", "fp16"], "fp16 is for GPUs"),
        (["--quick", "--scaling"], "--quick and --scaling exclude each other"),
        (["--config-file", "a.py"], "--config-file goes with --startup"),
        (["--profile", "fpn", "--modes", "memory"], "--profile takes a mode that has a step"),
        (["--profile", "inspire2-flow", "--scopes", "pyramid"], "cannot be profiled in pyramid"),
        (["--profile", "fpn", "--modes", "forward", "train"], "one of --modes"),
        (["--profile", "fpn", "--sizes", "64", "128"], "one of --sizes"),
        (["--profile", "fpn", "--precisions", "fp32", "bf16"], "one of --precisions"),
        (["--profile", "fpn", "--rounds", "3"], "--rounds has no meaning with --profile"),
        (["--startup", "--sizes", "64"], "--sizes has no meaning with --startup"),
        (["--startup", "--rounds", "2"], "--rounds has no meaning with --startup"),
        (["--startup", "--channels-last"], "--channels-last has no meaning with --startup"),
        (["--seed", "-1"], "--seed must be 0 or more, and below 2^32, not -1"),
        (["--scoring", "--seed", "-1"], "--seed must be 0 or more"),
        (["--seed", str(10**20)], "--seed must be 0 or more"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        benchmark.main([*words, "--output", str(tmp_path / "none")])
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert not (tmp_path / "none").exists()


def test_a_gpu_that_is_not_there_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--devices", "cuda"])
    assert error.value.code == 2
    assert capsys.readouterr().err == "error: --devices cuda: torch finds no GPU here.\n"


def test_a_compiler_that_does_not_work_is_refused(monkeypatch):
    def no_compiler(function):
        raise RuntimeError("no C++ compiler\nand more of it")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(InputError, match="^--compile does not work on cpu here: no C.. compiler$"):
        options.fill_in(benchmark.argument_parser().parse_args(["--compile"]))


def test_an_output_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--output", str(tmp_path / "file" / "folder")])
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("error: cannot write to ")
