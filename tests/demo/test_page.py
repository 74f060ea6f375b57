"""The web demo in a real browser, and what it refuses before it starts."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

import inspire_d2
from inspire_d2.data.synthetic import make_image
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.findings import masks_of

from ..browser import contrast_of

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "demo" / "app.py"
CONFIG = ROOT / "configs" / "polyp" / "demo_mask_rcnn_inspire.py"


def contrast(tab: object, selector: str) -> float:
    """Return the contrast of an element's text with what is behind it, by WCAG's formula."""
    colours = tab.evaluate(
        """selector => {
            let element = document.querySelector(selector), behind;
            const colour = getComputedStyle(element).color;
            do {
                behind = getComputedStyle(element).backgroundColor;
                element = element.parentElement;
            } while (element && ["rgba(0, 0, 0, 0)", "transparent"].includes(behind));
            return [colour, behind];
        }""",
        selector,
    )
    return contrast_of(*colours)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def faults(tab: object) -> list[str]:
    """What went wrong in a tab; Gradio's own script cuts its streams of events when it has all."""
    streams = ("/queue/data?", "/upload_progress?")
    ours = [e for e in tab.errors if not e.endswith("ERR_ABORTED")]
    return ours + [e for e in tab.errors if e not in ours and not any(s in e for s in streams)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights, a picture, and files that are none."""
    folder = tmp_path_factory.mktemp("demo")
    cfg = load_config(str(CONFIG), ["dataloader.test.num_workers=0"])
    save_config(cfg, str(folder / "config.yaml"))
    torch.manual_seed(0)
    torch.save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    cv2.imwrite(str(folder / "picture.png"), make_image(1, 0, 96)[0])
    (folder / "text.png").write_text("no picture")
    whole = (folder / "picture.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (5000, 4000)).save(folder / "huge.png")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the run; at the end Ctrl-C ends the process and its folder of uploads is gone."""
    pytest.importorskip("gradio", reason="no web demo: pip install gradio")
    temporary = tmp_path_factory.mktemp("temporary")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, str(APP), "--run", str(folder), "--port", str(port), "--device", "cpu"],
        env=environment(temporary),
        stdout=subprocess.DEVNULL,
        stderr=(log := (temporary.parent / "demo.log").open("w+")),
        # A shell's background jobs ignore Ctrl-C, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None, (temporary.parent / "demo.log").read_text()
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield address
        assert list(temporary.glob("inspire_d2_demo_*"))
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
        assert not list(temporary.glob("inspire_d2_demo_*"))
        log.seek(0)
        told = log.read()
        # Gradio's own, of a path in a request
        assert told.count("Traceback") == told.count("InvalidPathError: ")
    finally:
        server.kill()
        server.wait()
        log.close()


def environment(temporary: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}


def mask_of(folder: Path, threshold: float) -> np.ndarray:
    """The mask, 0 or 255, by the package's own functions."""
    result = inspire_d2.load(folder, device="cpu")(folder / "picture.png")
    return masks_of(result, threshold).any(axis=0).astype(np.uint8) * 255


def downloaded(tab: object, folder: Path) -> np.ndarray:
    with tab.expect_download() as download:
        tab.click("text=Download the mask")
    assert download.value.suggested_filename == "picture_mask.png"
    download.value.save_as(folder / "mask.png")
    return cv2.imread(str(folder / "mask.png"), cv2.IMREAD_UNCHANGED)


@pytest.mark.slow
def test_picture_in_mask_out(browser, address: str, folder: Path, tmp_path: Path) -> None:
    scores = inspire_d2.load(folder, device="cpu")(folder / "picture.png").scores
    low, high = 0.51, 0.95
    assert len(scores) > 0 and scores.max() < high
    with browser.open(address) as tab:
        tab.wait_for_selector("text=not a medical device")
        tab.set_input_files("input[type=file]", folder / "picture.png")
        tab.wait_for_selector("#overlay img")
        first = tab.get_attribute("#overlay img", "src")
        expected = mask_of(folder, 0.5)
        mask = downloaded(tab, tmp_path)
        assert mask.shape == expected.shape and (mask == expected).mean() > 0.999

        move(tab, low)
        tab.wait_for_function(
            "old => document.querySelector('#overlay img').src !== old", arg=first
        )
        expected = mask_of(folder, low)
        assert expected.any()
        assert (downloaded(tab, tmp_path) == expected).mean() > 0.999
        # 20 of the polyps at most, under a line of titles
        assert len(tab.query_selector_all("#found tr")) == 1 + min(20, int((scores >= low).sum()))

        move(tab, high)
        tab.wait_for_selector("#found:has-text('Nothing of a score of 0.95')")
        assert not downloaded(tab, tmp_path).any()

        titles = " ".join(
            tab.eval_on_selector_all("#maps figcaption", "all => all.map(a => a.innerText)")
        )
        assert "step 1" in titles and "step 2" in titles and "λ" in titles
        assert faults(tab) == [] and tab.broken_images() == []
        assert tab.requests_elsewhere() == []


