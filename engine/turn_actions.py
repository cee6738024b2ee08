"""What can be done to agents' turns while they wait and run, and to how they are batched."""

from __future__ import annotations

from engine.answer import answer
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.commands import AbortAgent, PauseAgent, SetBatchWindow, SetPriority, TurnCommand
from engine.endings import Endings
from engine.sequence import Sequence
from engine.stepper import Stepper
from engine.telemetry import Telemetry
from engine.turn_limits import check_batch_window, check_priority


class TurnActions:
    """Carries out commands about turns. Every method belongs to the engine's thread."""

    def __init__(
        self, agents: AgentStore, stepper: Stepper, endings: Endings, telemetry: Telemetry
    ) -> None:
        """Wires the parts.

        Args:
            agents: Whose turns they are.
            stepper: Interrupts turns; its scheduler orders them.
            endings: Ends turns.
            telemetry: Takes events.
        """
        self._agents = agents
        self._stepper = stepper
        self._endings = endings
        self._scheduler = stepper.scheduler
        self._telemetry = telemetry

    def obey(self, command: TurnCommand) -> None:
        """Carries a command out and answers its future."""
        match command:
            case AbortAgent():
                answer(command.done, lambda: self.abort(command.agent_id, command.namespace))
            case PauseAgent():
                answer(command.done, lambda: self._pause(command))
            case SetPriority():
                answer(command.done, lambda: self._set_priority(command))
            case SetBatchWindow():
                answer(command.done, lambda: self._set_batch_window(command.window_ms))

    def abort(self, agent_id: str, namespace: str = "") -> int:
        """Ends every turn of an agent.

        Returns:
            How many there were.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        ended = self._turns_of(self._agents.get(agent_id, namespace))
        for sequence in ended:
            self._endings.abort(sequence, "aborted by hand")
        return len(ended)

    def _pause(self, command: PauseAgent) -> bool:
        agent, paused = self._agents.get(command.agent_id, command.namespace), command.paused
        if agent.paused == paused:
            return paused
        self._agents.set_paused(agent, paused)
        for sequence in self._turns_of(agent) if paused else ():
            if sequence in self._scheduler.running:
                self._stepper.interrupt(sequence)
        self._telemetry.note("pause" if paused else "resume", agent.agent_id)
        return paused

    def _set_priority(self, command: SetPriority) -> int:
        priority = check_priority(command.priority)
        agent = self._agents.get(command.agent_id, command.namespace)
        if agent.priority != priority:
            self._agents.set_priority(agent, priority)
            self._scheduler.reorder()
            self._telemetry.note("priority", f"{agent.agent_id}: {priority:+d}")
        return priority

    def _set_batch_window(self, window_ms: float) -> float:
        self._scheduler.set_batch_window(check_batch_window(window_ms))
        self._telemetry.note("batch", f"window {window_ms:g} ms")
        return window_ms

    def _turns_of(self, agent: Agent) -> list[Sequence]:
        return [sequence for sequence in self._scheduler if sequence.agent is agent]
