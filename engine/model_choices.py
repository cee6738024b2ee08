"""The models that could be made the active one, and what each would mean for the agents."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.answer import answer_later, finish
from engine.cache.quantisation import KVQuantisation, check_bits, format_words
from engine.errors import StokerError
from engine.model_commands import ListModels
from engine.model_history import ModelHistory, ModelRun
from engine.model_host import ModelHost
from engine.read_ahead import Post
from engine.settings import ModelShelf
from engine.snapshot import AgentImpact, AgentRow, ModelChoice, ModelRow

if TYPE_CHECKING:
    from engine.models.entry import ModelEntry

SavedFor = Callable[[str, KVQuantisation | None], Mapping[tuple[str, str], int]]
"""Tokens on disk for a model's fingerprint and format, by namespace and id of the agent."""
FormatOf = Callable[[str], KVQuantisation | None]
"""How a swap would keep a model's keys and values, by what the settings call it."""


class ModelChoices:
    """Answers ``ListModels``. Belongs to the engine's thread; folders are read on another."""

    def __init__(self, host: ModelHost, shelf: ModelShelf | None, post: Post) -> None:
        """Has read nothing yet.

        Args:
            host: Has the active model.
            shelf: The models to change between; None where the first one stays.
            post: Has something done on the engine's thread.
        """
        self._host = host
        self._shelf = shelf
        self._post = post

    def answer(self, command: ListModels, agents: Sequence[AgentRow]) -> None:
        """Answers a command, soon.

        Args:
            command: Who wants to know.
            agents: The agents as they are now.
        """
        answer_later(command.done, lambda: self._begin(command, agents))

    def _begin(self, command: ListModels, agents: Sequence[AgentRow]) -> None:
        check_bits(command.kv_bits)
        loaded = self._host.loaded
        assert loaded is not None
        if self._shelf is None:
            command.done.set_result((_active_alone(loaded.model_row, None),))
            return
        persistence = loaded.core.persistence
        saved_for: SavedFor = persistence.tier.saved_for if persistence else _nothing
        format_of = partial(self._format_of, self._shelf, command.kv_bits)
        reading = _Reading(
            self._shelf, self._host.history, saved_for, format_of, loaded.model_row, tuple(agents)
        )
        threading.Thread(
            target=self._read, args=(command.done, reading), name="stoker-models", daemon=True
        ).start()

    def _format_of(
        self, shelf: ModelShelf, kv_bits: int | None, reference: str
    ) -> KVQuantisation | None:
        defaults = shelf.defaults(reference)
        if kv_bits is not None:
            defaults = replace(defaults, kv_bits=kv_bits)
        return self._host.quantisation(defaults)

    def _read(self, done: Future[tuple[ModelChoice, ...]], reading: _Reading) -> None:
        try:
            choices = reading.choices()
        except (StokerError, OSError) as error:
            self._post(partial(done.set_exception, error))
        else:
            self._post(partial(finish, done, lambda: choices))


def _nothing(
    _fingerprint: str, _quantisation: KVQuantisation | None
) -> Mapping[tuple[str, str], int]:
    return {}


class _Reading:
    """One look at the models of the machine."""

    def __init__(
        self,
        shelf: ModelShelf,
        history: ModelHistory,
        saved_for: SavedFor,
        format_of: FormatOf,
        active: ModelRow,
        agents: tuple[AgentRow, ...],
    ) -> None:
        self._shelf = shelf
        self._history = history
        self._saved_for = saved_for
        self._format_of = format_of
        self._active = active
        self._agents = agents

    def choices(self) -> tuple[ModelChoice, ...]:
        """The models, the active one first."""
        choices = [self._choice(entry) for entry in self._shelf.entries()]
        active = [choice for choice in choices if choice.is_active][:1]
        others = [choice for choice in choices if not choice.is_active]
        return (*(active or [_active_alone(self._active, self._active.load_s)]), *others)

    def _choice(self, entry: ModelEntry) -> ModelChoice:
        fingerprint = self._shelf.fingerprint(entry.model_id)
        run = self._history.get(fingerprint)
        is_active = Path(entry.path).resolve() == Path(self._active.path).resolve()
        is_active = is_active or entry.model_id == self._active.model_id
        quantisation = self._format_of(entry.model_id)
        kv_format = format_words(quantisation)
        stays = is_active and kv_format == self._active.kv_format
        return ModelChoice(
            model_id=entry.model_id,
            origin=entry.origin,
            architecture=entry.architecture,
            num_bits=entry.num_bits,
            size_bytes=entry.size_bytes,
            max_context_tokens=entry.max_context_tokens,
            cache_bytes_per_1k_tokens=self._cache_bytes(entry, quantisation),
            kv_format=kv_format,
            fits=entry.fits,
            refusal=entry.refusal,
            verdict=entry.verdict,
            is_active=is_active,
            load_s=run.load_s if run else None,
            agents=() if stays else tuple(self._impacts(fingerprint, quantisation, run)),
        )

    def _cache_bytes(self, entry: ModelEntry, quantisation: KVQuantisation | None) -> int | None:
        """KV cache of 1024 tokens in a format."""
        num_bytes = entry.cache_bytes_per_1k_tokens
        if num_bytes is None or quantisation is None:
            return num_bytes
        number_bits = 32 if self._active.dtype == "float32" else 16
        return round(num_bytes * quantisation.bits_per_number / number_bits)

    def _impacts(
        self,
        fingerprint: str | None,
        quantisation: KVQuantisation | None,
        run: ModelRun | None,
    ) -> list[AgentImpact]:
        saved = self._saved_for(fingerprint, quantisation) if fingerprint else {}
        rate = run.prefill_tok_s if run else None
        impacts = []
        for row in self._agents:
            num_warm = saved.get((row.namespace, row.agent_id), 0)
            num_cold = max(0, row.num_context_tokens - num_warm)
            if row.num_context_tokens or num_warm:
                impacts.append(
                    AgentImpact(
                        agent_id=row.agent_id,
                        namespace=row.namespace,
                        num_tokens=row.num_context_tokens,
                        num_warm_tokens=num_warm,
                        prefill_s=num_cold / rate if rate else None,
                    )
                )
        return impacts


def _active_alone(model: ModelRow, load_s: float | None) -> ModelChoice:
    """The active model where the catalogue does not know it."""
    return ModelChoice(
        model_id=model.model_id,
        origin="path",
        kv_format=model.kv_format,
        architecture=model.architecture,
        size_bytes=model.weight_bytes,
        max_context_tokens=model.max_context_tokens,
        cache_bytes_per_1k_tokens=1024 * model.kv_bytes_per_token,
        is_active=True,
        load_s=load_s,
    )
