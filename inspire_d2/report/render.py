"""From a page's parts to one HTML file."""

import base64
import datetime
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import inspire_d2
from inspire_d2.files import written_in_one_step
from inspire_d2.report.blocks import Page

__all__ = ["render", "write_page"]


def render(page: Page) -> str:
    """Return the page's HTML, in which whatever comes from files is text and nothing else.

    Its Content-Security-Policy lets the page load nothing, and run no script but its own.
    """
    environment = Environment(
        loader=PackageLoader("inspire_d2.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (environment.loader.get_source(environment, f"report.{kind}")[0]
                     for kind in ("js", "css"))  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        digest=digest,
        version=inspire_d2.__version__,
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def write_page(html: str, path: Path) -> None:
    """Write a file in one step.

    Raises:
        InputError: it cannot be written.
    """
    with written_in_one_step(path) as file:
        file.write(html.encode(errors="replace"))  # of names that are no UTF-8
