"""Numbers from deployed files: accuracy, size, latency, sparsity and multiply-adds.

This root is inert: records and settings. The code behind each record is the module that its `load` names.
"""

from __future__ import annotations

from math import ceil

from pydantic import Field

from pqd_core import CheckupDef, CommandDef, MeasurerDef, MetricDef, Settings, Threads, hookimpl

ACCURACY = MetricDef("accuracy", "1", "higher")
ACCURACY_TOP5 = MetricDef("accuracy_top5", "1", "higher", headline=False)
ACCURACY_VALIDATION = MetricDef("accuracy_validation", "1", "higher", headline=False)
SIZE = MetricDef("size_bytes", "bytes", "lower")
SIZE_ZSTD = MetricDef("size_zstd_bytes", "bytes", "lower", headline=False)
LATENCY = MetricDef("latency_ms", "ms", "lower")
LATENCY_P95 = MetricDef("latency_p95_ms", "ms", "lower", headline=False)
LATENCY_RATIO = MetricDef("latency_ratio", "1", "lower", headline=False)
THROUGHPUT = MetricDef("throughput_ips", "images/s", "higher", headline=False)
LOAD = MetricDef("load_ms", "ms", "lower", headline=False)
FIRST = MetricDef("first_ms", "ms", "lower", headline=False)
MEMORY = MetricDef("memory_bytes", "bytes", "lower", headline=False)
ENERGY = MetricDef("energy_mj", "mJ", "lower", headline=False)
TIMED_METRICS = (LATENCY, LATENCY_P95, LATENCY_RATIO, THROUGHPUT, LOAD, FIRST, MEMORY, ENERGY)
SPARSITY = MetricDef("sparsity", "1", "neither")
INT8_SHARE = MetricDef("int8_share", "1", "neither", headline=False)
QUANTIZATION_ERROR = MetricDef("quantization_error", "1", "lower", headline=False)
MACS = MetricDef("macs", "MAC", "lower", headline=False)
DAY_S = 86_400


class AccuracySettings(Settings):
    """How `accuracy` feeds images to a deployed file."""

    batch: int = Field(default=128, ge=1, description="Images per inference; changes the time, not the result.")


class SizeSettings(Settings):
    """How `size` compresses a deployed file."""

    zstd_level: int = Field(default=19, ge=1, le=22, description="zstd level of `size_zstd_bytes`.")


class LatencySettings(Settings):
    """How `latency` times deployed files; see docs/latency.md."""

    batch: int = Field(default=1, ge=1, description="Images per inference.")
    threads: Threads | None = Field(default=None, description="Threads per inference; the spec's `threads` if unset.")
    seconds: float = Field(
        default=1.5,
        gt=0,
        le=DAY_S,
        description="Seconds that the turns of one candidate take; more where inferences are slow.",
    )
    processes: int = Field(
        default=6,
        ge=2,
        le=1000,
        description="Fresh processes that each file gets, one after the other: they differ in layout.",
    )
    rounds: int = Field(
        default=18,
        ge=5,
        le=10**6,
        description="Turns of each file over all its processes at least, in an order shuffled anew.",
    )
    retakes: int = Field(
        default=3,
        ge=0,
        description="How often a turn is taken again if other programs took the cores; the calmest one counts.",
    )
    warmup_s: float = Field(
        default=1.0, gt=0, le=DAY_S, description="Seconds after which a warm-up that is not steady ends."
    )
    warmup_tolerance: float = Field(
        default=0.05, gt=0, description="Steady: this share at most lies between the medians of three blocks in a row."
    )
    limit_s: float = Field(
        default=300, gt=0, le=DAY_S, description="Seconds without an answer after which a process is ended."
    )
    noise_limit: float = Field(
        default=0.1, gt=0, description="A ratio whose interval reaches further than this share is called too noisy."
    )
    memory_limit_mb: int = Field(
        default=8192, ge=256, le=10**9, description="Megabytes that a file's process may allocate."
    )
    at_once: int = Field(
        default=16, ge=2, description="Files held open at the same time; more are timed in groups, each with baselines."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the order of turns and of the bootstrap.")

    @property
    def rounds_each(self) -> int:
        """Rounds of one process."""
        return ceil(self.rounds / self.processes)


@hookimpl
def pqd_commands() -> list[CommandDef]:
    """`pqd bench`."""
    return [
        CommandDef(
            name="bench",
            summary="Measure deployed files side by side: latency, throughput, load, memory, energy, share in INT8.",
            load="pqd_measure.bench:bench",
            example="pqd bench float.onnx int8.onnx int8.xml int8.pt2@torch,mode=compiled --images data.npz",
        )
    ]


@hookimpl
def pqd_checkups() -> list[CheckupDef]:
    """What spoils measurements, and what can be measured."""
    return [
        CheckupDef(
            name="noise", summary="How far times of identical work lie apart here.", load="pqd_measure.checkups:noise"
        ),
        CheckupDef(name="clock", summary="What sets the CPU's clock rate.", load="pqd_measure.checkups:clock"),
        CheckupDef(name="energy", summary="Whether energy counters can be read.", load="pqd_measure.checkups:energy"),
    ]


@hookimpl
def pqd_measurers() -> list[MeasurerDef]:
    """The six measurers of this package."""
    return [
        MeasurerDef(
            name="accuracy",
            summary="Share of images that the deployed file classifies correctly.",
            load="pqd_measure.accuracy",
            settings=AccuracySettings,
            metrics=(ACCURACY, ACCURACY_TOP5, ACCURACY_VALIDATION),
        ),
        MeasurerDef(
            name="size",
            summary="Bytes of the deployed file, as it is and compressed.",
            load="pqd_measure.size",
            settings=SizeSettings,
            metrics=(SIZE, SIZE_ZSTD),
        ),
        MeasurerDef(
            name="latency",
            summary="Time, memory and energy of one inference, all candidates in turns, each in processes of its own.",
            load="pqd_measure.latency",
            settings=LatencySettings,
            metrics=TIMED_METRICS,
            together=True,
            version="3",
        ),
        MeasurerDef(
            name="sparsity",
            summary="Share of weights that are exactly zero in the deployed file.",
            load="pqd_measure.sparsity",
            metrics=(SPARSITY,),
        ),
        MeasurerDef(
            name="quantization-error",
            summary="Share of the trained weights' energy that rounding to the file's integers lost.",
            load="pqd_measure.quantization",
            metrics=(QUANTIZATION_ERROR,),
        ),
        MeasurerDef(
            name="macs",
            summary="Multiply-adds for one image, zeros counted as work.",
            load="pqd_measure.macs",
            metrics=(MACS,),
        ),
        MeasurerDef(
            name="integers",
            summary="Share of the multiply-adds that the runtime runs on integers, and what stays float, and why.",
            load="pqd_measure.integers",
            metrics=(INT8_SHARE,),
            version="2",
        ),
    ]
