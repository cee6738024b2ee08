"""A change of model: how far it is, what it took, and what each model would mean for the agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SwapPhase(StrEnum):
    """The part of a swap under way, in order; ``RESTORING`` only where the load has failed.

    While it prepares, everything is served as before.
    """

    PREPARING = "preparing"
    DRAINING = "draining"
    SAVING = "saving"
    UNLOADING = "unloading"
    LOADING = "loading"
    CHECKING = "checking"
    REBUILDING = "rebuilding"
    RESTORING = "restoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapParts:
    """What a swap took, in seconds.

    Attributes:
        prepare_s: To find and check the new model while the old one serves.
        drain_s: Until no turn ran any more.
        save_s: Until the disk had what it takes of the caches.
        unload_s: Until the memory of the old model was given back.
        load_s: To read the new model.
        check_s: Its self-test; 0 where the result was on record.
        rebuild_s: The pool, the agents and what they have on disk.
        total_s: All of it, from the command to the first step that could be taken.
    """

    prepare_s: float = 0.0
    drain_s: float = 0.0
    save_s: float = 0.0
    unload_s: float = 0.0
    load_s: float = 0.0
    check_s: float = 0.0
    rebuild_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapRow:
    """The swap under way.

    Attributes:
        from_model: The model that goes.
        to_model: The model that comes.
        phase: The part under way.
        progress: Share of the whole that is done, 0-1.
        elapsed_s: Seconds since it began.
        eta_s: Seconds until it is done; None where nothing tells.
        num_waiting: Turns of the model that goes which have not ended yet.
    """

    from_model: str
    to_model: str
    phase: SwapPhase = SwapPhase.PREPARING
    progress: float = 0.0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    num_waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReport:
    """A swap that is done.

    Attributes:
        from_model: The model that was active before.
        to_model: The model that is active now.
        parts: What it took.
    """

    from_model: str
    to_model: str
    parts: SwapParts = field(default_factory=SwapParts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentImpact:
    """What a model would mean for one agent.

    Attributes:
        agent_id: The agent.
        namespace: Whose agent it is; see ``Request.namespace``.
        num_tokens: Tokens of its context under the active model.
        num_warm_tokens: Tokens that the disk has of it under that model.
        prefill_s: Seconds to compute the rest again; None where no speed was measured.
    """

    agent_id: str
    namespace: str = ""
    num_tokens: int = 0
    num_warm_tokens: int = 0
    prefill_s: float | None = None

    @property
    def title(self) -> str:
        """Its name for people; see ``AgentRow.title``."""
        return f"{self.namespace}: {self.agent_id}" if self.namespace else self.agent_id

    @property
    def num_lost_tokens(self) -> int:
        """Tokens that would have to be computed again."""
        return max(0, self.num_tokens - self.num_warm_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model that could be made the active one.

    Attributes:
        model_id: What a swap takes.
        origin: Where it was found; see ``ModelEntry.origin``.
        architecture: ``model_type`` of its config.
        num_bits: Bits of a weight; 0 where its files do not tell.
        size_bytes: Length of its weight files.
        max_context_tokens: Its context limit; 0 where its config does not tell.
        cache_bytes_per_1k_tokens: KV cache of 1024 tokens; None where its config does not tell.
        kv_format: How a swap would keep its keys and values, in words; see ``ModelRow.kv_format``.
        fits: Whether it and 4096 tokens fit this device; None where it is not known.
        refusal: Why it cannot be loaded; empty if nothing speaks against it.
        verdict: What was found when it was judged, on one line; empty where it never was.
        is_active: Whether it is the active model, maybe in another KV format.
        load_s: Seconds its last load took here; None where it was never loaded.
        agents: What it would mean for each agent; empty for the active model as it is.
    """

    model_id: str
    origin: str = ""
    architecture: str = ""
    num_bits: int = 0
    size_bytes: int = 0
    max_context_tokens: int = 0
    cache_bytes_per_1k_tokens: int | None = None
    kv_format: str = ""
    fits: bool | None = None
    refusal: str = ""
    verdict: str = ""
    is_active: bool = False
    load_s: float | None = None
    agents: tuple[AgentImpact, ...] = ()
