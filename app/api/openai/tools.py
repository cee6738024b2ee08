"""The tools a client offers, and what it asked of them, in the shapes of both OpenAI dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.api.draft import canonical_json
from app.api.fields import Fields
from engine.messages import ToolChoice, ToolSpec, ToolUse

_USES = {use.value: use for use in ToolUse}
_NO_PARAMETERS = {"type": "object", "properties": {}}

NameOf = Callable[[Fields], str]
AllowedOf = Callable[[Fields], Fields]


@dataclass(frozen=True, slots=True)
class FunctionName:
    """The name of a function as a client of the Responses API writes it.

    Attributes:
        name: Its own name.
        namespace: The group it is in; empty where it is in none.
    """

    name: str
    namespace: str = ""

    @property
    def for_model(self) -> str:
        """The one name the model knows it by. Plain names have no dots, so it is no other's."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


def chat_tools(body: Fields) -> Iterator[ToolSpec]:
    """The functions of a chat completion's ``tools``.

    Raises:
        FieldError: One is not described as it has to be.
    """
    for tool in body.children("tools"):
        if tool.required_text("type") != "function":
            continue  # runs on the vendor's servers, which are not here
        function = _required(tool, "function")
        yield _function(function, FunctionName(function.required_text("name")))


def response_tools(body: Fields) -> Iterator[tuple[FunctionName, ToolSpec]]:
    """The functions of a response's ``tools``, those in namespaces too.

    Raises:
        FieldError: One is not described as it has to be.
    """
    for tool in body.children("tools"):
        kind = tool.required_text("type")
        if kind == "namespace":
            group = tool.required_text("name")
            for member in tool.children("tools"):
                yield from _named_function(member, group)
        else:
            yield from _named_function(tool, "")


def _named_function(tool: Fields, namespace: str) -> Iterator[tuple[FunctionName, ToolSpec]]:
    if tool.required_text("type") == "function":  # all others run on the vendor's servers
        name = FunctionName(tool.required_text("name"), namespace)
        yield name, _function(tool, name)


def _function(fields: Fields, name: FunctionName) -> ToolSpec:
    parameters = fields.child("parameters")
    return ToolSpec(
        name=name.for_model,
        description=fields.text("description") or "",
        parameters_json=canonical_json(parameters.values if parameters else _NO_PARAMETERS),
    )


def with_own_names(body: Fields, tools: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The tools of a request, each of which has a name of its own.

    Raises:
        FieldError: Two have the same.
    """
    by_name: dict[str, ToolSpec] = {}
    for tool in tools:
        if by_name.setdefault(tool.name, tool) is not tool:
            raise body.error("tools", f"two of them are called {tool.name[:100]!r}")
    return tuple(by_name.values())


def chat_tool_choice(body: Fields, tools: Sequence[ToolSpec]) -> ToolChoice:
    """A chat completion's ``tool_choice`` and ``parallel_tool_calls``.

    Raises:
        FieldError: It is none of the known forms, or names a tool that is not offered.
    """
    return _tool_choice(body, tools, _chat_name, lambda choice: _required(choice, "allowed_tools"))


def response_tool_choice(body: Fields, tools: Sequence[ToolSpec]) -> ToolChoice:
    """A response's ``tool_choice`` and ``parallel_tool_calls``.

    Raises:
        FieldError: It is none of the known forms, or names a tool that is not offered.
    """
    return _tool_choice(body, tools, _response_name, lambda choice: choice)


def _chat_name(choice: Fields) -> str:
    return _required(choice, "function").required_text("name")


def _response_name(choice: Fields) -> str:
    named = FunctionName(choice.required_text("name"), choice.text("namespace") or "")
    return named.for_model


def _required(fields: Fields, name: str) -> Fields:
    child = fields.child(name)
    if child is None:
        raise fields.error(name, "field required")
    return child


def _tool_choice(
    body: Fields, tools: Sequence[ToolSpec], name_of: NameOf, allowed_of: AllowedOf
) -> ToolChoice:
    """Puts a choice together.

    Args:
        body: The request.
        tools: What it offers.
        name_of: What names a function in this dialect.
        allowed_of: What holds a choice among several in it.
    """
    use, names = _wanted(body, name_of, allowed_of)
    if use is ToolUse.REQUIRED and not tools:
        raise body.error("tool_choice", "no function is offered that could be called")
    for name in names:
        if all(tool.name != name for tool in tools):
            raise body.error("tool_choice", f"no function {name[:100]!r} is offered")
    is_parallel = body.get("parallel_tool_calls") is None or body.flag("parallel_tool_calls")
    return ToolChoice(use=use, names=names, is_parallel=is_parallel)


def _wanted(
    body: Fields, name_of: NameOf, allowed_of: AllowedOf
) -> tuple[ToolUse, tuple[str, ...]]:
    """Whether to call, and which functions only."""
    choice = None if isinstance(body.get("tool_choice"), str) else body.child("tool_choice")
    if choice is None:
        use = _USES.get(body.text("tool_choice") or "auto")
        if use is None:
            raise _unknown_choice(body)
        return use, ()
    kind = choice.required_text("type")
    if kind == "function":
        return ToolUse.REQUIRED, (name_of(choice),)
    if kind != "allowed_tools":
        raise _unknown_choice(body)
    return _allowed(allowed_of(choice), name_of)


def _allowed(allowed: Fields, name_of: NameOf) -> tuple[ToolUse, tuple[str, ...]]:
    """A choice among some of the tools: all are in the prompt, and some may be called."""
    mode = allowed.required_text("mode")
    if mode not in ("auto", "required"):
        raise allowed.error("mode", "must be auto or required")
    if allowed.get("tools") is None:
        raise allowed.error("tools", "field required")
    listed = list(allowed.children("tools"))
    functions = [tool for tool in listed if tool.required_text("type") == "function"]
    names = tuple(dict.fromkeys(map(name_of, functions)))
    if names:
        return _USES[mode], names
    if mode == "required":
        raise allowed.error("tools", "has no function that could be called")
    return ToolUse.NONE, ()


def _unknown_choice(body: Fields) -> Exception:
    return body.error(
        "tool_choice", "must be none, auto, required, one function by its name, or allowed_tools"
    )