def move(tab: object, threshold: float) -> None:
    """Type a threshold beside the slider."""
    tab.fill("#threshold input[type=number]", str(threshold))
    tab.press("#threshold input[type=number]", "Enter")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(browser, address: str, folder: Path, theme: str) -> None:
    with browser.open(f"{address}?__theme={theme}") as tab:
        tab.set_input_files("input[type=file]", folder / "text.png")
        tab.wait_for_selector(".notice")
        found = {".notice": contrast(tab, ".notice")}
        tab.click("#side button[aria-label='Clear']")
        tab.set_input_files("input[type=file]", folder / "picture.png")
        tab.wait_for_selector("#overlay img")
        said = tab.get_attribute("#overlay img", "alt")
        assert "of a score of 0.50 or more" in said and said in tab.inner_text("#found")
        selectors = ("h1", ".small", "#side .small", "#found .small", "#found td", "a.button",
                     ".maps figcaption")  # fmt: skip
        found |= {one: contrast(tab, one) for one in selectors}
        assert all(value >= 4.5 for value in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.png", "text.png is not an image"),
        ("broken.png", "broken.png cannot be read"),
        ("huge.png", "5000x4000; 10 million pixels"),
    ],
)
def test_what_is_no_picture_is_told_in_a_sentence(
    browser, address: str, folder: Path, name: str, words: str
) -> None:
    with browser.open(address, viewport={"width": 360, "height": 740}) as tab:
        tab.set_input_files("input[type=file]", folder / name)
        tab.wait_for_selector(".notice")
        notice = tab.inner_text(".notice")
        assert words in notice and "Traceback" not in notice and "/" not in notice
        assert tab.query_selector("#overlay img") is None
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 360
        # The page goes on.
        tab.click("#side button[aria-label='Clear']")
        tab.set_input_files("input[type=file]", folder / "picture.png")
        tab.wait_for_selector("#overlay img")
        assert tab.query_selector(".notice") is None
        assert faults(tab) == []


@pytest.mark.slow
def test_only_uploads_are_taken(address: str, folder: Path) -> None:
    """A request may name an uploaded file, and no other of the server's, nor an address."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        with (folder / "picture.png").open("rb") as picture:
            (uploaded,) = client.post("/gradio_api/upload", files={"files": picture}).json()
        (event,) = [
            one["id"]
            for one in client.get("/config").json()["dependencies"]
            if len(one["outputs"]) == 7
        ]

        def taken(path: object) -> tuple[bool, str]:
            data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, 0.5]
            words = {"data": data, "fn_index": event, "session_hash": "test"}
            client.post("/gradio_api/queue/join", json=words).raise_for_status()
            with client.stream("GET", "/gradio_api/queue/data?session_hash=test") as lines:
                done = next(line for line in lines.iter_lines() if "process_completed" in line)
            done = json.loads(done.removeprefix("data: "))
            return done["success"], str(done["output"].get("error"))

        assert taken(uploaded)[0]
        assert not taken(folder / "picture.png")[0]
        assert taken(f"{address}/config") == (False, "Only an uploaded file is taken, no address.")


@pytest.mark.slow
def test_files_of_the_server_are_not_served(address: str, folder: Path) -> None:
    for path in (folder / "config.yaml", "/etc/passwd", ROOT / "README.md"):
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{address}/gradio_api/file={path}", timeout=10)
        assert raised.value.code in (403, 404)


@pytest.fixture
def refusal(monkeypatch, capsys) -> Iterator[Callable[..., str]]:
    """Call the app's main, which must exit with 2, and return what it printed."""
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # put back afterwards
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    handler = signal.getsignal(signal.SIGTERM)

    def call(*words: object) -> str:
        with pytest.raises(SystemExit) as raised:
            runpy.run_path(str(APP))["main"]([str(word) for word in words])
        assert raised.value.code == 2
        return capsys.readouterr().err

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_wrong_options_are_told_in_a_sentence(refusal, folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refusal("--run", folder, "--port", port)
    assert told.startswith(f"error: port {port} of 127.0.0.1 cannot be used")
    assert told.count("\n") == 1
    assert "--port 0 must be in 1..65535" in refusal("--run", folder, "--port", 0)


def test_unknown_run_is_told_in_a_sentence(refusal, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="no web demo: pip install gradio")
    told = refusal("--run", tmp_path / "none", "--port", free_port())
    assert told.startswith(f"error: {tmp_path / 'none'} does not exist")


def test_missing_gradio_is_told_in_a_sentence(refusal, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    told = refusal("--run", tmp_path, "--port", free_port())
    assert told.startswith("error: gradio cannot be imported") and told.count("\n") == 1
