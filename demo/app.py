#!/usr/bin/env python
"""Serve a page where a picture is dropped and a trained model's polyps are seen.

    pip install -e '.[demo]'
    python demo/app.py --run runs/my
    python demo/app.py --run polyp/demo_mask_rcnn_inspire --checkpoint model_final.pth --port 8000

The page has an overlay with scores, a threshold that redraws without the model, the mask as a
file, a table, and INSPIRE's maps step by step. Ctrl-C ends it, and removes what was uploaded.
Whoever reaches --host and --port can use it: there is no password.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error


def main(argv: list[str] | None = None) -> None:
    """Serve the page until Ctrl-C; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="output folder of train_net.py, or a config file")
    add("--checkpoint", metavar="FILE", help="weights (default: the run's newest)")
    add("--port", type=int, default=7860, help="(default 7860)")
    add("--host", default="127.0.0.1", help="address (default 127.0.0.1: this machine alone)")
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    with exit_on_input_error(), contextlib.suppress(KeyboardInterrupt):
        for number in (signal.SIGTERM, signal.SIGHUP):  # they clean up as Ctrl-C does
            if signal.getsignal(number) != signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, signal.default_int_handler)
        args.host = args.host.strip("[]")
        with environment(args.host):
            serve(args)


def serve(args: argparse.Namespace) -> None:
    """Do it; raises InputError where gradio, the run or the port cannot be used."""
    check_port(args.host, args.port)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        sentence = f"gradio cannot be imported ({error}): pip install 'gradio>=6.31'."
        raise InputError(sentence) from error
    import inspire_d2
    from demo.found import MAX_BYTES
    from demo.page import CSS, build, theme

    host = f"[{args.host}]" if ":" in args.host else args.host  # as an address has IPv6
    model = inspire_d2.load(args.run, args.checkpoint, args.device, channel_order="BGR")
    page = build(model, args.run.resolve().name)
    try:
        page.launch(
            server_name=host,
            server_port=args.port,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            allowed_paths=[],
            max_file_size=MAX_BYTES,
            max_threads=4,
            state_session_capacity=8,
            theme=theme(),
            css=CSS,
        )
    except OSError as error:  # taken since it was checked
        raise InputError(f"port {args.port} of {args.host} cannot be used ({error}).") from error
    try:
        print(f"http://{host}:{args.port}  Ctrl-C ends it", flush=True)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def check_port(host: str, port: int) -> None:
    """Raise InputError where nothing can listen there; said before the model is loaded."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port {port} must be in 1..65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        sentence = f"port {port} of {host} cannot be used ({reason}): name another."
        raise InputError(sentence) from error


@contextlib.contextmanager
def environment(host: str) -> Iterator[None]:
    """Give gradio a folder that ends with the block, and let it report to nobody.

    It asks its own page whether it is there, which must not go to a proxy.
    """
    direct = ",".join(filter(None, [os.environ.get("no_proxy"), "localhost", "127.0.0.1", host]))
    with tempfile.TemporaryDirectory(prefix="inspire_d2_demo_") as cache:
        os.environ |= {
            "GRADIO_TEMP_DIR": cache,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": direct,
            "no_proxy": direct,
        }
        yield


if __name__ == "__main__":
    main()
