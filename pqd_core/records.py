"""The inert records that plugins hand over: what there is, and where its code lies.

Records are data. Collecting them imports no torch and runs no work; the implementation behind
`load` is imported when a step, a deployment or a measurement first needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import instance_of, matches_re, min_len
from pydantic import BaseModel, ConfigDict

Better = Literal["higher", "lower", "neither"]
ALL_FACTS = "*"
NAME = r"^[a-z0-9][a-z0-9.]*([-/][a-z0-9][a-z0-9.]*)*$"


class Settings(BaseModel):
    """What a person may set on a component: frozen, every key known, every field described."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def resolve(load: Any) -> Any:
    """What a `module` or `module:attribute` path names, or the thing itself if it is no path."""
    if not isinstance(load, str):
        return load
    module, _, attribute = load.partition(":")
    found = import_module(module)
    return attrgetter(attribute)(found) if attribute else found


@frozen
class FactDef:
    """A word about a model, and how to see whether it is true.

    `probe(model, evidence)` returns the problems it sees as sentences, none when the fact holds.
    `hold(model, evidence)` restores the fact; `fit` calls it after every optimizer step. Evidence is a mapping of
    tensors that the giving stage left. Both are functions or `module:function` paths, which load when first used.
    """

    name: str = field(validator=matches_re(NAME))
    summary: str = field(validator=min_len(1))
    probe: str | Callable[..., Any]
    hold: str | Callable[..., Any] | None = None


@frozen
class MetricDef:
    """One number that a measurer gives, its unit (`ms`, `bytes`, `1` for a share) and its better side."""

    name: str = field(validator=instance_of(str))
    unit: str = field(validator=instance_of(str))
    better: Better
    headline: bool = True
    """Whether the short table shows it."""


def _fact_names(facts: tuple[str | FactDef, ...]) -> tuple[str, ...]:
    return tuple(fact if isinstance(fact, str) else fact.name for fact in facts)


@frozen(kw_only=True)
class ComponentDef:
    """What all components share: a name, one sentence, settings, a version and a place to load from."""

    name: str = field(validator=matches_re(NAME))
    summary: str = field(validator=min_len(1))
    load: str | object
    """`module` or `module:attribute` of the implementation, or the implementation itself."""
    settings: type[Settings] = field(default=Settings)
    version: str = field(default="1", validator=instance_of(str))
    """Part of every content key: raise it when the same settings give another result."""

    @settings.validator
    def _is_settings(self, _: object, value: object) -> None:
        if not (isinstance(value, type) and issubclass(value, Settings)):
            raise TypeError(f"{self.name}: settings must be a subclass of pqd_core.Settings")

    def implementation(self) -> Any:
        """The code behind the record, imported on first use."""
        return resolve(self.load)


@frozen(kw_only=True)
class BackboneDef(ComponentDef):
    """A network architecture; its implementation has `build(settings, info) -> nn.Module`."""

    fingerprint: Callable[[Any], str] | None = None
    """What else the content key has to know of these settings (the source of a user's own file, say)."""


@frozen(kw_only=True)
class DatasetDef(ComponentDef):
    """Labelled images; its implementation has `open_data(settings) -> Data`."""

    fingerprint: Callable[[Any], str] | None = None
    """A digest of the data that these settings name, so that changed files are another request."""


