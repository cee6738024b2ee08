"""The models of a scripted machine, and what each would mean for its agents. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.cache.quantisation import LOSSLESS_KEY, KVQuantisation, check_bits
from engine.errors import ModelLoadError, ModelNotFoundError
from engine.scripted_cast import BYTES_PER_TOKEN, DEVICE, MODEL
from engine.snapshot import AgentImpact, EngineSnapshot, ModelChoice, ModelRow

NUMBER_BITS = 32
"""Bits of a number in a lossless cache of a scripted model."""
AgentKey = tuple[str, str]
"""Namespace and id of an agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfModel:
    """A model of a scripted machine.

    Attributes:
        choice: As the catalogue knows it.
        row: As it is when it serves.
        load_s: Seconds that a load takes.
        check_s: Seconds of its self-test.
        prefill_tok_s: Tokens a second that its prompts are read at; None where it never ran.
        fault: Why a load of it fails half-way; empty for a model in good order.
        stored: Tokens of agents that an earlier run left on disk for it.
    """

    choice: ModelChoice
    row: ModelRow
    load_s: float = 0.0
    check_s: float = 0.0
    prefill_tok_s: float | None = None
    fault: str = ""
    stored: Mapping[AgentKey, int] = field(default_factory=dict)

    @property
    def model_id(self) -> str:
        """Its name."""
        return self.choice.model_id

    @property
    def space(self) -> str:
        """Names whose caches can be reused by it: its own, in the same format."""
        return f"{self.model_id} {self.row.kv_format}"

    def in_format(self, kv_bits: int | None) -> ShelfModel:
        """The model with its keys and values in so many bits; 0 or None for lossless."""
        if not kv_bits:
            return self
        quantisation = KVQuantisation(kv_bits)
        share = quantisation.bits_per_number / NUMBER_BITS
        cache_bytes = self.choice.cache_bytes_per_1k_tokens
        return dataclasses.replace(
            self,
            choice=dataclasses.replace(
                self.choice,
                kv_format=quantisation.words,
                cache_bytes_per_1k_tokens=None
                if cache_bytes is None
                else round(cache_bytes * share),
            ),
            row=dataclasses.replace(
                self.row,
                kv_format=quantisation.words,
                kv_bytes_per_token=round(self.row.kv_bytes_per_token * share),
            ),
        )


def _row(choice: ModelChoice, num_parameters: int, load_s: float) -> ModelRow:
    return dataclasses.replace(
        MODEL,
        model_id=choice.model_id,
        path=f"models/{choice.model_id}",
        architecture=choice.architecture,
        num_parameters=num_parameters,
        weight_bytes=4 * num_parameters,
        max_context_tokens=choice.max_context_tokens,
        kv_bytes_per_token=(choice.cache_bytes_per_1k_tokens or 0) // 1024,
        load_s=load_s,
    )


_SMALL = ModelChoice(
    model_id=MODEL.model_id,
    origin="bundled",
    architecture="llama",
    num_bits=4,
    size_bytes=98_000_000,
    max_context_tokens=MODEL.max_context_tokens,
    cache_bytes_per_1k_tokens=1024 * BYTES_PER_TOKEN,
    kv_format=LOSSLESS_KEY,
    fits=True,
    verdict="perplexity +1.1 %, 97 % of greedy tokens agree",
    load_s=3.4,
)
_LARGER = dataclasses.replace(
    _SMALL,
    model_id="SmolLM2-360M-Instruct-8bit",
    origin="stoker",
    num_bits=8,
    size_bytes=385_000_000,
    cache_bytes_per_1k_tokens=1024 * 81_920,
    verdict="perplexity +0.1 %, 99 % of greedy tokens agree",
    load_s=5.2,
)
_QWEN = ModelChoice(
    model_id="Qwen3-0.6B-4bit",
    origin="lmstudio",
    architecture="qwen3",
    num_bits=4,
    size_bytes=335_000_000,
    max_context_tokens=40_960,
    cache_bytes_per_1k_tokens=1024 * 229_376,
    fits=True,
)
_UNSTABLE = ModelChoice(
    model_id="Llama-3.2-1B-Instruct-3bit",
    origin="stoker",
    architecture="llama",
    num_bits=3,
    size_bytes=560_000_000,
    max_context_tokens=131_072,
    cache_bytes_per_1k_tokens=1024 * 65_536,
    fits=True,
    verdict="unstable: perplexity +41 %, repeats itself",
)
_TORN = ModelChoice(
    model_id="gemma-3-1b-it-4bit",
    origin="huggingface",
    architecture="gemma3_text",
    num_bits=4,
    size_bytes=733_000_000,
    max_context_tokens=32_768,
    cache_bytes_per_1k_tokens=1024 * 53_248,
    fits=True,
)
_HUGE = ModelChoice(
    model_id="Mixtral-8x7B-Instruct-v0.1-4bit",
    origin="huggingface",
    architecture="mixtral",
    num_bits=4,
    size_bytes=26_300_000_000,
    max_context_tokens=32_768,
    cache_bytes_per_1k_tokens=1024 * 262_144,
    fits=False,
)
_FOREIGN = ModelChoice(
    model_id="RWKV-x060-World-1B6",
    origin="huggingface",
    architecture="rwkv6",
    num_bits=16,
    size_bytes=3_200_000_000,
    refusal="architecture 'rwkv6' is not supported",
)

