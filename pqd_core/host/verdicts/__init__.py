"""What the numbers say, in plain sentences; also where there is no gain, and why."""

from __future__ import annotations

from collections.abc import Sequence

from pqd_core.host.analysis import Analysis
from pqd_core.host.rows import Row
from pqd_core.host.verdicts.doubts import doubt_verdicts
from pqd_core.host.verdicts.goals import goal_verdicts
from pqd_core.host.verdicts.orders import order_verdicts
from pqd_core.host.verdicts.pipelines import frontier_verdicts, pipeline_verdicts
from pqd_core.host.verdicts.stages import Reasons, stage_verdicts


def make_verdicts(rows: Sequence[Row], analysis: Analysis, reasons: Reasons) -> list[str]:
    """Whether order mattered, who wins, what the pipelines came to, and each stage that gained nothing or cost."""
    return [
        *order_verdicts(analysis),
        *goal_verdicts(analysis.goals),
        *frontier_verdicts(analysis.summaries),
        *pipeline_verdicts(analysis),
        *stage_verdicts(rows, analysis.summaries, reasons),
        *doubt_verdicts(rows),
    ]