@frozen(kw_only=True)
class StageDef(ComponentDef):
    """A step from model to model, as `pqd_core.Stage` says; `needs`, `gives`, `ends` and `keeps` name facts."""

    kind: str = field(validator=matches_re(NAME))
    """`prune`, `quantize`, `distill`, ...: a free word for people; the core never branches on it."""
    needs: tuple[str, ...] = ("trainable",)
    gives: tuple[str | FactDef, ...] = ()
    ends: tuple[str, ...] = ()
    keeps: tuple[str, ...] = (ALL_FACTS,)
    trains: bool = True
    """Whether it takes epochs; a stage that does not gets no share of the budget."""
    no_gain: Mapping[str, str] = field(factory=dict)
    """For a metric that this stage may leave where it was: why, in a sentence for the report."""

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the facts that hold after this stage because of it."""
        return _fact_names(self.gives)

    def after(self, facts: frozenset[str]) -> frozenset[str]:
        """The facts that hold when this stage has run on a model with `facts`."""
        kept = facts if ALL_FACTS in self.keeps else facts & set(self.keeps)
        return (kept - set(self.ends)) | set(self.given)


@frozen(kw_only=True)
class RuntimeDef(ComponentDef):
    """Where a model is deployed; its implementation follows `pqd_core.Runtime`."""

    requires: tuple[str, ...] = ()
    """Names of distributions whose versions are part of a deployment's identity."""
    opens: Mapping[str, tuple[str, ...]] = field(factory=dict)
    """Suffixes of the files that it opens, its own first; each with those of files that belong beside it."""
    tuned_to: Callable[[Any, int], Mapping[str, Any]] | None = None
    """`tuned_to(settings, threads)`: what of this machine a file that is made here with these settings is tuned to, as
    plain JSON for the deployment's key; nothing where the file is the same wherever it is made."""


@frozen(kw_only=True)
class MeasurerDef(ComponentDef):
    """What turns deployed files into numbers; its implementation follows `pqd_core.Measurer`."""

    metrics: tuple[MetricDef, ...] = field(validator=min_len(1))
    together: bool = False
    """All candidates in one call, as a paired comparison needs; else one call each."""


@frozen(kw_only=True)
class TaskDef(ComponentDef):
    """What outputs mean; its implementation is a function of the settings that gives a `pqd_core.Task`."""


@frozen(kw_only=True)
class RendererDef(ComponentDef):
    """A form of the report; its implementation is a function `render(report) -> {file: text or bytes}`.

    The core writes the files into the run folder; a renderer that raises is listed in the report, and the run goes on.
    """

    file: str = field(validator=matches_re(r"^\w[\w.-]*$"))
    """Name of the main file, which a person opens."""
    compare: str | Callable[..., Any] | None = None
    """What makes this form of two runs side by side, `compare(comparison) -> {file: text or bytes}`, or its path."""


@frozen(kw_only=True)
class RecipeDef:
    """A spec under a name, or several recipes that are run one after another.

    `spec` is a mapping, or the path `package:file.yaml` of one in a package; `parts` names other recipes instead.
    """

    name: str = field(validator=matches_re(NAME))
    summary: str = field(validator=min_len(1))
    spec: str | Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if (self.spec is None) == (not self.parts):
            raise ValueError(f"recipe {self.name} needs either a spec or parts")


@frozen(kw_only=True)
class CommandDef:
    """A command of `pqd`: what follows the word on the command line, and the function that does it.

    `load` names a function whose typed parameters are the command's arguments and options, as typer reads them. It
    prints, and raises `PqdError` for what a person can mend.
    """

    name: str = field(validator=matches_re(NAME))
    summary: str = field(validator=min_len(1))
    load: str | Callable[..., None]
    example: str = field(validator=min_len(1))
    """A whole command line, shown at the end of the help."""


@frozen
class Finding:
    """One thing that `pqd doctor` tells: what is so, whether that is well, and what to do if not."""

    text: str = field(validator=min_len(1))
    ok: bool = True
    advice: str = ""


@frozen(kw_only=True)
class CheckupDef:
    """What `pqd doctor` asks a plugin: `load` names a function that returns or yields `Finding`s, within a second."""

    name: str = field(validator=matches_re(NAME))
    summary: str = field(validator=min_len(1))
    load: str | Callable[[], Any]


Record = (
    BackboneDef
    | DatasetDef
    | StageDef
    | RuntimeDef
    | MeasurerDef
    | TaskDef
    | RendererDef
    | RecipeDef
    | CommandDef
    | CheckupDef
)
