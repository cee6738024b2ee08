"""The same agent id under two keys: two lanes, and what is done to one is not done to the other."""

from __future__ import annotations

from dataclasses import replace

from app.dashboard.app import StokerApp
from engine.agent_commands import PinAgent
from engine.commands import Command
from engine.messages import ChatFormat
from engine.snapshot import AgentRow, EngineSnapshot, EngineStatus, ModelRow
from tests.dashboard.driving import until
from tests.dashboard.screen_text import screen_text
from widgets.lane_list import LaneList

ROWS = tuple(
    AgentRow(agent_id="repo", namespace=name, num_turns=1, num_context_tokens=900)
    for name in ("alice", "bob", "")
)


class StillEngine:
    """Shows one snapshot, and keeps what it is sent."""

    def __init__(self) -> None:
        self.snapshot = EngineSnapshot(
            step=1,
            status=EngineStatus.SERVING,
            model="tiny",
            model_detail=ModelRow(model_id="tiny"),
            agents=ROWS,
        )
        self.chat_format: ChatFormat | None = None
        self.sent: list[Command] = []

    def start(self) -> None:
        """Is running."""

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def join(self, timeout_s: float | None = None) -> bool:
        return True


async def test_each_lane_is_its_own_agent() -> None:
    engine = StillEngine()
    app = StokerApp(engine, address="127.0.0.1:8000")
    async with app.run_test(size=(160, 45)) as pilot:
        await until(pilot, lambda: "alice: repo" in screen_text(app))
        assert "bob: repo" in screen_text(app)
        lanes = app.screen.query_one(LaneList)
        await pilot.press("down")
        await pilot.press("p")
        engine.snapshot = replace(engine.snapshot, step=2, agents=(ROWS[2], ROWS[0], ROWS[1]))
        await pilot.pause(1.2)
        assert lanes.selected is not None
        assert lanes.selected.key == ROWS[1].key, "the cursor stays on its agent"
        await pilot.press("p")
        await pilot.pause()
    pins = [command for command in engine.sent if isinstance(command, PinAgent)]
    assert [(pin.namespace, pin.agent_id) for pin in pins] == [("bob", "repo")] * 2
