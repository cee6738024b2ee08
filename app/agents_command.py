"""``stoker agents``: looks at and acts on the agents of a Stoker that runs.

Importing this module is cheap: it is part of every ``--help``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from app.address import api_url
from app.config import SETTING_FIELDS, load_settings
from engine.errors import InvalidRequestError
from engine.turn_limits import MAX_PRIORITY, MIN_PRIORITY

if TYPE_CHECKING:
    from app.agents_client import AgentsClient

Parsers: TypeAlias = "argparse._SubParsersAction[Any]"

_EXAMPLES = """\
examples:
  stoker agents list
  stoker agents show claude-repo-a
  stoker agents fork review-bot --turn 12 --id second-try
  stoker agents export nightly nightly.stoker-agent
  stoker agents import nightly.stoker-agent --id nightly-2 --url http://10.0.0.5:8000 --key KEY
"""


def add_agents(commands: Parsers, settings: argparse.ArgumentParser) -> None:
    """Adds the command and what belongs to it.

    Args:
        commands: Where to add it.
        settings: Flags of the settings.
    """
    agents = commands.add_parser(
        "agents",
        help="list, inspect, move and remove the agents of a running Stoker",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = agents.add_subparsers(title="commands", metavar="command", required=True)
    shared = _shared_flags()

    def add(name: str, description: str, *, of_agent: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, help=description, parents=[shared, settings]
        )
        if of_agent:
            parser.add_argument("id", help="the agent")
        parser.set_defaults(run=_run, action=name)
        return parser

    add("list", "all agents, a line each", of_agent=False)
    add("show", "one agent, its last turn and its history")
    add("evict", "drop its cache from memory, once the disk has it")
    add("warm", "bring its cache back from disk")
    add("pin", "keep its cache from eviction")
    add("unpin", "let its cache go again")
    add("pause", "let no turn of it go on")
    add("resume", "let its turns go on again")
    priority = add("priority", "let its turns go ahead of others', or behind them")
    priority.add_argument("priority", type=int, help=f"{MIN_PRIORITY} to {MAX_PRIORITY}")
    add("abort", "end its turns, running or waiting")
    fork = add("fork", "make a new agent that starts from its cache")
    fork.add_argument("--id", dest="name", metavar="NAME", help="name of the new agent")
    fork.add_argument("--turn", type=int, metavar="N", help="start at the end of that turn")
    export = add("export", "write it and its cache into one file")
    export.add_argument("file", nargs="?", help="the file (ID.stoker-agent)")
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    take_in = add("import", "take an agent in from a file", of_agent=False)
    take_in.add_argument("file", help="what `export` has written")
    take_in.add_argument("--id", dest="name", metavar="NAME", help="name of the agent here")
    add("rm", "forget it and its cache, on disk too")


def _shared_flags() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--url", help="where Stoker listens (from the settings host and port)")
    shared.add_argument("--key", help="its API key (from the setting api_key)")
    return shared


def _run(arguments: argparse.Namespace) -> int:
    from app.agents_client import AgentsClient

    given = vars(arguments)
    settings = load_settings({name: given[name] for name in SETTING_FIELDS if name in given})
    client = AgentsClient(arguments.url or api_url(settings), arguments.key or settings.api_key)
    body, text = _act(client, arguments)
    if arguments.json:
        text = json.dumps(body, indent=2, ensure_ascii=False)
    sys.stdout.write(f"{text}\n")
    return 0


def _act(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    """Does what is asked.

    Returns:
        The outcome as data and in words.
    """
    match arguments.action:
        case "list" | "show":
            return _look(client, arguments)
        case "fork":
            return _fork(client, arguments)
        case "pause" | "resume" | "priority" | "abort":
            return _steer(client, arguments)
        case "export":
            return _export(client, arguments)
        case "import":
            return _import(client, arguments)
    return _change(client, arguments)


def _look(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from app.agents_client import ServerError, agent_path
    from app.agents_table import agent_page, agents_table
    from engine.snapshot import FormatError, agent_from_json

    is_list = arguments.action == "list"
    body = client.get("/v1/agents" if is_list else agent_path(arguments.id))
    try:
        rows = [agent_from_json(row) for row in (body["data"] if is_list else [body])]
    except (KeyError, TypeError, FormatError) as error:
        raise ServerError("that Stoker is of another version than this command") from error
    return body, agents_table(rows) if is_list else agent_page(rows[0])


def _change(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from app.agents_client import agent_path
    from widgets.format import clean, short_bytes

    name = clean(arguments.id)
    if arguments.action == "rm":
        body = client.delete(agent_path(arguments.id))
        return body, f"{name} removed, {short_bytes(body['freed_bytes'])} freed"
    body = client.post(agent_path(arguments.id, arguments.action))
    if arguments.action == "evict":
        kept = f"{body['num_disk_tokens']:,} of {body['num_tokens']:,} tokens stay on disk"
        return body, f"{name} evicted, {short_bytes(body['freed_bytes'])} freed; {kept}"
    if arguments.action == "warm":
        return body, f"{name} is in memory, {body['num_tokens']:,} tokens"
    return body, f"{name} {'pinned' if body['pinned'] else 'unpinned'}"


def _steer(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from app.agents_client import agent_path
    from widgets.format import clean

    name, action = clean(arguments.id), arguments.action
    wanted = {"priority": arguments.priority} if action == "priority" else None
    body = client.post(agent_path(arguments.id, action), wanted)
    if action == "priority":
        return body, f"{name} has priority {body['priority']:+d}"
    if action == "abort":
        return body, f"{body['num_ended']} turns of {name} aborted"
    return body, f"{name} {'paused' if body['paused'] else 'goes on'}"


def _fork(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from app.agents_client import agent_path
    from widgets.format import clean

    wanted = {"id": arguments.name, "turn": arguments.turn}
    body = client.post(
        agent_path(arguments.id, "fork"),
        {name: value for name, value in wanted.items() if value is not None},
    )
    place = f" after turn {arguments.turn}" if arguments.turn is not None else ""
    return body, f"{clean(arguments.id)} forked{place} as {clean(body['agent_id'])}"


def _export(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from app.agents_client import agent_path
    from app.exports import archive_name
    from widgets.format import clean, short_bytes

    target = Path(arguments.file or archive_name(arguments.id))
    if target.is_dir():
        target /= archive_name(arguments.id)
    if target.exists() and not arguments.force:
        raise InvalidRequestError(f"{target} is there already; name another file, or add --force")
    num_bytes = client.download(agent_path(arguments.id, "export"), target).num_bytes
    body = {"agent_id": arguments.id, "file": str(target), "num_bytes": num_bytes}
    return body, f"{clean(arguments.id)} exported, {short_bytes(num_bytes)} in {target}"


def _import(client: AgentsClient, arguments: argparse.Namespace) -> tuple[Any, str]:
    from urllib.parse import quote

    from widgets.format import clean

    query = f"?id={quote(arguments.name, safe='')}" if arguments.name is not None else ""
    try:
        with open(arguments.file, "rb") as file:
            body = client.upload(f"/v1/agents/import{query}", file)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InvalidRequestError(f"cannot read {arguments.file}: {error.strerror}") from error
    return body, f"{clean(body['agent_id'])} imported, {body['num_tokens']:,} tokens on disk"
