"""The agent in an archive: what ``agent.json`` says, checked before it is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.cache import reply
from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import HASH_BYTES, AgentRecord, JsonScalar, KVSpace
from engine.cache.turn_history import MAX_TURN_MARKS, TurnMark, from_scalars, to_scalars
from engine.errors import ArchiveError, InvalidRequestError
from engine.request import check_agent_id

FORMAT_NAME = "stoker-agent"
FORMAT_VERSION = 1
MAX_LAST_TURN_FIELDS = 64
MAX_TEXT_CHARS = 4096
MAX_DIGEST_BYTES = 64

_INT64 = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedAgent:
    """An agent and the model that its cache belongs to.

    Attributes:
        record: The agent. It is never pinned: that is a decision about one machine's memory.
        space: The model and KV format of its blocks.
        model_id: Name of the model, for people.
        checkpoints: Blocks beside the table: each follows one of its full blocks, or none.
    """

    record: AgentRecord
    space: KVSpace
    model_id: str = ""
    checkpoints: tuple[bytes, ...] = ()

    @property
    def root_hash(self) -> bytes:
        """Parent of its first block."""
        return self.space.root_hash_of(self.record.namespace)

    @property
    def model_words(self) -> str:
        """The model and format in words that tell two of them apart."""
        name = self.model_id or "a model"
        return f"{name} ({self.space.fingerprint[:12]}, KV {self.space.kv_format})"

    def encode(self) -> bytes:
        """The text of ``agent.json``."""
        record = self.record
        body = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "model": {
                "id": self.model_id,
                "fingerprint": self.space.fingerprint,
                "kv_format": self.space.kv_format,
            },
            "agent": {
                "id": record.agent_id,
                "namespace": record.namespace,
                "named_here": record.named_here,
                "protocol": record.protocol,
                "num_tokens": record.num_tokens,
                "tail_token_ids": list(record.tail_token_ids),
                "prompt_digest": record.prompt_digest.hex(),
                "num_prompt_tokens": record.num_prompt_tokens,
                "num_turns": record.num_turns,
                "last_active_time": record.last_active_time,
                "last_turn": dict(record.last_turn),
                "turns": [to_scalars(mark) for mark in record.turns],
                "replies": [reply.to_scalars(tokens) for tokens in record.replies],
            },
            "blocks": [block_hash.hex() for block_hash in record.block_hashes],
            "checkpoints": [block_hash.hex() for block_hash in self.checkpoints],
        }
        return json.dumps(body, indent=1).encode()


def parse_agent(content: bytes) -> ArchivedAgent:
    """Reads ``agent.json``; whatever the bytes are, nothing else can be raised.

    Raises:
        ArchiveError: It is of another version, or not what was written.
    """
    try:
        body = json.loads(content)
        if body["format"] != FORMAT_NAME:
            raise ArchiveError("the file is no archive of an agent")
        if body["version"] != FORMAT_VERSION:
            raise ArchiveError(
                f"the archive has version {_text(str(body['version']))[:20]}, and this Stoker "
                f"reads version {FORMAT_VERSION}"
            )
        model, agent = body["model"], body["agent"]
        checkpoints = tuple(map(_hash, body["checkpoints"]))
        if len({*body["blocks"], *body["checkpoints"]}) != len(body["blocks"]) + len(checkpoints):
            raise ValueError("a block is named twice")
        return ArchivedAgent(
            checkpoints=checkpoints,
            record=_parse_record(agent, body["blocks"]),
            space=KVSpace(_text(model["fingerprint"]), _text(model["kv_format"])),
            model_id=_text(model["id"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArchiveError(
            f"the archive's agent.json is damaged ({type(error).__name__})"
        ) from error
    except InvalidRequestError as error:
        raise ArchiveError(f"the archive's agent.json is damaged: {error}") from error


def _parse_record(agent: Mapping[str, Any], blocks: list[str]) -> AgentRecord:
    check_agent_id(_text(agent["id"]))
    block_hashes = tuple(map(_hash, blocks))
    tail = tuple(_count(token, 1 << 32) for token in agent["tail_token_ids"])
    if not block_hashes or len(tail) >= BLOCK_TOKENS:
        raise ValueError("there is no block, or the tail is none")
    return AgentRecord(
        agent_id=agent["id"],
        namespace=_text(agent["namespace"]),
        named_here=_flag(agent["named_here"]),
        protocol=_text(agent["protocol"]),
        block_hashes=block_hashes,
        num_tokens=_count(agent["num_tokens"]),
        tail_token_ids=tail,
        prompt_digest=_digest(agent["prompt_digest"]),
        num_prompt_tokens=_count(agent["num_prompt_tokens"]),
        num_turns=_count(agent["num_turns"]),
        last_active_time=_time(agent["last_active_time"]),
        last_turn=_scalars(agent["last_turn"]),
        turns=_marks(agent["turns"]),
        replies=tuple(map(reply.from_scalars, agent.get("replies", ()))),
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS or not value.isprintable():
        raise TypeError("not a printable text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _count(value: object, limit: int = _INT64) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError("not a count")
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a time")
    if not (math.isfinite(value) and 0 <= value < _INT64):
        raise ValueError("a time out of range")
    return float(value)


def _hash(value: object) -> bytes:
    block_hash = bytes.fromhex(_text(value))
    if len(block_hash) != HASH_BYTES or block_hash.hex() != value:
        raise ValueError("not a hash")
    return block_hash


def _digest(value: object) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) > MAX_DIGEST_BYTES:
        raise ValueError("not a digest")
    return digest


def _marks(value: object) -> tuple[TurnMark, ...]:
    if not isinstance(value, list) or len(value) > MAX_TURN_MARKS:
        raise TypeError("not a short list")
    return tuple(map(from_scalars, value))


def _scalars(value: object) -> Mapping[str, JsonScalar]:
    if not isinstance(value, dict) or len(value) > MAX_LAST_TURN_FIELDS:
        raise TypeError("not a small object")
    for name, item in value.items():
        if not isinstance(item, str | int | float | bool | None) or len(str(item)) > MAX_TEXT_CHARS:
            raise TypeError(f"{name} is not a small scalar")
    return value
