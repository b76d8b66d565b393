"""A plan as text and as JSON: the tree, what sharing saves, and what is done already."""

from __future__ import annotations

from typing import Any

from attrs import asdict, define

from pqd_core.artifact import Store
from pqd_core.host.estimate import estimate
from pqd_core.host.words import counted, duration
from pqd_core.plan import Plan, Step


def plan_json(plan: Plan, store: Store) -> dict[str, Any]:
    """The trees, one mapping per step, parents first."""
    expected = estimate(plan, store)
    done = {step.key for step in plan.steps if store.has("steps", step.key)}
    return {
        "title": plan.spec.title,
        "study": plan.spec.study,
        "seeds": list(plan.spec.seeds),
        "pipelines": len(plan.pipelines),
        "notes": list(plan.notes),
        "epochs": plan.epochs,
        "epochs_to_run": sum(step.epochs for step in plan.steps if step.key not in done),
        "shared": asdict(plan.shared),
        "alone": asdict(plan.alone),
        "saved": asdict(plan.saved),
        "estimate": asdict(expected) if expected else None,
        "steps": [
            {
                "key": step.key,
                "parent": step.parent,
                "stage": step.name,
                "pipeline": list(step.pipeline),
                "seed": step.seed,
                "epochs": step.epochs,
                "facts": sorted(step.facts),
                "asked": step.key in plan.pipelines,
                "done": step.key in done,
            }
            for step in plan.steps
        ],
    }


def plan_text(plan: Plan, store: Store) -> str:
    """The tree with a line per step, the same for every seed, and what it comes to."""
    return "\n".join(_Outline(plan, store).lines())


@define
class _Outline:
    plan: Plan
    store: Store

    def lines(self) -> list[str]:
        """All lines."""
        plan, spec = self.plan, self.plan.spec
        study = "" if spec.study == "as-written" else f", study {spec.study}"
        seeds = f", seeds {', '.join(map(str, spec.seeds))}" if len(spec.seeds) > 1 else ""
        trees = [plan.tree(seed) for seed in spec.seeds]
        left = sum(step.epochs for step in plan.steps if not self._done(step))
        return [
            f"{spec.title}: {spec.backbone.name} on {spec.dataset.name}{study}{seeds}",
            *map(self._line, zip(*trees, strict=True)),
            *plan.notes,
            f"{counted(len(plan.steps), 'step')}, {counted(plan.epochs, 'epoch')}, {left} still to run",
            *self._saving(),
            *([self._time()] if left or not all(map(self._done, plan.steps)) else []),
        ]

    def _done(self, step: Step) -> bool:
        return self.store.has("steps", step.key)

    def _line(self, steps: tuple[Step, ...]) -> str:
        """One line for a step of all seeds: a key where there is one seed, else how many are done."""
        step, done = steps[0], sum(map(self._done, steps))
        indent = "  " + "   " * self.plan.depth(step) + ("└─ " if step.parent else "")
        name = step.pipeline[-1] if step.pipeline else step.name
        which = f"{step.key[:12]}  {'done' if done else '':<5}" if len(steps) == 1 else f"{done} of {len(steps)} done "
        facts = ", ".join(sorted(step.facts))
        return f"{indent + name:<34}{counted(step.epochs, 'epoch'):>11}  {which} {facts}".rstrip()

    def _time(self) -> str:
        """How long it will take, and how that is known."""
        spec, found = self.plan.spec, estimate(self.plan, self.store)
        if found is None:
            what = f"nothing of {spec.backbone.name} on {spec.dataset.name} with as many threads was run in this store"
            return f"no estimate of the time: {what}; there is one after the baseline (pqd run with --set 'stages=[]')"
        notes = [f"{', '.join(found.guessed)} not run here yet, taken as the slowest that was"] if found.guessed else []
        notes += [f"without deployments to {', '.join(found.runtimes_unknown)}"] if found.runtimes_unknown else []
        basis = f"from {counted(found.measured_steps, 'step')} measured here"
        return f"about {duration(found.seconds)} with one job, before measuring ({'; '.join([basis, *notes])})"

    def _saving(self) -> list[str]:
        """What sharing saves, where anything is shared."""
        shared, alone, saved = self.plan.shared, self.plan.alone, self.plan.saved
        if shared == alone:
            return []
        pipelines, seeds = len(self.plan.pipelines), len(self.plan.spec.seeds)
        each = f" ({pipelines // seeds:,} for each of {seeds} seeds)" if seeds > 1 else ""
        return [
            f"{pipelines:,} pipelines{each} share {shared.stage_runs:,} stage runs and {shared.epochs:,} epochs",
            f"each alone would take {alone.stage_runs:,} and {alone.epochs:,}, and train a baseline of its own: "
            f"{saved.stage_epochs:,} epochs of stages and {saved.baseline_epochs:,} of baselines are saved",
        ]