SHELF: tuple[ShelfModel, ...] = (
    ShelfModel(choice=_SMALL, row=MODEL, load_s=3.4, prefill_tok_s=860.0),
    ShelfModel(
        choice=_LARGER,
        row=_row(_LARGER, 361_821_120, 5.2),
        load_s=5.2,
        prefill_tok_s=330.0,
        stored={
            ("", "claude repo-a"): 4352,
            ("", "claude repo-a/2"): 2304,
            ("", "review-bot"): 6656,
        },
    ),
    ShelfModel(choice=_QWEN, row=_row(_QWEN, 596_049_920, 7.9), load_s=6.1, check_s=1.8),
    ShelfModel(choice=_UNSTABLE, row=_row(_UNSTABLE, 1_235_814_400, 9.0), load_s=7.0, check_s=2.0),
    ShelfModel(
        choice=_TORN,
        row=_row(_TORN, 999_885_952, 8.0),
        load_s=8.0,
        fault="model-00002-of-00003.safetensors is 12 MB short: fetch it again",
    ),
    ShelfModel(
        choice=_HUGE,
        row=_row(_HUGE, 46_702_792_704, 90.0),
        load_s=20.0,
        fault="its weights need 187 GB of memory and this device has 17.2 GB",
    ),
    ShelfModel(choice=_FOREIGN, row=_row(_FOREIGN, 1_600_000_000, 9.0)),
)
"""What is on the machine, the bundled one first."""


def on_shelf(name: str, kv_bits: int | None = None) -> ShelfModel:
    """A model that could be loaded.

    Args:
        name: Its name.
        kv_bits: Bits of its keys and values; 0 or None for lossless.

    Raises:
        InvalidRequestError: They cannot be kept in so many bits.
        ModelNotFoundError: There is none of that name.
        ModelLoadError: It is known that it cannot be loaded.
    """
    check_bits(kv_bits)
    for model in SHELF:
        if model.model_id == name:
            if model.choice.refusal:
                raise ModelLoadError(f"{name} cannot be loaded: {model.choice.refusal}")
            return model.in_format(kv_bits)
    raise ModelNotFoundError(name, tuple(model.model_id for model in SHELF))


Stored = Mapping[str, Mapping[AgentKey, int]]
"""Tokens of each agent that are on disk, for each model and format by the name of its caches."""


def stored_at_first() -> dict[str, dict[AgentKey, int]]:
    """What the disk has of agents before anything happens."""
    return {model.space: dict(model.stored) for model in SHELF}


def choices(
    active: ShelfModel,
    contexts: Sequence[tuple[AgentKey, int]],
    stored: Stored,
    kv_bits: int | None = None,
) -> tuple[ModelChoice, ...]:
    """Every model with what it would mean for the agents; the active one first.

    Args:
        active: The active model.
        contexts: Each agent with the tokens of its context.
        stored: What the disk has of them for the other models.
        kv_bits: Bits of keys and values that a swap is to bring; 0 or None for lossless.

    Raises:
        InvalidRequestError: They cannot be kept in so many bits.
    """
    check_bits(kv_bits)
    found = [
        dataclasses.replace(
            model.choice,
            is_active=model.model_id == active.model_id,
            agents=()
            if model.space == active.space or model.choice.refusal
            else _impact(model, contexts, stored.get(model.space, {})),
        )
        for model in (each.in_format(kv_bits) for each in SHELF)
    ]
    return tuple(sorted(found, key=lambda choice: not choice.is_active))


def _impact(
    model: ShelfModel, contexts: Sequence[tuple[AgentKey, int]], stored: Mapping[AgentKey, int]
) -> tuple[AgentImpact, ...]:
    return tuple(
        AgentImpact(
            agent_id=key[1],
            namespace=key[0],
            num_tokens=num_tokens,
            num_warm_tokens=num_warm,
            prefill_s=(num_tokens - num_warm) / model.prefill_tok_s
            if model.prefill_tok_s
            else None,
        )
        for key, num_tokens in contexts
        for num_warm in [min(num_tokens, stored.get(key, 0))]
    )


def under_model(snapshot: EngineSnapshot, row: ModelRow) -> EngineSnapshot:
    """A snapshot drawn for the first model, with the numbers that another one has.

    Args:
        snapshot: The state, sizes as for ``MODEL``.
        row: The model that serves.
    """
    if row == MODEL:
        return snapshot

    def sized(num_bytes: int) -> int:
        return num_bytes // BYTES_PER_TOKEN * row.kv_bytes_per_token

    pool = snapshot.pool
    grown_bytes = row.weight_bytes - MODEL.weight_bytes
    device = snapshot.device_detail
    return dataclasses.replace(
        snapshot,
        model=row.model_id,
        model_detail=row,
        device_detail=dataclasses.replace(
            device,
            memory_used_bytes=device.memory_used_bytes + grown_bytes,
            memory_active_bytes=device.memory_active_bytes + grown_bytes,
        ),
        pool=dataclasses.replace(
            pool,
            block_bytes=sized(pool.block_bytes),
            bytes_used=sized(pool.bytes_used),
            bytes_budget=sized(pool.bytes_budget),
        ),
        agents=tuple(
            dataclasses.replace(
                agent,
                max_context_tokens=row.max_context_tokens,
                hot_bytes=sized(agent.hot_bytes),
                warm_bytes=sized(agent.warm_bytes),
                shared_bytes=sized(agent.shared_bytes),
            )
            for agent in snapshot.agents
        ),
    )


UNLOADED_DEVICE = dataclasses.replace(
    DEVICE,
    memory_used_bytes=DEVICE.memory_used_bytes - MODEL.weight_bytes,
    memory_active_bytes=DEVICE.memory_active_bytes - MODEL.weight_bytes,
)
"""The device while no model is loaded."""
