"""tools/demo.py: how it ends by a signal, as the script does that it runs; what it refuses."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config
from tools import demo

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# As a training does: a note of the first signal, an iteration's end, a checkpoint.
SAVES = """
    import pathlib, signal, sys, time
    noted = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: noted.append(number))
    print("ready", flush=True)
    while not noted:
        time.sleep(0.1)
    time.sleep(1)
    if noted.count(signal.SIGINT) < 2:
        pathlib.Path(sys.argv[1]).touch()
"""


def heed_signals() -> None:
    """Undo what these tests may inherit: of a shell's job in the background, of nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def send_to_process(pid: int, number: int) -> None:
    os.kill(pid, number)


def send_to_group(pid: int, number: int) -> None:
    os.killpg(pid, number)


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (send_to_group, signal.SIGINT, 130),  # a terminal's Ctrl-C
        (send_to_process, signal.SIGINT, 130),
        (send_to_process, signal.SIGTERM, 143),  # of `kill`, `timeout` or make
        (send_to_group, signal.SIGHUP, 129),  # a terminal that closes
    ],
)
def test_signals_leave_time_to_save(
    send: Callable[[int, int], None], number: int, code: int, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SAVES))
    script, saved = str(tmp_path / "script.py"), str(tmp_path / "saved")
    program = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import demo"
    program += f"; demo.call({script!r}, {saved!r})"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    ) as process:
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        send(process.pid, number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert (tmp_path / "saved").exists()
    assert "Traceback" not in said


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, TOOLS / "demo.py", "--output", "file"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{tmp_path / 'file'} is a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_folder_is_seen_from_where_the_demo_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands, shown = [], []
    monkeypatch.setattr(demo, "call", lambda *words: commands.append(words))
    monkeypatch.setattr(demo, "show", lambda *found: shown.append(found))
    monkeypatch.chdir(tmp_path)
    demo.main(["--output", "a (1)"])
    folder = tmp_path / "a (1)"
    assert (folder / demo.MARKER).exists()
    config, *overrides = commands[2][2:]
    cfg = load_config(str(demo.REPOSITORY / config), list(map(str, overrides)))
    assert cfg.train.output_dir == str(folder / "run")
    assert cfg.dataloader.test.dataset.json_file == str(folder / "data/annotations/val.json")
    assert shown[0][:3] == (folder / "data", folder / "run", folder)


def test_a_folder_for_the_run_alone_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOLS / "demo.py", "--output", tmp_path / "demo",
         f"train.output_dir={tmp_path}/run"], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "name it by --output" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "-1"], "--seed -1 must be in 0.."),
        (["train.max_itre=5"], "max_itre"),
        (["train.max_iter=no"], "max_iter"),
    ],
)
def test_wrong_options_leave_the_demo_before(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / demo.MARKER).touch()
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit) as ended:
        demo.main(["--output", str(tmp_path), *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("folder", ["/proc/x", "file/sub"])
def test_folders_that_cannot_be_made(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        demo.main(["--output", str(tmp_path / folder)])  # of two absolute paths the last
    assert ended.value.code == 2
    assert "cannot be made: " in capsys.readouterr().err
