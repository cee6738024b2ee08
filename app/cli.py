"""The ``stoker`` command: reads the command line and hands over.

Importing this module is cheap on purpose. What a command needs is imported when it runs, so that
``stoker --help`` and the dashboard's first paint do not wait for an engine or a web framework.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from app.agents_command import add_agents
from app.attach_command import add_attach, add_readonly
from app.bench_command import add_bench
from app.config import SETTING_FIELDS, ConfigError, Settings, load_settings
from app.launch_command import add_launch
from app.models_command import add_models, check_model
from app.paths import find_paths
from app.replay_command import add_record, add_replay, record_path
from app.selftest_command import add_selftest
from app.speech import complain
from app.terminal import require_terminal
from app.trace_file import add_trace, trace_path
from app.version import __version__
from engine.errors import DataFolderInUseError, InvalidRequestError, ModelNotFoundError, StokerError

EXIT_OK = 0
EXIT_USER = 1
"""The person at the terminal can put it right."""
EXIT_SYSTEM = 2
EXIT_INTERRUPTED = 130

_EXAMPLES = """\
examples:
  stoker                          open the dashboard and serve on http://127.0.0.1:8000
  stoker --port 9000              the same, on another port
  stoker serve --model ./my-model serve without the dashboard
  stoker demo                     see the dashboard at work, without a model
  stoker generate "Why is the sky blue?" --max-tokens 80
  stoker attach http://127.0.0.1:8000
                                  the dashboard of a Stoker that runs
  stoker --record day.stoker-recording
                                  the dashboard, recorded for `stoker replay`
  stoker agents list              the agents of a Stoker that runs
  stoker launch claude            Claude Code on this machine's model
  stoker models list              the models on this machine
  stoker doctor                   check this machine
  stoker selftest                 try it all once, for real
  stoker config show              every setting, its value and where it came from
