"""Commands about models; like all of them frozen, and answered through a future."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from engine.snapshot import ModelChoice, SwapReport

DEFAULT_DRAIN_S = 30.0
"""How long running turns may go on before a swap preempts them, in seconds."""
MAX_DRAIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListModels:
    """Tell which models are here, and what each would mean for the agents.

    Attributes:
        kv_bits: Bits of keys and values that a swap is to bring; 0 keeps them as computed, None
            as it is set for each model.
        done: Resolves to the models, the active one first; fails with InvalidRequestError where
            keys and values cannot be kept so.
    """

    kv_bits: int | None = None
    done: Future[tuple[ModelChoice, ...]] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapModel:
    """Make another model the active one; agents keep their names, pins and what is on disk.

    Turns that do not finish in time are preempted. A model that cannot be loaded leaves the
    previous one active.

    Attributes:
        model: What the settings would call it: an id of the catalogue, or the path of a folder.
        drain_s: Seconds that running turns may go on; 0 preempts them at once.
        kv_bits: Bits of its keys and values while it is active; 0 keeps them as computed, None as
            it is set for the model. The active model in another format is loaded anew.
        done: Resolves when the model serves; fails with ModelNotFoundError, SwapInProgressError,
            InvalidRequestError where keys and values cannot be kept so, UnavailableError while
            the engine shuts down, or ModelLoadError when the previous model
            is active again.
    """

    model: str
    drain_s: float = DEFAULT_DRAIN_S
    kv_bits: int | None = None
    done: Future[SwapReport] = field(default_factory=Future)


ModelCommand = ListModels | SwapModel
