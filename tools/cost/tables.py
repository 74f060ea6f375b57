"""The results as Markdown."""

from .arithmetic import paired_ratios, spread
from .results import METRICS, Measurement, Results
from .setting import MODES, SCOPES
from .subjects import BASELINE

__all__ = ["measurement_table", "number", "results_tables", "table"]

NOTE = (
    "Medians and interquartile ranges (IQR); a ratio is the median of each round's ratio to"
    f" {BASELINE} in the same round. A training step is forward, backward and clearing of"
    " gradients, without the optimizer's step. Memory is what a model adds to a process of its"
    " own: weights, inputs, activations, gradients."
)


def measurement_table(found: Measurement) -> str:
    """Lay out one measurement: a heading, and a row for each subject."""
    _, unit, factor = METRICS[found.metric]
    rows = []
    for name, values in found.values.items():
        if not values:
            continue
        scaled = spread([factor * value for value in values])
        row = [name, number(scaled.median), number(scaled.width), "-", "-"]
        if ratios := paired_ratios(values, found.values.get(BASELINE, [])):
            ratio = spread(ratios)
            row[3:] = [f"{ratio.median:.2f}", f"{ratio.width:.2f}"]
        rows.append(row)
    header = ["subject", f"median, {unit}", f"IQR, {unit}", f"x {BASELINE}", "IQR of ratio"]
    repeats = max((len(values) for values in found.values.values()), default=0)
    what = "rounds" if found.metric == "time" else "processes for each"
    return f"### {found} ({what}: {repeats})\n\n{table(header, rows)}"


def results_tables(results: Results) -> str:
    """Lay out everything: what it was measured on, the tables, growth, and what is missing."""
    environment = [f"{key} {value}" for key, value in results.environment.items()]
    parts = [f"## Cost\n\n{'; '.join(environment)}.", NOTE]
    parts += [measurement_table(found) for found in results.measurements]
    parts += growth_tables(results)
    parts += left_out_lines(results)
    return "\n\n".join(parts) + "\n"


def growth_tables(results: Results) -> list[str]:
    """Lay out by which power of the number of pixels time grows, if several sizes were timed."""
    tables = []
    for (setting, mode), exponents in results.exponents().items():
        rows = [[name, f"{exponent:.2f}"] for name, exponent in exponents.items()]
        heading = f"### {setting}: growth of the time of a {MODES[mode]}"
        header = ["subject", "exponent: time = a * pixels ** exponent"]
        tables.append(f"{heading}\n\n{table(header, rows)}")
    return tables


def left_out_lines(results: Results) -> list[str]:
    """Say in one line for each reason which subjects were left out of what."""
    lines = []
    for reason, names in results.reasons():
        scopes = {scope for scope, _, why in results.left_out if why == reason}
        where = ", ".join(label for scope, label in SCOPES.items() if scope in scopes)
        lines.append(f"Left out of {where}: {', '.join(names)} ({reason}).")
    return lines


def number(value: float) -> str:
    """Show three figures, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
