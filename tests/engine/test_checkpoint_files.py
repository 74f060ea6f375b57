"""Checkpoints survive a full disk and a kill while they are written, and damage is gone round."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.checkpoint_files import newest_checkpoint, replace_file, save_checkpoint
from inspire_d2.errors import InputError

VALUES = {"a": torch.arange(5000.0)}


def write(folder: Path, *names: str, last: str | None = None) -> None:
    for name in names:
        save_checkpoint(VALUES, str(folder / name))
    if last is not None:
        replace_file(str(folder / "last_checkpoint"), last)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # Within the tensor's values: the archive's structure stays right.
    middle = content.index(torch.arange(2000.0, 2100.0).numpy().tobytes())
    content[middle] ^= 1
    path.write_bytes(content)


def break_the_names(path: Path) -> None:
    # In the table of contents, at the end: names that are said to be UTF-8, and are not.
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 9] |= 0x08
    content[entry + 46] = 0xFF
    path.write_bytes(content)


def encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 0x01
    path.write_bytes(content)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, "model_0000001.pth", last="model_0000001.pth")
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]
    assert torch.equal(torch.load(newest_checkpoint(str(tmp_path)))["a"], VALUES["a"])


def test_the_last_is_the_one_that_is_named(tmp_path: Path) -> None:
    assert newest_checkpoint(str(tmp_path)) == ""
    write(tmp_path, "model_0000009.pth", "model_0000010.pth", "other.pth", last="other.pth")
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "other.pth")
    # A kill between a checkpoint and its naming.
    (tmp_path / "last_checkpoint").unlink()
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "model_0000010.pth")
    write(tmp_path, "model_final.pth")
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "model_final.pth")


def test_a_final_one_counts_by_its_iteration(tmp_path: Path) -> None:
    """As in a run that had come to its end, and was trained on."""
    for name, iteration in (("model_0000499", 499), ("model_final", 999), ("model_0001499", 1499)):
        save_checkpoint(VALUES | {"iteration": iteration}, str(tmp_path / f"{name}.pth"))
    replace_file(str(tmp_path / "last_checkpoint"), "model_0001999.pth")  # which is gone
    for name in ("model_0001499", "model_final", "model_0000499"):
        assert newest_checkpoint(str(tmp_path)) == str(tmp_path / f"{name}.pth")
        (tmp_path / f"{name}.pth").unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_bit, break_the_names, encrypt, Path.unlink, empty]
)
def test_damage_is_gone_round(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"model_{iteration:07d}.pth" for iteration in (99, 199, 1000)]
    write(tmp_path, *names, last=names[-1])
    damage(tmp_path / names[-1])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(str(tmp_path)) == str(tmp_path / names[1])
    assert "model_0001000.pth is damaged or gone" in caplog.text and names[1] in caplog.text
    for name in names[:2]:
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="no checkpoint in .* is whole"):
        newest_checkpoint(str(tmp_path))


def test_resume_takes_the_newest_whole_one(tmp_path: Path) -> None:
    model = nn.Linear(40, 40)
    saved = ReportingCheckpointer(model, str(tmp_path))
    for iteration in (0, 1):
        nn.init.constant_(model.weight, iteration)
        saved.save(f"model_{iteration:07d}", iteration=iteration)
    truncate(tmp_path / "model_0000001.pth")
    other = nn.Linear(40, 40)
    checkpointer = ReportingCheckpointer(other, str(tmp_path))
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 0
    assert checkpointer.resumed and (other.weight == 0).all()
    checkpointer.resume_or_load("", resume=False)
    assert not checkpointer.resumed


FULL = """
import resource, signal, sys, torch
from inspire_d2.engine.checkpoint_files import save_checkpoint
from inspire_d2.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    save_checkpoint({"a": torch.zeros(100000)}, sys.argv[1])
except InputError as error:
    print(error)
"""


def test_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    """A limit on the size of files fails a write in its middle, as a full disk does."""
    write(tmp_path, "model_0000001.pth", last="model_0000001.pth")
    path = str(tmp_path / "model_0000002.pth")
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert "model_0000002.pth cannot be written to" in done.stdout, done.stderr
    assert "File too large" in done.stdout and done.stdout.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]


# For each line, a process that writes until it is killed; one that imports what it needs is enough.
WRITERS = """
import os, sys, torch
from inspire_d2.engine.checkpoint import ReportingCheckpointer

for _ in sys.stdin:
    writer = os.fork()
    if writer == 0:
        break
    print(writer, flush=True)
    os.waitpid(writer, 0)
    print("ended", flush=True)
else:
    sys.exit()
model = torch.nn.Linear(3000, 1000)
checkpointer = ReportingCheckpointer(model, sys.argv[1])
for iteration in range(10**6):
    torch.nn.init.constant_(model.weight, iteration)
    checkpointer.save(f"model_{iteration % 3:07d}", iteration=iteration)
    print(iteration, flush=True)
"""


@pytest.mark.slow
def test_kill_leaves_the_last_whole(tmp_path: Path) -> None:
    """Kill -9 at moments all through a write: what is named last is whole, and as new as said."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # A forked process has no other threads.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRITERS, str(tmp_path)]
    with subprocess.Popen(command, env=environment, **pipes) as writers:
        for delay in (0.0, 0.003, 0.007, 0.011, 0.017, 0.023):
            print(file=writers.stdin, flush=True)
            writer, _, told = (int(writers.stdout.readline()) for _ in range(3))
            time.sleep(delay)
            os.kill(writer, signal.SIGKILL)
            for line in iter(writers.stdout.readline, "ended\n"):
                told = int(line)
            last = tmp_path / (tmp_path / "last_checkpoint").read_text()
            assert newest_checkpoint(str(tmp_path)) == str(last)  # not gone round
            loaded = torch.load(last)
            assert loaded["iteration"] in (told, told + 1)
            assert (loaded["model"]["weight"] == loaded["iteration"]).all()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_damaged_name_of_the_last_is_gone_round(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "model_0000001.pth")
    (tmp_path / "last_checkpoint").write_bytes(content)
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / "model_0000001.pth")
    (tmp_path / "model_0000001.pth").unlink()
    with pytest.raises(InputError, match=r"is whole \(.+ damaged or gone\)"):
        newest_checkpoint(str(tmp_path))
