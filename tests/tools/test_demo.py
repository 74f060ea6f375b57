"""tools/demo.py ends by Ctrl-C as the script does that it runs."""

import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# A job in the background of a shell ignores Ctrl-C, and so would what it starts.
HEED_CTRL_C = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
SAVES = """
    import pathlib, sys, time
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(2)  # as long as an iteration
        pathlib.Path(sys.argv[1]).touch()
        sys.exit(130)
"""


def test_ctrl_c_leaves_time_to_save(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SAVES))
    script, saved = str(tmp_path / "script.py"), str(tmp_path / "saved")
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import demo"
    code += f"; demo.call({script!r}, {saved!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=HEED_CTRL_C,
    ) as process:
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert (tmp_path / "saved").exists()
    assert "Traceback" not in said
