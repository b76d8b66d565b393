"""From a frozen model to the file that would be deployed, and back into something that runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import asdict, frozen

from pqd_core.host.environment import package_version
from pqd_core.host.errors import DeployError, PqdError, Problem
from pqd_core.host.keys import canonical_json, content_key
from pqd_core.host.parity import Parity, compare, disagrees
from pqd_core.host.paths import FULL

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from pqd_core.artifact import Artifact, Store
    from pqd_core.context import RunContext
    from pqd_core.host.entries import Entry
    from pqd_core.plan import Plan, Step
    from pqd_core.spec import Spec


class Session(Protocol):
    """A deployed file, loaded and ready."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes), of normalized float32 images (N, C, H, W)."""
        ...

    def close(self) -> None:
        """Give back what the session holds."""
        ...


class Runtime(Protocol):
    """What a runtime's implementation does; a module with these functions is one."""

    def export(self, model: nn.Module, example: Tensor, folder: Path, shared: Path, settings: Any) -> Path:
        """Write `model`, frozen and in eval mode, below `folder` with a free batch size; the file to load.

        `example` is (2, C, H, W) float32. `shared` outlives the call for other runtimes of the same frozen
        model, so that an intermediate form need be made only once.
        """
        ...

    def open_session(self, file: Path, threads: int, settings: Any, batch: int | None = None) -> Session:
        """Load `file` on `threads` threads; a fixed `batch` lets a runtime specialize its kernels."""
        ...

    def input_shape(self, file: Path, settings: Any) -> tuple[int | None, ...]:
        """The images that `file` takes (N, C, H, W), None where any size will do; may be left out.

        For files whose origin is not known: `pqd bench` asks for it.
        """
        ...

    def weights(self, file: Path) -> dict[str, np.ndarray]:
        """The weight of each convolution and linear layer as the file stores it, zero points removed."""
        ...

    def execution(self, file: Path, settings: Any, shape: tuple[int, ...] | None = None) -> Sequence[Operator]:
        """The operators that really run, in order, for one image; may be left out.

        `shape`, (C, H, W), is handed over where `input_shape` leaves sizes open. A runtime that cannot take it leaves
        it out: what it runs of such a file is then not known.
        """
        ...


@frozen
class Operator:
    """What a runtime runs after it has fused and rewritten a file's graph."""

    name: str
    """The layer's name where it is a layer."""
    kind: str
    """The runtime's own word: `QLinearConv`, `Convolution`, ..."""
    role: Literal["compute", "convert", "move"]
    """Whether it computes, only goes from float to integers or back, or only moves values."""
    integer: bool
    """Whether it works on integers."""
    macs: int = 0
    """Multiply-adds for one image, where it multiplies by a weight."""
    why: str = ""
    """Why it computes in float, where the runtime knows better than its weight tells."""


@frozen
class Deployed:
    """A deployed file, where it came from, and how far it is from the model it came from."""

    pipeline: tuple[str, ...]
    """Names of the stages in their order; empty for the dense baseline."""
    seed: int
    step_key: str
    """Content key of the step whose model was exported."""
    runtime: str
    """The runtime's short name."""
    file: Path
    """What the runtime opens; it lies in `folder`."""
    folder: Path
    """Everything that belongs to the file, in the store: to read, not to change."""
    settings: Any
    """The runtime's settings."""
    parity: Parity
    """How far the file's outputs are from the model's."""
    key: str
    """Content key of the deployment."""
    place: Path = Path()
    """Where a person finds the file, relative to the run folder."""
    plugin: str = ""
    """The plugin that brought the runtime."""


def deployment_key(step: Step, runtime: Entry, threads: int) -> str:
    """Content key of a deployment: the step, the runtime's settings, and the versions that write the file.

    What a file is tuned to is part of it where there is such a thing, `threads` for example.
    """
    versions = {name: package_version(name) for name in ("torch", *runtime.record.requires)}
    return content_key(step=step.key, runtime=runtime.identity(), versions=versions, **_tuned_to(runtime, threads))


