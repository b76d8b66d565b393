"""What the pipelines came to, and which are worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pqd_core.host.analysis import Analysis
from pqd_core.host.analysis.changes import Estimate
from pqd_core.host.analysis.frontier import Standing
from pqd_core.host.analysis.summaries import Summary
from pqd_core.host.rows import Pipeline, in_words
from pqd_core.host.words import by_runtime, short_metric

FEW = 4
"""So many pipelines are summed up one by one; of more, only the written one."""


def frontier_verdicts(summaries: Sequence[Summary]) -> Iterator[str]:
    """A sentence on what is dominated, if anything is."""
    told, axes = {}, ""
    for runtime in dict.fromkeys(summary.runtime for summary in summaries):
        here = [(s.label, s.standing) for s in summaries if s.runtime == runtime and s.standing]
        best = [label for label, standing in here if standing.status == "frontier"]
        if len(best) < len(here):
            axes = ", ".join(map(short_metric, here[0][1].axes))
            told[runtime] = f"{'; '.join(best) or 'none stands out'} ({_rest([found for _, found in here])})"
    if told:
        yield f"best trades of {axes}: {by_runtime(told)}"


def _rest(here: Sequence[Standing]) -> str:
    dominated, tied = (sum(one.status == status for one in here) for status in ("dominated", "tied"))
    return f"{dominated} of {len(here)} are dominated" + (f", {tied} tied within the noise" if tied else "")


def pipeline_verdicts(analysis: Analysis) -> Iterator[str]:
    """A sentence for each whole pipeline; of many, for the written one."""
    begun = {summary.pipeline[:-1] for summary in analysis.summaries if summary.pipeline}
    whole: dict[Pipeline, dict[str, str]] = {}
    for summary in analysis.summaries:
        if summary.pipeline and summary.pipeline not in begun:
            whole.setdefault(summary.pipeline, {})[summary.runtime] = _against_dense(summary)
    for pipeline, told in whole.items():
        if len(whole) <= FEW or pipeline == analysis.written:
            yield f"{in_words(pipeline)}, against the dense network: {by_runtime(told)}"


def _against_dense(summary: Summary) -> str:
    parts = [
        f"{short_metric(name)} {change_in_words(cell.against_dense)}"
        for name, cell in summary.cells.items()
        if cell.headline and cell.against_dense
    ]
    return ", ".join(parts) or "nothing to compare"


def change_in_words(change: Estimate) -> str:
    """The change, and a word where a difference may be chance; ratios are judged by their size."""
    if change.kind == "ratio" or change.beyond_noise:
        return change.text
    return f"{change.text} (within the noise{'' if change.n == 1 else f' of {change.n} seeds'})"
