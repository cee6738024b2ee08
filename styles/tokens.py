"""The visual language: marks with their ASCII twins, and what each colour means.

Every widget takes its marks from a ``Glyphs`` and its colours from the roles here, so that a
state looks the same wherever it appears. Colours are names of theme variables, never values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.snapshot import AgentStatus, BlockState, BlockTier, EngineStatus

BRIGHT = "$foreground"
PLAIN = "$foreground 85%"
MUTED = "$foreground 55%"
DIM = "$foreground 30%"
TRACK = "$foreground 18%"
GOOD = "$success"
WORKING = "$primary"
DISK = "$secondary"
WARN = "$warning"
BRAND = "$accent"
BAD = "$error"
CURSOR = "bold reverse $accent"

AGENT_ROLE: dict[AgentStatus, str] = {
    AgentStatus.QUEUED: PLAIN,
    AgentStatus.RESTORING: WORKING,
    AgentStatus.PREFILLING: WORKING,
    AgentStatus.DECODING: GOOD,
    AgentStatus.TOOL_WAIT: PLAIN,
    AgentStatus.IDLE: MUTED,
    AgentStatus.WARM: DISK,
    AgentStatus.COLD: DIM,
}

ENGINE_ROLE: dict[EngineStatus, str] = {
    EngineStatus.STARTING: WORKING,
    EngineStatus.LOADING: WORKING,
    EngineStatus.SERVING: GOOD,
    EngineStatus.SWAPPING: WORKING,
    EngineStatus.DRAINING: WARN,
    EngineStatus.STOPPED: MUTED,
    EngineStatus.FAILED: BAD,
}

BLOCK_ROLE: dict[BlockState, str] = {
    BlockState.FREE: TRACK,
    BlockState.RUNNING: GOOD,
    BlockState.SHARED: WORKING,
    BlockState.HOT: MUTED,
    BlockState.CACHED: DIM,
    BlockState.PINNED: BRAND,
    BlockState.DIRTY: BRAND,
}

BLOCK_ORDER: tuple[BlockState, ...] = (
    BlockState.RUNNING,
    BlockState.SHARED,
    BlockState.PINNED,
    BlockState.HOT,
    BlockState.DIRTY,
    BlockState.CACHED,
    BlockState.FREE,
)
"""Most telling first; legends and stacked bars list states in this order."""

BLOCK_WORD: dict[BlockState, str] = {
    BlockState.FREE: "free",
    BlockState.RUNNING: "running",
    BlockState.SHARED: "shared",
    BlockState.HOT: "hot",
    BlockState.CACHED: "cached",
    BlockState.PINNED: "pinned",
    BlockState.DIRTY: "unsaved",
}

TIER_ROLE: dict[BlockTier, str] = {
    BlockTier.NONE: TRACK,
    BlockTier.MEMORY: BRAND,
    BlockTier.DISK: DISK,
}

TIER_WORD: dict[BlockTier, str] = {
    BlockTier.NONE: "free",
    BlockTier.MEMORY: "memory only",
    BlockTier.DISK: "on disk too",
}

OWNER_COLOURS: tuple[str, ...] = (
    "#5fb3f9",
    "#7fd88f",
    "#f5a65b",
    "#c79bf2",
    "#f2d06b",
    "#5fd3c6",
    "#f58ab0",
    "#a8b545",
    "#9aa7f7",
    "#d98f6c",
)
"""Colours of agents in the block map, told apart also on a light ground."""

EVENT_ROLE = {"info": MUTED, "warning": WARN, "error": BAD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """Marks of one cell each.

    Attributes:
        agent: Mark of each agent status.
        block: Mark of each block state.
        tier: Mark of a block by where its content is.
        pinned: Before a pinned agent's name.
        paused: An agent whose turns are held.
        cursor: In front of the selected row.
        error: Errors, and an engine that is down.
        warning: Things to look at.
        note: Ordinary events.
        serving: The engine is up.
        bar_full: Filled cell of a bar.
        bar_half: Half-filled cell at a bar's end.
        bar_empty: Empty cell of a bar.
        spark: Chart levels from lowest to highest.
        origins: Prompt tokens that were in memory, came from disk, were computed again, are new.
        phases: Time of a turn in the queue, reading from disk, in prefill, decoding.
        ellipsis: Stands for text that was cut.
        separator: Between facts on one line.
        up: Sorted upwards.
        down: Sorted downwards.
    """

    agent: dict[AgentStatus, str] = field(repr=False)
    block: dict[BlockState, str] = field(repr=False)
    tier: dict[BlockTier, str] = field(repr=False)
    pinned: str
    paused: str
    cursor: str
    error: str
    warning: str
    note: str
    serving: str
    bar_full: str
    bar_half: str
    bar_empty: str
    spark: str
    origins: str
    phases: str
    ellipsis: str
    separator: str
    up: str
    down: str


UNICODE = Glyphs(
    agent={
        AgentStatus.QUEUED: "◌",
        AgentStatus.RESTORING: "●",
        AgentStatus.PREFILLING: "◐",
        AgentStatus.DECODING: "●",
        AgentStatus.TOOL_WAIT: "◔",
        AgentStatus.IDLE: "○",
        AgentStatus.WARM: "◇",
        AgentStatus.COLD: "·",
    },
    block={
        BlockState.FREE: "·",
        BlockState.RUNNING: "█",
        BlockState.SHARED: "▓",
        BlockState.HOT: "▒",
        BlockState.CACHED: "╌",
        BlockState.PINNED: "◆",
        BlockState.DIRTY: "░",
    },
    tier={BlockTier.NONE: "·", BlockTier.MEMORY: "░", BlockTier.DISK: "▓"},
    pinned="◆",
    paused="‖",
    cursor="▌",
    error="✖",
    warning="▲",
    note="·",
    serving="●",
    bar_full="━",
    bar_half="╸",
    bar_empty="─",
    spark="▁▂▃▄▅▆▇█",
    origins="━╍┉─",
    phases="┈╍━─",
    ellipsis="…",
    separator="·",
    up="▴",
    down="▾",
)

ASCII = Glyphs(
    agent={
        AgentStatus.QUEUED: ".",
        AgentStatus.RESTORING: "r",
        AgentStatus.PREFILLING: ">",
        AgentStatus.DECODING: "*",
        AgentStatus.TOOL_WAIT: "t",
        AgentStatus.IDLE: "o",
        AgentStatus.WARM: "w",
        AgentStatus.COLD: "-",
    },
    block={
        BlockState.FREE: ".",
        BlockState.RUNNING: "#",
        BlockState.SHARED: "%",
        BlockState.HOT: "+",
        BlockState.CACHED: "-",
        BlockState.PINNED: "P",
        BlockState.DIRTY: "d",
    },
    tier={BlockTier.NONE: ".", BlockTier.MEMORY: "m", BlockTier.DISK: "w"},
    pinned="P",
    paused="=",
    cursor=">",
    error="X",
    warning="!",
    note=".",
    serving="*",
    bar_full="#",
    bar_half="=",
    bar_empty="-",
    spark="_.:-=+*#",
    origins="#%=-",
    phases=".%#=",
    ellipsis="~",
    separator="|",
    up="^",
    down="v",
)
