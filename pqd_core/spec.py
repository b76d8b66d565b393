"""What a person asks for: the network, the data, the stages in their order, and where to deploy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    FilePath,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pqd_core.goals import Goal, checked_goals
from pqd_core.host.entries import (
    MAX_EPOCHS,
    BackboneEntry,
    DatasetEntry,
    Entry,
    MeasurerEntry,
    RuntimeEntry,
    StageEntry,
    TaskEntry,
)
from pqd_core.host.environment import Threads
from pqd_core.host.errors import did_you_mean
from pqd_core.host.keys import file_digest
from pqd_core.host.named_pipelines import NamedPipelines
from pqd_core.host.words import counted
from pqd_core.records import Settings

Share = Annotated[float, Field(ge=0, lt=1)]
STUDIES = ("as-written", "auto", "orders", "subsets", "full")


def _no_yes_or_no(value: Any) -> Any:
    """`true` is no number, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number")  # noqa: TRY004 - pydantic tells a person of no other
    return value


def _known_study(value: Any) -> Any:
    if isinstance(value, str) and value not in STUDIES and (near := get_close_matches(value, STUDIES, n=1)):
        raise ValueError(f"there is no study '{value}'; {did_you_mean(value, near)}")
    return value


Seed = Annotated[int, BeforeValidator(_no_yes_or_no), Field(ge=0, lt=2**32)]
Study = Annotated[Literal["as-written", "auto", "orders", "subsets", "full"], BeforeValidator(_known_study)]
OneOrSeveral = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))
"""A single one may be written without a list around it."""


def _path_or_digest(path: Any, info: SerializationInfo) -> str:
    return file_digest(path) if (info.context or {}).get("for") == "key" else str(path)


CheckpointPath = Annotated[FilePath, PlainSerializer(_path_or_digest, return_type=str)]
"""An existing file of weights; in a content key it stands for its bytes, wherever it lies."""