def _tuned_to(runtime: Entry, threads: int) -> dict[str, Any]:
    if runtime.record.tuned_to is None:
        return {}
    try:
        told = dict(runtime.record.tuned_to(runtime.settings, threads))
        canonical_json(told)
    except Exception as error:
        what = f"does not tell what its files are tuned to ({type(error).__name__}: {error})"
        raise DeployError(Problem(runtime.name, what, f"tell the author of {runtime.plugin}")) from error
    return {"tuned_to": told} if told else {}


def is_deployed(step: Step, runtime: Entry, threads: int, store: Store) -> bool:
    """Whether the store holds the file; it does not where the runtime cannot tell the file's key."""
    try:
        return store.has("deployed", deployment_key(step, runtime, threads))
    except DeployError:
        return False


def deploy(
    step: Step, runtime: Entry, context: RunContext, frozen_model: Callable[[], nn.Module], shared: Path
) -> Deployed:
    """The file that `runtime` would run for `step`, exported and compared with the frozen model on real images.

    Raises:
        DeployError: the runtime cannot take the model, or the file's predictions differ from the model's too often.
    """
    key = deployment_key(step, runtime, context.threads)
    with context.store.locked(key):
        stored = context.store.find("deployed", key)
        if stored is None:
            stored = _export(step, runtime, context, frozen_model(), shared, key)
            context.log.info("deployed", runtime=runtime.name, file=stored.about["file"], **stored.about["parity"])
    parity = Parity(**stored.about["parity"])
    if disagrees(parity, context.spec.max_disagreement):
        raise DeployError(_disagreement(where_deployed(step, runtime, context.plan), parity, context.spec))
    file = stored.folder / stored.about["file"]
    return Deployed(
        pipeline=step.pipeline,
        seed=step.seed,
        step_key=step.key,
        runtime=runtime.name,
        file=file,
        folder=stored.folder,
        settings=runtime.settings,
        parity=parity,
        key=key,
        plugin=runtime.plugin,
    )


def _export(step: Step, runtime: Entry, context: RunContext, model: nn.Module, shared: Path, key: str) -> Artifact:
    implementation = runtime.record.implementation()
    began = time.perf_counter()
    about: dict[str, Any] = {"pipeline": list(step.pipeline), "step": step.key, "runtime": runtime.flat()}
    with context.store.saved("deployed", key, about) as folder:
        try:
            file = implementation.export(model, context.example, folder, shared, runtime.settings)
            place = file.relative_to(folder).as_posix()
            parity = compare(model, file, runtime, context)
        except PqdError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise DeployError(_cannot_take(where_deployed(step, runtime, context.plan), error)) from error
        about |= {
            "file": place,
            "parity": asdict(parity),
            "input": asdict(context.info),
            "seconds": time.perf_counter() - began,
        }
    stored = context.store.find("deployed", key)
    assert stored is not None
    return stored


def where_deployed(step: Step, runtime: Entry, plan: Plan) -> str:
    """`nudge, seed 1 on light`: the place of a problem."""
    return f"{plan.name(step)} on {runtime.name}"


def _disagreement(where: str, parity: Parity, spec: Spec) -> Problem:
    return Problem(
        where,
        f"the deployed file predicts another class than its model for {parity.changed_predictions:.1%} "
        f"of {parity.images} images, more than chance allows at max_disagreement {spec.max_disagreement:g}",
        "train longer, as in a hardly trained network last bits change predictions; where pqd doctor says that INT8 "
        "saturates, quantize to the reduced weight range; or raise max_disagreement",
    )


def _cannot_take(where: str, error: BaseException) -> Problem:
    reason = (str(error).strip().splitlines() or [""])[0][:300]
    return Problem(where, f"cannot be deployed ({type(error).__name__}: {reason})")
