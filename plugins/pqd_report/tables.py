"""The page's tables as cells: what is read, what is said beside it, and what a column is sorted by."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from pqd_core import Cell, Estimate, OrderTest, Report, Summary, quantity, short_metric
from pqd_report.lineage import stretches
from pqd_report.names import Letters, in_arrows

STANDINGS = {"frontier": "best trade", "tied": "tied with", "dominated": "dominated by"}
MISSING = "missing"
UNCHANGED = ("1.00x", "+0.00 points")


@frozen
class Shown:
    """A table's cell."""

    text: str
    note: str = ""
    sort: float | str = ""
    mark: str = ""
    """A word for its look: `best`, `off`, `missing`, `text`."""


@frozen
class Table:
    """A table: its caption, its header, and its rows, which begin with what they are of."""

    caption: str
    header: list[str]
    rows: list[list[Shown]]
    numbers: frozenset[int] = frozenset()
    """Columns that are set to the right."""


def bounds(change: Estimate) -> str:
    """The bootstrap interval, empty where there is none."""
    if change.low is None or change.high is None:
        return ""
    scale, digits = (100, "+.2f") if change.kind == "difference" else (1, ".2f")
    return f"[{change.low * scale:{digits}}, {change.high * scale:{digits}}]"


def told(change: Estimate | None) -> str:
    """A change with its interval, and a dot where it is more than noise."""
    if change is None:
        return ""
    return f"{change.text.removesuffix(' points')} {bounds(change)}".strip() + dot(change)


def dot(change: Estimate) -> str:
    """A mark for what is more than noise, and is seen after rounding."""
    return " ●" if change.beyond_noise and change.text not in UNCHANGED else ""


def order_table(report: Report, letters: Letters) -> Table:
    """A line for each pipeline and runtime."""
    names = list(dict.fromkeys(n for s in report.analysis.summaries for n, cell in s.cells.items() if cell.headline))
    header = ["pipeline", "runtime", "epochs", *map(short_metric, names), "standing"]
    rows = [
        [
            Shown(in_arrows(summary.pipeline), letters.short(summary.pipeline), f"{len(summary.pipeline)}{i:04}"),
            Shown(summary.runtime, sort=summary.runtime),
            _epochs(report.epochs(summary.pipeline) if summary.pipeline else None),
            *(_number(summary.cells.get(name), len(report.analysis.seeds)) for name in names),
            _standing(summary, letters),
        ]
        for i, summary in enumerate(report.analysis.summaries)
    ]
    return Table("Each pipeline in each runtime", header, rows, frozenset(range(2, 3 + len(names))))


def _epochs(of_stages: int | None) -> Shown:
    return Shown("") if of_stages is None else Shown(str(of_stages), sort=of_stages)


def _number(cell: Cell | None, seeds: int) -> Shown:
    if cell is None:
        return Shown("")
    if cell.mean is None:
        return Shown(MISSING, cell.missing or "", mark="missing")
    partly = f"{cell.n} of {_seeds(seeds)}" if cell.n < seeds else ""
    against = [("dense", cell.against_dense), ("written", cell.against_written)]
    notes = [f"{_short(change)} {name}" for name, change in against if change]
    return Shown(cell.text, " · ".join([*notes, *filter(None, [partly])]), cell.mean)


def _seeds(number: int) -> str:
    return f"{number} seed" + ("" if number == 1 else "s")


def _short(change: Estimate) -> str:
    return change.text.removesuffix(" points") + dot(change)


def _standing(summary: Summary, letters: Letters) -> Shown:
    if summary.standing is None:
        return Shown(f"incomplete: {summary.incomplete}" if summary.incomplete else "", sort="z", mark="off")
    status, by = summary.standing.status, summary.standing.by
    beside = f"{letters.short(by)}" if by is not None else ""
    return Shown(f"{STANDINGS[status]} {beside}".strip(), sort=status, mark="best" if status == "frontier" else "off")


def difference_table(report: Report) -> Table:
    """Every paired difference with its interval."""
    rows = [
        [
            Shown(in_arrows(summary.pipeline), sort=f"{len(summary.pipeline)}"),
            Shown(summary.runtime, sort=summary.runtime),
            Shown(short_metric(name), sort=name),
            *(_change(change) for change in (cell.against_dense, cell.against_written)),
        ]
        for summary in report.analysis.summaries
        for name, cell in summary.cells.items()
        if cell.headline and (cell.against_dense or cell.against_written)
    ]
    header = ["pipeline", "runtime", "metric", "against dense", "against the written order"]
    return Table("Differences paired by seed", header, rows, frozenset({3, 4}))


def _change(change: Estimate | None) -> Shown:
    return Shown(told(change), sort=change.value if change else "")