class Training(Settings):
    """How a network is trained: the optimizer, the learning rate over time, and the batches."""

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Stochastic gradient descent or AdamW.")
    lr: float = Field(0.1, gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    nesterov: bool = Field(True, description="Nesterov's form of momentum.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay on all parameters.")
    batch_size: int = Field(128, ge=1, description="Images per optimizer step, over all processes.")
    schedule: Literal["cosine", "step", "constant"] = Field(
        "cosine", description="Decay after warm-up: half a cosine to zero, a tenth at 1/2 and at 3/4, or none."
    )
    warmup: Share = Field(0.0, description="Share of the steps in which the learning rate rises linearly.")
    label_smoothing: Share = Field(0.0, description="Probability spread over all classes.")
    augment: bool = Field(True, description="Random crop and flip, as far as the dataset allows them.")
    workers: int = Field(2, ge=0, description="Loader processes of datasets that are read from disk.")


class Baseline(Training):
    """How the dense network comes about: trained here, or taken from a checkpoint."""

    epochs: int = Field(
        20, ge=0, lt=MAX_EPOCHS, description="Epochs of dense training, on top of the checkpoint if there is one."
    )
    checkpoint: CheckpointPath | None = Field(
        None, description="Weights to start from: safetensors, or a state dict saved by torch.save."
    )

    @model_validator(mode="before")
    @classmethod
    def _checkpoint_needs_no_training(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("checkpoint") is not None:
            return {"epochs": 0, **value}
        return value


class Budget(Settings):
    """Epochs for all stages together, and how the stages share them."""

    epochs: int = Field(10, ge=0, lt=MAX_EPOCHS, description="Epochs of all stages together; the baseline's are apart.")
    split: tuple[Annotated[float, Field(ge=0, le=1e9)], ...] | None = Field(
        None, description="The share of each stage that trains, in any unit (20, 40, 40); equal shares if not given."
    )
    by: Literal["stage", "position"] = Field(
        "stage",
        description="Whether a share belongs to its stage wherever that stands, or to a place among those that train.",
    )

    def allocate(self, stages: int) -> list[int]:
        """Whole epochs by stage that sum to `epochs`: shares rounded down, the rest to the largest remainders,
        the earlier stage first.
        """
        split = self.split or (1.0,) * stages
        exact = [self.epochs * share / sum(split) for share in split]
        whole = [int(share + 1e-9) for share in exact]
        by_remainder = sorted(range(stages), key=lambda i: (whole[i] - exact[i], i))
        for i in by_remainder[: self.epochs - sum(whole)]:
            whole[i] += 1
        return whole


class Spec(Settings):
    """A request: one network, one dataset, an ordered list of stages, and what to find out about the result."""

    name: str = Field("", max_length=80, description="Names the run folder; made from the rest if empty.")
    description: str = Field("", description="A sentence for the report.")
    backbone: BackboneEntry = Field(description="The network.")
    dataset: DatasetEntry = Field(description="The data.")
    task: TaskEntry | None = Field(
        None, description="What the network's outputs mean; one class for each image if not given."
    )
    validation: Share = Field(
        0.1, description="Share of the training images held out, so that choices are not made on the test images."
    )
    baseline: Baseline = Field(Baseline(), description="How the dense network comes about.")
    stages: tuple[StageEntry, ...] = Field((), max_length=12, description="The pipeline, in its order.")
    study: Study = Field(
        "as-written",
        description="Which pipelines to run: the written one, the legal order nearest to it (auto), every legal order "
        "of all stages, every subset in the written order, or every legal order of every subset (full).",
    )
    pipelines: NamedPipelines = Field((), description="Named by their stages' names; in place of a study.")
    max_pipelines: int = Field(64, ge=1, description="A study of more pipelines than this is refused, never cut.")
    budget: Budget = Field(Budget(), description="Epochs for the stages that name none of their own.")
    runtimes: tuple[RuntimeEntry, ...] | None = Field(
        None, description="Where to deploy; all installed runtimes if not given."
    )
    measure: tuple[MeasurerEntry, ...] | None = Field(
        None, description="What to measure; all installed measurers if not given."
    )
    max_disagreement: float = Field(
        0.02, ge=0, le=1, description="Share of predictions a deployed file may change; an exact test refuses more."
    )
    seeds: Annotated[tuple[Seed, ...], OneOrSeveral] = Field(
        (0,),
        max_length=64,
        validation_alias=AliasChoices("seeds", "seed"),
        description="Each pipeline is run once per seed: of initial weights, data order and subsets. "
        "A single one may be written as 'seed'.",
    )
    goals: Annotated[tuple[Goal, ...], OneOrSeveral] = Field(
        (), description="What the result is for; the report names the pipelines that win and those that miss it."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train.")
    threads: Threads | None = Field(None, description="CPU threads to train, deploy and measure with.")

    @model_validator(mode="before")
    @classmethod
    def _seeds_under_one_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and {"seed", "seeds"} <= value.keys():
            raise ValueError("'seed' and 'seeds' are two names of the same; write one of them")
        return value

    @field_validator("runtimes", "measure")
    @classmethod
    def _each_once(cls, entries: tuple[Entry, ...] | None) -> tuple[Entry, ...] | None:
        names = [entry.name for entry in entries or ()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is there twice; a report has one column for it")
        return entries

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("is empty; write 0, or any other number")
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise ValueError(f"{twice[0]} is there twice; the second run would be the first one again")
        return seeds

    @field_validator("goals")
    @classmethod
    def _goals_are_measured(cls, goals: tuple[Goal, ...], info: ValidationInfo) -> tuple[Goal, ...]:
        return checked_goals(goals, info) if goals and "measure" in info.data else goals

    @model_validator(mode="after")
    def _budget_fits_stages(self) -> Self:
        split, trained = self.budget.split, len(self._trained)
        if split is not None and self.stages and (len(split) != trained or not sum(split)):
            given = ", ".join(f"{share:g}" for share in split) or "empty"
            stages = counted(trained, "stage") + (" that train" if trained < len(self.stages) else "")
            wanted = f"give one share for each of the {stages}, not all of them 0"
            raise ValueError(f"budget.split is {given}; {wanted if trained else 'no stage trains, leave it out'}")
        return self

    @property
    def title(self) -> str:
        """The name as far as a folder can have it; where nothing is left, one made of what is asked."""
        parts = [self.backbone.name, self.dataset.name, *(stage.name for stage in self.stages)]
        parts += [f"{len(self.pipelines)}-pipelines"] if self.pipelines else []
        parts += [] if self.study == "as-written" else [self.study]
        plain = (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] for name in (self.name, "-".join(parts)))
        return next(filter(None, plain), "run")

    @property
    def _trained(self) -> list[int]:
        return [i for i, stage in enumerate(self.stages) if stage.record.trains]

    def stage_epochs(self, pipeline: Sequence[int] | None = None) -> list[int]:
        """Epochs of each stage of `pipeline` (indices; all if None): its own, or its budget share; 0 if untrained."""
        pipeline, trained = range(len(self.stages)) if pipeline is None else pipeline, self._trained
        owners = trained if self.budget.by == "stage" else [i for i in pipeline if i in trained]
        shares = dict(zip(owners, self.budget.allocate(len(trained)) if trained else (), strict=False))
        return [shares.get(i, 0) if (own := self.stages[i].epochs) is None else own for i in pipeline]