"""


_FLAGS_OF_SOME = {
    "readonly": ("", "attach"),
    "record": ("", "serve", "attach"),
    "trace": ("", "serve"),
}
"""Flags that may stand before the command, and the commands that have them; "" is none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0 for success, 1 for the user's error, 2 for the system's.
    """
    try:
        arguments = _parser().parse_args(argv)
        _check_place(arguments)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except StokerError as error:
        complain(str(error))
        return _exit_status(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return EXIT_SYSTEM
    return status


def _check_place(arguments: argparse.Namespace) -> None:
    """Refuses flags before a command that has no use for them.

    Raises:
        ConfigError: There is one.
    """
    for flag, commands in _FLAGS_OF_SOME.items():
        if flag in vars(arguments) and (arguments.command or "") not in commands:
            names = " or ".join(f"`{f'stoker {name}'.rstrip()}`" for name in commands)
            raise ConfigError(f"--{flag} goes with {names}")


def _exit_status(error: StokerError) -> int:
    from app.api.errors import BindError

    users = (
        ConfigError | InvalidRequestError | ModelNotFoundError | BindError | DataFolderInUseError
    )
    return EXIT_USER if isinstance(error, users) else EXIT_SYSTEM


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits like every other user's error.

    Attributes:
        passes_on: Whether what stands behind ``--`` is for another program, and left alone.
    """

    passes_on = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses what is its own."""
        if not self.passes_on:
            return super().parse_known_args(args, namespace)
        own = list(itertools.takewhile(lambda word: word != "--", args))
        parsed, unknown = super().parse_known_args(own, namespace)
        parsed.passed_on = list(args[len(own) + 1 :])
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; see `{self.prog} --help`")
        self.exit(EXIT_USER)


def _parser() -> _Parser:
    settings = _settings_parser()
    parser = _Parser(
        prog="stoker",
        allow_abbrev=False,
        description="Runs a local LLM engine, keeps every agent's KV cache warm, and shows it all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[settings],
    )
    parser.add_argument("--version", action="version", version=f"stoker {__version__}")
    add_readonly(parser)
    add_record(parser)
    add_trace(parser)
    parser.set_defaults(run=_run_dashboard)
    commands = parser.add_subparsers(title="commands", metavar="command", dest="command")

    serve = commands.add_parser("serve", help="serve without the dashboard", parents=[settings])
    _add_quiet(serve, "say nothing but errors")
    serve.add_argument(
        "--until-eof",
        action="store_true",
        help="end when standard input does, for programs that start Stoker and may be killed",
    )
    add_record(serve)
    add_trace(serve)
    serve.set_defaults(run=_run_serve)

    demo = commands.add_parser(
        "demo",
        help="the dashboard on a script, without a model",
        parents=[_settings_parser(only=("theme", "plain_glyphs"))],
    )
    demo.set_defaults(run=_run_demo)
    add_attach(commands, settings)
    add_replay(commands, settings)

    _add_generate(commands, settings)
    add_agents(commands, settings)
    add_launch(commands, settings)
    add_models(commands)
    add_bench(commands, settings, _settings_parser(without="kv_bits"))

    add_selftest(commands, settings)
    doctor = commands.add_parser("doctor", help="check this machine", parents=[settings])
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_quiet(doctor, "show only what is not well")
    doctor.set_defaults(run=_run_doctor)

    config = commands.add_parser("config", help="look at the settings")
    config_commands = config.add_subparsers(title="commands", metavar="command", required=True)
    show = config_commands.add_parser(
        "show", help="every setting, its value and where it came from", parents=[settings]
    )
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_run_config_show)
    return parser


def _add_generate(commands: argparse._SubParsersAction[_Parser], settings: _Parser) -> None:
    generate = commands.add_parser("generate", help="answer one prompt", parents=[settings])
    generate.add_argument("prompt", help="what to ask; - reads it from standard input")
    generate.add_argument("--max-tokens", type=int, default=512, help="tokens at most (512)")
    generate.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (0)")
    generate.add_argument("--top-p", type=float, default=1.0, help="nucleus mass (1)")
    generate.add_argument("--seed", type=int, help="makes sampling repeatable")
    generate.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends the answer; repeatable"
    )
    generate.add_argument("--json", action="store_true", help="print text and usage as JSON")
    _add_quiet(generate, "no progress on standard error")
    generate.set_defaults(run=_run_generate)


def _add_quiet(parser: argparse.ArgumentParser, description: str) -> None:
    parser.add_argument("--quiet", action="store_true", help=description)


def _settings_parser(without: str = "", only: Collection[str] = SETTING_FIELDS) -> _Parser:
    """A flag per setting, but for the one that a command has a flag of its own for.

    Flags that are not given leave no trace, so that they may stand before the command or after.
    """
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group(
        "settings", "also from STOKER_<NAME>, ./stoker.toml and the user's stoker.toml"
    )
    for item in SETTING_FIELDS.values():
        if item.is_secret or item.name == without or item.name not in only:
            continue
        if isinstance(item.default, bool):
            group.add_argument(item.flag, action="store_true", help=item.description)
        else:
            description = f"{item.description} ({item.default})"
            group.add_argument(item.flag, metavar=item.metavar, help=description)
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    given = vars(arguments)
    return load_settings({name: given[name] for name in SETTING_FIELDS if name in given})


def _servable_settings(arguments: argparse.Namespace) -> Settings:
    """Settings whose model is there, as far as a glance can tell.

    Raises:
        ConfigError: The model is not there, or nothing here can run it.
    """
    settings = _settings(arguments)
    check_model(settings)
    return settings


def _run_dashboard(arguments: argparse.Namespace) -> int:
    require_terminal()
    settings = _servable_settings(arguments)
    from app.compose import run_dashboard

    return run_dashboard(
        settings,
        is_readonly="readonly" in vars(arguments),
        record=record_path(arguments),
        trace=trace_path(arguments),
    )


def _run_serve(arguments: argparse.Namespace) -> int:
    settings = _servable_settings(arguments)
    from app.compose import run_headless

    return run_headless(
        settings,
        quiet=arguments.quiet,
        record=record_path(arguments),
        trace=trace_path(arguments),
        until_eof=arguments.until_eof,
    )


def _run_demo(arguments: argparse.Namespace) -> int:
    require_terminal()
    settings = _settings(arguments)
    from app.demo import run_demo

    return run_demo(theme=settings.given_theme, plain_glyphs=settings.plain_glyphs)


def _run_generate(arguments: argparse.Namespace) -> int:
    settings = _servable_settings(arguments)
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt.strip():
        raise InvalidRequestError("the prompt is empty")
    if arguments.max_tokens == 0:  # an engine takes that for a prompt to keep, with no answer
        raise InvalidRequestError("max_tokens must be between 1 and 10000000, not 0")
    from engine.request import SamplingParams

    sampling = SamplingParams(
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        seed=arguments.seed,
        stop=tuple(arguments.stop),
        max_tokens=arguments.max_tokens,
    )
    from app.generate import run_generate

    return run_generate(settings, prompt, sampling, as_json=arguments.json, quiet=arguments.quiet)


def _run_doctor(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    from app.doctor import examine, report_as_json, report_as_table

    report = examine(settings, find_paths())
    if arguments.json:
        print(report_as_json(report))
    elif text := report_as_table(report, only_problems=arguments.quiet):
        print(text)
    return EXIT_OK if report.is_well else EXIT_SYSTEM


def _run_config_show(arguments: argparse.Namespace) -> int:
    from app.config_show import settings_as_json, settings_as_table

    show = settings_as_json if arguments.json else settings_as_table
    print(show(_settings(arguments), find_paths()))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
