"""Agents whose caches are on disk for another model, or for this one in another format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from engine.cache.disk.records import AgentRecord, JsonScalar, KVSpace
from engine.cache.quantisation import KVQuantisation

_FINGERPRINT, _KV_FORMAT = "fingerprint", "kv_format"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAgent:
    """An agent as another model or format knows it.

    Attributes:
        record: Its table there.
        space: Whose table that is.
        is_same_model: Whether only the format differs.
    """

    record: AgentRecord
    space: KVSpace
    is_same_model: bool


def space_scalars(space: KVSpace) -> dict[str, JsonScalar]:
    """What a record says of its space, so that another space can tell what became of an agent."""
    return dict(asdict(space))


def is_of(record: AgentRecord, fingerprint: str, quantisation: KVQuantisation | None) -> bool:
    """Whether a record is of a model in a format.

    Args:
        record: An agent of any space.
        fingerprint: The model.
        quantisation: The format; None for lossless.
    """
    words = str(record.last_turn.get(_KV_FORMAT)).split()
    # The layers of full attention are named by their format where that is not the lossless one.
    is_in_format = quantisation.key in words if quantisation else "turned" not in words
    return record.last_turn.get(_FINGERPRINT) == fingerprint and is_in_format


def foreign_agents(
    records: Iterable[AgentRecord], space: KVSpace
) -> dict[tuple[str, str], ForeignAgent]:
    """The agents of other spaces by namespace and id, as the space that served each last knows it.

    Args:
        records: Agents of all spaces. Those that do not name theirs are passed over.
        space: The space that is served now.
    """
    found: dict[tuple[str, str], ForeignAgent] = {}
    for record in sorted(records, key=lambda record: record.last_active_time):
        fingerprint = record.last_turn.get(_FINGERPRINT)
        kv_format = record.last_turn.get(_KV_FORMAT)
        if not isinstance(fingerprint, str) or not isinstance(kv_format, str):
            continue
        theirs = KVSpace(fingerprint, kv_format)
        if theirs != space:
            found[record.namespace, record.agent_id] = ForeignAgent(
                record=record,
                space=theirs,
                is_same_model=fingerprint == space.fingerprint,
            )
    return found
