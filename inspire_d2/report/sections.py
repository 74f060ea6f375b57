"""The parts that a page on one run and a page on two have in common."""

from collections.abc import Mapping, Sequence

from inspire_d2.report import about
from inspire_d2.report.blocks import Facts, Figure, Fold, Section, Text
from inspire_d2.report.calibration import Calibration
from inspire_d2.report.plots import curves, reliability
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import plain_table

__all__ = ["calibration_section", "setup_section", "training_section"]


def calibration_section(calibrations: Mapping[str, Calibration | None]) -> Section:
    """Show how far scores can be taken at their word, of runs that have any, by name."""
    section = Section("calibration", "Calibration")
    known = {name: one for name, one in calibrations.items() if one is not None and one.total}
    if not known or len({one.of for one in known.values()}) > 1:
        return section
    of = next(iter(known.values())).of
    right = (
        "matches an object with an IoU of 0.5 or more that no better one has taken"
        if of == "detections"
        else "lies on a polyp; most pixels are background with a probability near 0, which makes "
        "the expected calibration error small"
    )
    single = of.removesuffix("s")
    text = (
        f"A {single} is right if it {right}. On the dashed line scores mean what they say; below "
        "it they are too sure. ECE, the expected calibration error, is the mean distance from it "
        f"over all {of}, in ten bins of equal width."
    )
    rows = []
    for name, one in known.items():
        whose = f", {name}" if len(known) > 1 else ""
        rows += [
            (f"{of} counted{whose}", f"{one.total:,}"),
            (f"expected calibration error{whose}", f"{one.error:.4f}"),
            (
                f"mean {'score' if of == 'detections' else 'probability'}{whose}",
                f"{one.scores.sum() / one.total:.4f}",
            ),
            (f"share right{whose}", f"{one.rights.sum() / one.total:.4f}"),
        ]
    section.add(Figure(reliability(known)), Facts(rows, text, beside=True))
    return section


def training_section(subjects: Sequence[Subject]) -> Section:
    """Show curves and what training cost."""
    section = Section("training", "Training and cost")
    for subject in subjects:
        if len(subjects) > 1 and subject.run.series:
            section.add(Text(f"Training of {subject.name}:"))
        section.add(*(Figure(svg) for svg in curves(subject.run.series)))
    if len(subjects) == 1:
        rows = about.cost_rows(subjects[0])
        section.add(Facts(rows) if rows else None)
        return section
    costs = [dict(about.cost_rows(subject)) for subject in subjects]
    names = list(dict.fromkeys(name for cost in costs for name in cost))
    rows = [[name, *(cost.get(name, "") for cost in costs)] for name in names]
    if rows:
        section.add(plain_table(["cost", *(one.name for one in subjects)], rows, "Cost"))
    return section


def setup_section(subjects: Sequence[Subject]) -> Section:
    """Show the configs, in short and whole, and the machines and versions."""
    section = Section("configuration", "Configuration")
    settings = [dict(about.config_rows(subject.run.cfg)) for subject in subjects]
    if len(subjects) == 1:
        section.add(Facts(list(settings[0].items())))
    else:
        names = list(dict.fromkeys(name for one in settings for name in one))
        rows = [[name, *(one.get(name, "") for one in settings)] for name in names]
        section.add(plain_table(["setting", *(one.name for one in subjects)], rows))
        section.add(about.config_differences(*subjects))
    for subject in subjects:
        of = f" of {subject.name}" if len(subjects) > 1 else ""
        section.add(Fold(f"config.yaml{of}, whole", subject.run.yaml))
        if subject.run.log.environment:
            lines = [f"{name:<34} {value}" for name, value in subject.run.log.environment.items()]
            section.add(Fold(f"Machine and versions{of}", "\n".join(lines)))
        else:
            section.add(Text(f"log.txt{of} does not name the machine and the versions."))
    return section
