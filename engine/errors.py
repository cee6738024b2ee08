"""The errors Stoker raises on purpose; each is translated once, at the edge."""

from __future__ import annotations


class StokerError(Exception):
    """Base of every error that is Stoker's own; ``str(error)`` is fit for a user."""


class InvalidRequestError(StokerError):
    """The request cannot be served as it is; the message says what to change."""


class ContextExceededError(InvalidRequestError):
    """The prompt alone does not fit the model's context.

    Attributes:
        num_prompt_tokens: Length of the rendered prompt in tokens.
        max_context_tokens: The model's context limit in tokens.
    """

    def __init__(self, num_prompt_tokens: int, max_context_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.max_context_tokens = max_context_tokens
        super().__init__(
            f"prompt is too long: {num_prompt_tokens} tokens > {max_context_tokens} maximum"
        )


class ModelNotFoundError(StokerError):
    """No model of that name is here.

    Attributes:
        name: The name that was asked for.
        available: Names that would have worked.
    """

    def __init__(self, name: str, available: tuple[str, ...]) -> None:
        self.name = name
        self.available = available
        here = ", ".join(available) or "none"
        super().__init__(f"model {name!r} is not here; available: {here}")


class AgentNotFoundError(StokerError):
    """No agent of that id is known."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        super().__init__(f"no agent {agent_id!r}")


class AgentBusyError(StokerError):
    """The agent has a turn in progress, so the action cannot be taken now."""

    def __init__(self, agent_id: str, action: str) -> None:
        self.agent_id = agent_id
        super().__init__(f"cannot {action} {agent_id!r} while it has a turn in progress")


class NotOnDiskError(StokerError):
    """Nothing of the agent's cache is on disk that is not in memory."""

    def __init__(self, agent_id: str, *, is_in_memory: bool = False) -> None:
        self.agent_id = agent_id
        super().__init__(
            f"all of {agent_id!r} is in memory already"
            if is_in_memory
            else f"nothing of {agent_id!r} is on disk"
        )


class NoDiskTierError(StokerError):
    """The action needs caches on disk, and none are kept there, or none can be now."""

    def __init__(self, action: str, reason_off: str = "") -> None:
        self.action = action
        if reason_off:
            message = f"cannot {action} while the disk takes no caches: {reason_off}"
        else:
            message = f"cannot {action}: no caches are kept on disk; set kv_disk_bytes, e.g. 20GB"
        super().__init__(message)


class NoCacheError(StokerError):
    """The agent has no cache that the action could be taken on."""

    def __init__(self, agent_id: str, action: str) -> None:
        self.agent_id = agent_id
        super().__init__(f"cannot {action} {agent_id!r}: it has no cache; give it a turn first")


class ArchiveError(StokerError):
    """A file is not a sound archive of an agent, or it cannot be taken in or written here."""


class ForeignArchiveError(ArchiveError):
    """An archive was made with another model or KV format.

    Attributes:
        theirs: The archive's model, in words.
        ours: The active model, in words.
    """

    def __init__(self, theirs: str, ours: str) -> None:
        self.theirs = theirs
        self.ours = ours
        super().__init__(
            f"the archive was made with {theirs}, and the active model is {ours}; "
            "import it into a Stoker that runs its model"
        )


class OverloadedError(StokerError):
    """There is no room for the request now.

    Attributes:
        retry_after_s: When to try again, in seconds, from the measured rate.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class QueueFullError(OverloadedError):
    """The waiting queue is at its bound."""


class PoolExhaustedError(OverloadedError):
    """The KV cache budget cannot hold the request, even with every idle agent evicted."""


class DeadlineError(StokerError):
    """The turn cannot be answered within its time any more; the message says why."""


class UnavailableError(StokerError):
    """The engine does not take requests in its present state.

    Attributes:
        retry_after_s: Estimate of when it will, in seconds.
    """

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ModelLoadingError(UnavailableError):
    """A model is being loaded."""


class SwapInProgressError(UnavailableError):
    """A change of model is under way.

    Attributes:
        to_model: The model that is coming.
    """

    def __init__(self, to_model: str, retry_after_s: float) -> None:
        self.to_model = to_model
        super().__init__(f"the model is being changed to {to_model}", retry_after_s)


class ModelChangedError(UnavailableError):
    """The request was made for a model that is not active any more; it must be made again."""

    def __init__(self) -> None:
        super().__init__("the model was changed meanwhile; send the request again", 1.0)


class ModelChangeError(StokerError):
    """The model cannot be changed here."""


class DrainingError(UnavailableError):
    """The engine is shutting down and admits nothing new."""


class EngineFailedError(StokerError):
    """The engine thread died or a step failed; the message carries the cause."""


class ConstraintFailedError(EngineFailedError):
    """The grammar of a reply could not be followed further; the message says why."""


class OutOfMemoryError(StokerError):
    """The device found no memory for what a step computes."""


class PayloadError(StokerError):
    """What a block on disk holds is not what this model keeps; the message says what differs."""


class ModelLoadError(StokerError):
    """A model folder or file cannot be loaded; the message says what is wrong with it."""


class KVFormatError(ModelLoadError):
    """The model's keys and values cannot be kept as the settings say; the message says what can."""


class DataFolderInUseError(StokerError):
    """Another process keeps its caches in the same data folder.

    Attributes:
        folder: The folder.
        pid: The other process; None if it is not known.
    """

    def __init__(self, folder: str, pid: int | None) -> None:
        self.folder = folder
        self.pid = pid
        owner = "another Stoker" if pid is None else f"another Stoker (process {pid})"
        super().__init__(
            f"{owner} is using {folder}; stop it, or set STOKER_HOME to another folder for this one"
        )
