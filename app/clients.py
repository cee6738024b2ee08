"""The coding agents that Stoker knows how to start, and what each has to be told. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

NO_KEY = "local"
"""What clients send where Stoker wants no key; they insist on one."""
ROOMY_CONTEXT_TOKENS = 32_768
"""From here on a client's own instructions and tools leave room for work."""
MAX_REPLY_TOKENS = 32_000
PATIENCE_MS = 3_000_000
"""How long a client waits: a long prompt may take a plain CPU many minutes."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_KEY_VARIABLE = "STOKER_CLIENT_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStoker:
    """A Stoker that takes turns.

    Attributes:
        url: Its address, without a path.
        key: What clients send as their key.
        model: Id of its model.
        max_context_tokens: The model's context limit in tokens.
    """

    url: str
    key: str
    model: str
    max_context_tokens: int

    @property
    def is_roomy(self) -> bool:
        """Whether a client's usual instructions and tools leave room for work."""
        return self.max_context_tokens >= ROOMY_CONTEXT_TOKENS

    @property
    def max_reply_tokens(self) -> int:
        """What a reply may take, so that the conversation keeps most of the context."""
        return min(MAX_REPLY_TOKENS, self.max_context_tokens // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a client is started.

    Attributes:
        command: Its program and arguments.
        environment: Variables that are set for it.
        unset: Variables that must not be there: they would send it elsewhere.
        notes: What the person who starts it should know.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    unset: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A coding agent.

    Attributes:
        name: What people call it.
        program: The program it is started with.
        package: The npm package that installs it.
        launch: How it is started, with arguments of the user's own.
    """

    name: str
    program: str
    package: str
    launch: Callable[[RunningStoker, Sequence[str]], Launch]

    @property
    def install_command(self) -> str:
        """The line that installs it."""
        return f"npm install -g {self.package}"


_CLAUDE_UNSET = (
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
)


def claude_address(url: str) -> dict[str, str]:
    """What decides where Claude Code calls; an empty value is met by a variable not set."""
    return {"ANTHROPIC_BASE_URL": url, **dict.fromkeys(_CLAUDE_UNSET, "")}


def _claude_environment(stoker: RunningStoker) -> dict[str, str]:
    models = (
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    )
    return {
        "ANTHROPIC_BASE_URL": stoker.url,
        "ANTHROPIC_API_KEY": stoker.key,
        **dict.fromkeys(models, stoker.model),
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(stoker.max_context_tokens),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(stoker.max_reply_tokens),
        # The attribution header differs between conversations, which would share nothing.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "MAX_THINKING_TOKENS": "0",
        "API_TIMEOUT_MS": str(PATIENCE_MS),
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_MS),
        "API_FORCE_IDLE_TIMEOUT": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # It keeps more room free than a small context has, and would compact every few turns.
        **({} if stoker.is_roomy else {"DISABLE_AUTO_COMPACT": "1"}),
    }


def _claude(stoker: RunningStoker, arguments: Sequence[str]) -> Launch:
    is_bare = not stoker.is_roomy and "--bare" not in arguments
    note = (
        f"{stoker.model} takes {stoker.max_context_tokens:,} tokens, less than Claude Code's own "
        "tools and instructions: started with --bare"
    )
    return Launch(
        command=("claude", *(["--bare"] if is_bare else []), *arguments),
        environment=_claude_environment(stoker),
        unset=_CLAUDE_UNSET,
        notes=(note,) if is_bare else (),
    )


def _codex(stoker: RunningStoker, arguments: Sequence[str]) -> Launch:
    provider = {
        "name": "Stoker",
        "base_url": f"{stoker.url}/v1",
        "wire_api": "responses",
        "env_key": _KEY_VARIABLE,
        "stream_idle_timeout_ms": PATIENCE_MS,
    }
    overrides: dict[str, object] = {
        "model": stoker.model,
        "model_context_window": stoker.max_context_tokens,
        "model_provider": "stoker",
        **{f"model_providers.stoker.{name}": value for name, value in provider.items()},
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
    }
    # The values are TOML, in which strings, numbers and booleans look as they do in JSON.
    flags = [
        word for name, value in overrides.items() for word in ("-c", f"{name}={json.dumps(value)}")
    ]
    return Launch(
        command=("codex", *flags, *arguments),
        environment={_KEY_VARIABLE: stoker.key},
        notes=_narrow_notes(stoker, "Codex"),
    )


def _opencode(stoker: RunningStoker, arguments: Sequence[str]) -> Launch:
    limit = {"context": stoker.max_context_tokens, "output": stoker.max_reply_tokens}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Stoker",
        "options": {"baseURL": f"{stoker.url}/v1", "apiKey": stoker.key, "timeout": False},
        "models": {stoker.model: {"name": stoker.model, "limit": limit}},
    }
    config: dict[str, object] = {
        "provider": {"stoker": provider},
        "model": f"stoker/{stoker.model}",
        "small_model": f"stoker/{stoker.model}",
        "autoupdate": False,
        "share": "disabled",
    }
    if not stoker.is_roomy:
        # Its instructions alone are taken for a full context, and it would compact without end.
        config["compaction"] = {"auto": False}
    return Launch(
        command=("opencode", *arguments),
        environment={
            "OPENCODE_CONFIG_CONTENT": json.dumps(config),
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        },
        notes=_narrow_notes(stoker, "opencode"),
    )


def _narrow_notes(stoker: RunningStoker, name: str) -> tuple[str, ...]:
    if stoker.is_roomy:
        return ()
    note = (
        f"{stoker.model} takes {stoker.max_context_tokens:,} tokens, and {name}'s own tools and "
        f"instructions may not fit: a model of {ROOMY_CONTEXT_TOKENS:,} tokens or more has room"
    )
    return (note,)


CLIENTS = {
    client.program: client
    for client in (
        Client(
            name="Claude Code",
            program="claude",
            package="@anthropic-ai/claude-code",
            launch=_claude,
        ),
        Client(name="Codex", program="codex", package="@openai/codex", launch=_codex),
        Client(name="opencode", program="opencode", package="opencode-ai", launch=_opencode),
    )
}


def prepare(
    client: Client, stoker: RunningStoker, arguments: Sequence[str], environ: Mapping[str, str]
) -> Launch:
    """How a client is started from an environment.

    Args:
        client: What is started.
        stoker: What it talks to.
        arguments: Its own arguments.
        environ: The environment it comes from.
    """
    launch = client.launch(stoker, arguments)
    unproxied = _unproxied(urlsplit(stoker.url).hostname or "", environ)
    return replace(launch, environment={**launch.environment, **unproxied})


def _unproxied(host: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Keeps a proxy of the user's, if there is one, out of the way to Stoker."""
    if not any(name.lower() in _PROXIES and environ[name] for name in environ):
        return {}
    kept = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    hosts = ",".join(part for part in (kept, host) if part)
    return {"NO_PROXY": hosts, "no_proxy": hosts}
