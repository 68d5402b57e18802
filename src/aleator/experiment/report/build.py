"""Write the report of a folder: choose the page, render it, put it there in one piece.

The page holds plotly.js once, the figures as JSON, and one script that draws them. A content security policy allows
exactly these two scripts, by their SHA-256, and no address at all: what a report loads or runs is decided here, and a
name that looks like a script is text.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from aleator.experiment.files import clear_left_overs, finite, read_json, write_text


def write_report(folder: Path) -> Path:
    """Write ``folder/report.html`` for the folder of a comparison, of a run or of advice.

    Args:
        folder: a folder with ``comparison.json``, ``config.json`` or ``advice.json``. Runs that failed, or are not
            there yet, are named in the report.

    Returns:
        The path of the report: ``folder/report.html``, or one in a new temporary folder where ``folder`` may be read
        and not written.

    Raises:
        ValueError: if the folder is neither, or one of its files is damaged; the message names it.
    """
    from aleator.experiment.report.advice_page import advice_page
    from aleator.experiment.report.comparison_page import comparison_page
    from aleator.experiment.report.read import read_comparison, read_run
    from aleator.experiment.report.run_page import run_page

    folder = Path(folder)
    if (folder / "advice.json").is_file():
        template, page = "advice.html.j2", advice_page(folder, read_json(folder / "advice.json"))
    elif (folder / "comparison.json").is_file():
        template, page = "comparison.html.j2", comparison_page(read_comparison(folder))
    elif (folder / "config.json").is_file():
        template, page = "run.html.j2", run_page(read_run(folder))
    else:
        there = "it has no advice.json, comparison.json or config.json" if folder.is_dir() else "it does not exist"
        raise ValueError(f"folder must be the folder of a comparison, of a run or of advice, got {folder}: {there}")
    path = folder / "report.html"
    try:
        clear_left_overs(folder, [path.name])
        try:
            write_page(path, template, page)
        except FileNotFoundError:  # another report took this one's unfinished file for left over
            write_page(path, template, page)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        path = Path(tempfile.mkdtemp(prefix="aleator-report-")) / "report.html"
        write_page(path, template, page)
    return path


def write_page(path: Path, template: str, page: dict[str, Any]) -> None:
    """Write one page, from what its template shows."""
    write_text(path, _render(template, page))


def _render(name: str, page: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    here = Path(__file__).parent
    plotly = get_plotlyjs()
    script = (here / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(
        page,
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        plotly=Markup(plotly),
        script=Markup(script),
        script_hashes=[_hash(plotly), _hash(script)],
        figures_json=Markup(_json_in_html(page["figures"])),
    )


def _hash(script: str) -> str:
    """A script's source expression in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json_in_html(value: Any) -> str:
    """JSON that cannot end the element it stands in: ``</script>`` has no ``<`` left."""
    text = json.dumps(finite(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
