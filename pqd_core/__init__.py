"""pqd: ordered neural-network compression, measured on the file that would be deployed.

The public names; everything that a plugin or a script may import. They load on first use, so that
`import pqd_core` brings no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pqd_core.artifact import Artifact
    from pqd_core.batches import Batch, eval_batches
    from pqd_core.compress import Compressed, compress
    from pqd_core.data import Arrays, Augmentation, Data, DataInfo, Split, stratified_subset, take
    from pqd_core.deploy import Deployed, Operator, Runtime, Session
    from pqd_core.facts import FakeQuantizer
    from pqd_core.fit import fit, task_loss
    from pqd_core.hookspecs import hookimpl
    from pqd_core.host.analysis import Analysis
    from pqd_core.host.analysis.changes import Estimate
    from pqd_core.host.analysis.effects import Effect
    from pqd_core.host.analysis.orders import OrderTest
    from pqd_core.host.analysis.summaries import Cell, Summary
    from pqd_core.host.compare import Comparison
    from pqd_core.host.entries import BackboneEntry
    from pqd_core.host.environment import Threads, describe_cpu
    from pqd_core.host.errors import DataError, DeployError, PqdError, Problem
    from pqd_core.host.globs import choose_layers
    from pqd_core.host.local import register_stage
    from pqd_core.host.log import get_logger
    from pqd_core.host.plugins import installed
    from pqd_core.host.problems import to_problems
    from pqd_core.host.rows import Row, StepRecord
    from pqd_core.host.words import quantity, short_metric
    from pqd_core.measure import MeasureContext, Measurement, Measurer
    from pqd_core.plan import Plan, Step
    from pqd_core.records import (
        BackboneDef,
        CheckupDef,
        CommandDef,
        DatasetDef,
        FactDef,
        Finding,
        MeasurerDef,
        MetricDef,
        RecipeDef,
        RendererDef,
        RuntimeDef,
        Settings,
        StageDef,
        TaskDef,
    )
    from pqd_core.report import Report
    from pqd_core.run import run
    from pqd_core.spec import CheckpointPath, Spec, Training
    from pqd_core.stage import Stage, StageContext
    from pqd_core.task import Classification, Task

__all__ = [
    "Analysis",
    "Arrays",
    "Artifact",
    "Augmentation",
    "BackboneDef",
    "BackboneEntry",
    "Batch",
    "Cell",
    "CheckpointPath",
    "CheckupDef",
    "Classification",
    "CommandDef",
    "Comparison",
    "Compressed",
    "Data",
    "DataError",
    "DataInfo",
    "DatasetDef",
    "DeployError",
    "Deployed",
    "Effect",
    "Estimate",
    "FactDef",
    "FakeQuantizer",
    "Finding",
    "MeasureContext",
    "Measurement",
    "Measurer",
    "MeasurerDef",
    "MetricDef",
    "Operator",
    "OrderTest",
    "Plan",
    "PqdError",
    "Problem",
    "RecipeDef",
    "RendererDef",
    "Report",
    "Row",
    "Runtime",
    "RuntimeDef",
    "Session",
    "Settings",
    "Spec",
    "Split",
    "Stage",
    "StageContext",
    "StageDef",
    "Step",
    "StepRecord",
    "Summary",
    "Task",
    "TaskDef",
    "Threads",
    "Training",
    "choose_layers",
    "compress",
    "describe_cpu",
    "eval_batches",
    "fit",
    "get_logger",
    "hookimpl",
    "installed",
    "quantity",
    "register_stage",
    "run",
    "short_metric",
    "stratified_subset",
    "take",
    "task_loss",
    "to_problems",
]
_MODULES = {
    "artifact": ["Artifact"],
    "host.analysis": ["Analysis"],
    "host.analysis.changes": ["Estimate"],
    "host.analysis.effects": ["Effect"],
    "host.analysis.orders": ["OrderTest"],
    "host.analysis.summaries": ["Cell", "Summary"],
    "host.compare": ["Comparison"],
    "host.rows": ["Row", "StepRecord"],
    "host.words": ["quantity", "short_metric"],
    "data": ["Arrays", "Augmentation", "Data", "DataInfo", "Split", "stratified_subset", "take"],
    "deploy": ["Deployed", "Operator", "Runtime", "Session"],
    "compress": ["Compressed", "compress"],
    "batches": ["Batch", "eval_batches"],
    "facts": ["FakeQuantizer"],
    "fit": ["fit", "task_loss"],
    "hookspecs": ["hookimpl"],
    "host.errors": ["DataError", "DeployError", "PqdError", "Problem"],
    "host.globs": ["choose_layers"],
    "host.local": ["register_stage"],
    "host.log": ["get_logger"],
    "host.plugins": ["installed"],
    "host.problems": ["to_problems"],
    "measure": ["MeasureContext", "Measurement", "Measurer"],
    "host.environment": ["Threads", "describe_cpu"],
    "plan": ["Plan", "Step"],
    "records": [
        "BackboneDef",
        "CheckupDef",
        "CommandDef",
        "DatasetDef",
        "FactDef",
        "Finding",
        "MeasurerDef",
        "MetricDef",
        "RecipeDef",
        "RendererDef",
        "RuntimeDef",
        "Settings",
        "StageDef",
        "TaskDef",
    ],
    "report": ["Report"],
    "run": ["run"],
    "host.entries": ["BackboneEntry"],
    "spec": ["CheckpointPath", "Spec", "Training"],
    "stage": ["Stage", "StageContext"],
    "task": ["Classification", "Task"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__version__ = "0.1.0"


class _Public(ModuleType):
    """Where a public function and its module share a name (`run`, `fit`), the function is what a reader gets."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULE_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Public


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'pqd_core' has no attribute {name!r}")
    return getattr(import_module(f"pqd_core.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
