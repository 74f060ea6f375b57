"""The page: what stands where, and what happens when something is dropped or moved."""

import base64
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from markupsafe import Markup

from inspire_d2.errors import InputError
from inspire_d2.predictor import Predictor

from .found import MAX_BYTES, MAX_PIXELS, Found, Shown, find, png, show
from .maps import levels_of, maps_html

__all__ = ["CSS", "build", "theme"]

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
ROWS = 20  # of the table
WAITING = 8  # images in the queue, each for the one before it
HOUR = 3600
LIMITS = f"One image, up to {MAX_BYTES // 2**20} MB and {MAX_PIXELS // 10**6} million pixels."
NOT_MEDICAL = "Research software, not a medical device: not for diagnosis or treatment."
PLAIN = "This model’s pyramid is not INSPIRE’s: it has no steps and no λ to show."
EMPTY = "What the model finds appears here."


def theme() -> gr.themes.Base:
    """Gradio's, in the system's fonts: nothing is fetched from elsewhere."""
    return gr.themes.Default(
        primary_hue="sky",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def build(model: Predictor, title: str) -> gr.Blocks:
    """Return the page of a model, which takes BGR; ``title`` says which one it is."""
    with gr.Blocks(
        title="inspire_d2: polyps", analytics_enabled=False, delete_cache=(HOUR // 6, HOUR)
    ) as page:
        found = gr.State(None, time_to_live=HOUR)
        gr.HTML(
            Markup('<h1>Polyps in an image</h1><p class="small">{} · <b>{}</b></p>').format(
                title, NOT_MEDICAL
            ),
            padding=False,
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=280, elem_id="side"):
                upload = gr.File(label="Image", type="filepath", height=150)
                upload.async_move_resource_to_block_cache = _no_address(upload)
                gr.HTML(_hint(LIMITS), padding=False)
                notice = gr.HTML(visible=False, padding=False)
                threshold = gr.Slider(
                    0.05, 0.95, 0.5, step=0.01, label="Least score", elem_id="threshold"
                )
                table = gr.HTML(_hint(EMPTY), elem_id="found", padding=False)
            with gr.Column(scale=3, min_width=280, elem_id="seen"):
                overlay = gr.Image(
                    label="Found",
                    format="jpeg",
                    interactive=False,
                    elem_id="overlay",
                    buttons=["fullscreen"],
                )
        with gr.Column(visible=False) as pyramid:
            gr.HTML("<h2>Inside the pyramid</h2>", padding=False)
            level = gr.Radio([], label="Level", elem_id="level", visible=False)
            maps = gr.HTML(elem_id="maps", padding=False)

        def analyse(path: str | None, least: float) -> tuple[Any, ...]:
            """Run the model; on a file that it cannot take, a sentence in place of the rest."""
            quiet, hide = gr.update(value="", visible=False), gr.update(visible=False)
            nothing = None, None, _hint(EMPTY), hide, gr.update(), ""
            if path is None:
                return quiet, *nothing
            try:
                one = find(model, Path(path))
                drawn = redraw(one, least)
            except InputError as error:
                return _notice(str(error)), *nothing
            except Exception as error:  # whatever it is, others go on with the page
                logging.getLogger(__name__).exception("the model failed")
                kind = type(error).__name__
                return _notice(f"The model failed ({kind}); the server’s log says why."), *nothing
            if one.made is None:
                return quiet, one, *drawn, gr.update(visible=True), hide, _hint(PLAIN)
            names = levels_of(one.made)
            levels = gr.update(choices=names, value=names[0], visible=True)
            return quiet, one, *drawn, gr.update(visible=True), levels, look(one, names[0])

        def redraw(one: Found | None, least: float) -> tuple[Any, str]:
            """Draw what is of that score or more, and say it to who does not see it."""
            if one is None:
                return None, _hint(EMPTY)
            try:
                shown = show(one, least)
            except InputError as error:
                return None, Markup('<p class="notice" role="alert">{}</p>').format(error)
            said = _sentence(shown, least)
            return gr.update(value=shown.overlay, alt_text=said), _summary(one, shown, said)

        def look(one: Found | None, name: str) -> str:
            """Show a level of the pyramid."""
            return "" if one is None or one.made is None else maps_html(one.made, name, one.size)

        outputs = [notice, found, overlay, table, pyramid, level, maps]
        # What changes while an event is under way is not lost.
        newest = {"trigger_mode": "always_last", "api_visibility": "private"}
        # One at a time: the pyramid is listened to while the model runs.
        gr.on(
            [upload.upload, upload.clear],
            analyse,
            [upload, threshold],
            outputs,
            concurrency_limit=1,
            show_progress_on=[overlay],
            **newest,
        )
        quick = {"show_progress": "hidden", **newest}
        threshold.input(redraw, [found, threshold], [overlay, table], **quick)
        level.input(look, [found, level], maps, **quick)
    return page.queue(max_size=WAITING, default_concurrency_limit=2)


def _no_address(upload: gr.File) -> Callable[[Any], Awaitable[str | None]]:
    """Take a file that the browser sent, but none that Gradio would fetch itself.

    In place of a method, as Gradio writes a file beside the module of any class derived from its.
    """
    take = upload.async_move_resource_to_block_cache

    async def take_file(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("Only an uploaded file is taken, no address.", print_exception=False)
        return await take(path)

    return take_file


def _hint(text: str) -> Markup:
    return Markup('<p class="small">{}</p>').format(text)


def _notice(sentence: str) -> dict[str, Any]:
    text = Markup('<p class="notice" role="alert">{}</p>').format(sentence)
    return gr.update(value=text, visible=True)


def _sentence(shown: Shown, least: float) -> str:
    """Say what was found."""
    number = len(shown.rows)
    if number == 0:
        return f"Nothing of a score of {least:.2f} or more; the highest is {shown.best:.2f}."
    polyps = "polyp" if number == 1 else "polyps"
    share = f"{shown.mask.mean():.1%} of the image"
    return f"{number} {polyps} of a score of {least:.2f} or more, {share}."


def _summary(one: Found, shown: Shown, sentence: str) -> Markup:
    """Return what was found in words, as a table, and as a mask to download."""
    height, width = shown.mask.shape
    number = len(shown.rows)
    row = Markup("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>").format
    rows = [
        row(f"{name} {index}", "{}, {} · {}×{}".format(*box), f"{area:,} px", f"{score:.2f}")
        for index, (name, box, area, score) in enumerate(shown.rows[:ROWS], 1)
    ]
    table = Markup(
        "<table><thead><tr><th>Polyp</th><th>Box: left, top · size</th><th>Area</th><th>Score</th>"
        "</tr></thead><tbody>{}</tbody></table>"
    ).format(Markup("").join(rows))
    more = _hint(f"… and {number - ROWS} more") if number > ROWS else ""
    mask = base64.b64encode(png(shown.mask.astype(np.uint8) * 255)).decode()
    link = Markup(
        '<a class="button" download="{}_mask.png" href="data:image/png;base64,{}">Download the mask'
        "</a>"
    ).format(Path(one.name).stem, mask)
    name, said = _hint(f"{one.name}, {width}×{height}"), Markup("<p>{}</p>").format(sentence)
    return Markup("").join([name, said, table if rows else "", more, link])