def effect_table(report: Report) -> Table:
    """What each stage changes after which stages."""
    effects = [effect for effect in report.analysis.effects if effect.after is not None]
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    found = {(e.stage, tuple(sorted(e.after or ())), e.runtime, e.metric): e for e in effects}
    places = list(dict.fromkeys(key[:3] for key in found))
    rows = [
        [
            Shown(stage, sort=stage),
            Shown(" and ".join(after) or "nothing", sort=f"{len(after)}"),
            Shown(runtime, sort=runtime),
            *(_change(found[key].change if (key := (stage, after, runtime, m)) in found else None) for m in metrics),
        ]
        for stage, after, runtime in places
    ]
    header = ["stage", "after", "runtime", *map(short_metric, metrics)]
    return Table("What a stage changes, by what came before it", header, rows, frozenset(range(3, 3 + len(metrics))))


def order_tests(report: Report) -> Table:
    """The tests of whether order matters."""
    answers = {"matters": "order matters", "no-difference": "no difference", "cannot-tell": "cannot tell"}
    rows = [
        [
            Shown(", ".join(sorted(test.stages)), sort=f"{len(test.stages)}"),
            Shown(test.runtime, sort=test.runtime),
            Shown(short_metric(test.metric), sort=test.metric),
            Shown(test.largest.text.removesuffix(" points"), _between(test), test.largest.value),
            Shown("" if test.seed_noise is None else _as(test.seed_noise, test.largest), sort=test.seed_noise or ""),
            _chance(test.p),
            _chance(test.p_corrected),
            Shown(answers[test.answer], f"{test.orders} orders, {_seeds(test.seeds)}", test.answer),
        ]
        for test in report.analysis.orders
    ]
    header = ["stages", "runtime", "metric", "largest difference", "seed noise", "p", "p corrected", "answer"]
    return Table("Whether order matters", header, rows, frozenset({3, 4, 5, 6}))


def _chance(p: float | None) -> Shown:
    return Shown("" if p is None else f"{p:.2g}", sort="" if p is None else p)


def _between(test: OrderTest) -> str:
    """The interval that allows for the difference's being the largest."""
    if test.interval is None:
        return ""
    low, high = test.interval
    return f"[{_as(low, test.largest)}, {_as(high, test.largest)}]"


def _as(value: float, like: Estimate) -> str:
    return f"{value * 100:.2f}" if like.kind == "difference" else f"{value:.2f}x"


def goal_tables(report: Report) -> Iterator[tuple[str, str, Table]]:
    """For each goal and runtime: what was asked, who won, and all candidates."""
    for outcome in report.analysis.goals:
        drop = outcome.max_accuracy_drop
        images = outcome.judged_on.replace("_", " on ", 1).replace("validation", "held-out images")
        allowed = "" if drop is None else f" that costs at most {drop * 100:.2f} points of {images}"
        where = f" on {outcome.runtime}" if outcome.runtime else ""
        asked = f"Best {short_metric(outcome.metric)}{where}{allowed}"
        winner, even = outcome.winner, outcome.as_good
        value = f", {quantity(winner.value, outcome.unit)}" if winner and winner.value is not None else ""
        won = f"{in_arrows(winner.pipeline)}{value}" if winner else "no pipeline meets it"
        rows = [
            [
                Shown(in_arrows(c.pipeline), sort=f"{len(c.pipeline)}"),
                Shown("" if c.value is None else quantity(c.value, outcome.unit), sort=c.value or ""),
                _change(c.change),
                _met("wins" if c == winner else "even" if c in even else "", c.met, c.missed_by, c.incomplete),
            ]
            for c in outcome.candidates
        ]
        header = ["pipeline", short_metric(outcome.metric), images, "goal"]
        yield asked, won, Table(asked, header, rows, frozenset({1, 2}))


def _met(place: str, met: bool, missed_by: float | None, incomplete: str | None) -> Shown:
    if place == "wins":
        return Shown("wins", sort=-1, mark="best")
    if incomplete:
        return Shown(f"incomplete: {incomplete}", sort=8, mark="off")
    if missed_by is not None:
        return Shown(f"misses by {missed_by * 100:.2f} points", sort=missed_by, mark="off")
    if not met:
        return Shown("not known", sort=9, mark="off")
    return Shown("meets it", "as good within the noise" if place == "even" else "", 0)


def step_table(report: Report) -> Table:
    """The steps with their whole keys."""
    rows = [
        [
            Shown(in_arrows(found.pipeline) if found.pipeline else "baseline", sort=f"{len(found.pipeline)}"),
            Shown("" if found.seed is None else str(found.seed), sort=found.seed or 0),
            Shown(str(found.step.epochs), sort=found.step.epochs),
            Shown(f"{found.step.seconds:,.1f}", sort=found.step.seconds),
            Shown("yes" if found.step.reused else "no", sort=found.step.reused),
            Shown(found.step.key, sort=found.step.key, mark="key"),
        ]
        for found in stretches(report)
    ]
    header = ["step", "seed", "epochs", "seconds", "reused", "content key"]
    return Table("Steps and their content keys", header, rows, frozenset({1, 2, 3}))
