"""demo/app.py: how it ends, and at which addresses it listens."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .test_page import ROOT, environment

# The app, but for the page: it tells where uploads lie, and waits.
WAITS = f"""
    import os, sys, threading
    sys.path.insert(0, {str(ROOT)!r})
    from demo import app

    def serve(args):
        print(os.environ["GRADIO_TEMP_DIR"], flush=True)
        threading.Event().wait()

    app.serve = serve
    app.main(["--run", "any"])
"""


@pytest.mark.parametrize("under_nohup", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_uploads_are_removed(number: int, under_nohup: bool, tmp_path: Path) -> None:
    def heed_signals() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if under_nohup else signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITS)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    ) as process:
        uploads = Path(process.stdout.readline().strip())
        assert uploads.parent == tmp_path and uploads.is_dir()
        process.send_signal(number)
        if under_nohup and number == signal.SIGHUP:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.terminate()
        assert process.wait(timeout=30) == 0
    assert not uploads.exists()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_ipv6(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="no web demo: pip install gradio")
    import demo.page
    from demo import app

    class Page:
        def launch(self, *, server_name: str, **_: object) -> None:
            assert server_name == "[::1]"  # as gradio wants it

        def close(self, **_: object) -> None:
            pass

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # put back afterwards
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("inspire_d2.load", lambda *_, **__: None)
    monkeypatch.setattr(demo.page, "build", lambda *_: Page())
    monkeypatch.setattr("threading.Event.wait", stop)
    monkeypatch.setattr(app, "check_port", lambda name, _: name == "::1" or pytest.fail(name))
    app.main(["--run", "any", "--host", host])
    assert "http://[::1]:7860 " in capsys.readouterr().out
