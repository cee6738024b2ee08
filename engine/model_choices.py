"""The models that could be made the active one, and what each would mean for the agents."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.answer import finish
from engine.errors import StokerError
from engine.model_commands import ListModels
from engine.model_history import ModelHistory, ModelRun
from engine.model_host import ModelHost
from engine.read_ahead import Post
from engine.settings import ModelShelf
from engine.snapshot import AgentImpact, AgentRow, ModelChoice, ModelRow

if TYPE_CHECKING:
    from engine.models.entry import ModelEntry

SavedFor = Callable[[str], Mapping[tuple[str, str], int]]
"""Tokens on disk for a model's fingerprint, by namespace and id of the agent."""


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
        if not command.done.set_running_or_notify_cancel():
            return
        loaded = self._host.loaded
        assert loaded is not None
        if self._shelf is None:
            command.done.set_result((_active_alone(loaded.model_row, None),))
            return
        persistence = loaded.core.persistence
        saved_for: SavedFor = persistence.tier.saved_for if persistence else _nothing
        reading = _Reading(
            self._shelf, self._host.history, saved_for, loaded.model_row, tuple(agents)
        )
        threading.Thread(
            target=self._read, args=(command.done, reading), name="stoker-models", daemon=True
        ).start()

    def _read(self, done: Future[tuple[ModelChoice, ...]], reading: _Reading) -> None:
        try:
            choices = reading.choices()
        except (StokerError, OSError) as error:
            self._post(partial(done.set_exception, error))
        else:
            self._post(partial(finish, done, lambda: choices))


def _nothing(_fingerprint: str) -> Mapping[tuple[str, str], int]:
    return {}


class _Reading:
    """One look at the models of the machine."""

    def __init__(
        self,
        shelf: ModelShelf,
        history: ModelHistory,
        saved_for: SavedFor,
        active: ModelRow,
        agents: tuple[AgentRow, ...],
    ) -> None:
        self._shelf = shelf
        self._history = history
        self._saved_for = saved_for
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
        return ModelChoice(
            model_id=entry.model_id,
            origin=entry.origin,
            architecture=entry.architecture,
            num_bits=entry.num_bits,
            size_bytes=entry.size_bytes,
            max_context_tokens=entry.max_context_tokens,
            cache_bytes_per_1k_tokens=entry.cache_bytes_per_1k_tokens,
            fits=entry.fits,
            refusal=entry.refusal,
            is_active=is_active,
            load_s=run.load_s if run else None,
            agents=() if is_active else tuple(self._impacts(fingerprint, run)),
        )

    def _impacts(self, fingerprint: str | None, run: ModelRun | None) -> list[AgentImpact]:
        saved = self._saved_for(fingerprint) if fingerprint else {}
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
        architecture=model.architecture,
        size_bytes=model.weight_bytes,
        max_context_tokens=model.max_context_tokens,
        cache_bytes_per_1k_tokens=1024 * model.kv_bytes_per_token,
        is_active=True,
        load_s=load_s,
    )
