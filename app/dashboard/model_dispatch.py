"""From the model picker to the engine and back, without ever waiting for the engine."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future

from textual.message import Message
from textual.message_pump import MessagePump

from app.dashboard.dispatch import CommandAnswered, answered
from engine.errors import StokerError
from engine.face import EngineFace
from engine.model_commands import ListModels, SwapModel
from engine.snapshot import ModelChoice, SwapReport
from widgets.format import clean
from widgets.model import report_words


class ModelsListed(Message):
    """The engine has told which models there are.

    Attributes:
        choices: They; none where it could not be told.
        problem: Why it could not, in words.
    """

    def __init__(self, choices: tuple[ModelChoice, ...], problem: str = "") -> None:
        self.choices = choices
        self.problem = problem
        super().__init__()


class SwapAnswered(CommandAnswered):
    """A change of model that was asked for here is over, or was refused."""


class ModelDispatch:
    """Sends commands about models; the answers arrive as messages.

    Args:
        engine: Where commands go.
        receiver: Who hears of the outcome; may be posted to from the engine's thread.
    """

    def __init__(self, engine: EngineFace, receiver: MessagePump) -> None:
        self._engine = engine
        self._receiver = receiver

    def list_models(self, kv_bits: int | None = None) -> None:
        """Asks which models there are; the answer is a ``ModelsListed``.

        Args:
            kv_bits: As in ``ListModels``.
        """
        command = ListModels(kv_bits=kv_bits)
        command.done.add_done_callback(lambda done: self._receiver.post_message(_listed(done)))
        self._engine.send(command)

    def swap(self, model_id: str, kv_bits: int | None = None) -> None:
        """Makes another model the active one; the answer is a ``SwapAnswered``.

        Args:
            model_id: The model.
            kv_bits: As in ``SwapModel``.
        """
        command = SwapModel(model=model_id, kv_bits=kv_bits)

        def report(done: Future[SwapReport]) -> None:
            told = answered(done, _swapped_words)
            self._receiver.post_message(SwapAnswered(told.text, is_error=told.is_error))

        command.done.add_done_callback(report)
        self._engine.send(command)


def _swapped_words(report: SwapReport) -> str:
    return f"{clean(report.to_model)} serves now, after {report_words(report)}"


def _listed(future: Future[tuple[ModelChoice, ...]]) -> ModelsListed:
    try:
        return ModelsListed(future.result())
    except (StokerError, OSError) as error:
        return ModelsListed((), clean(str(error)))
    except CancelledError:
        return ModelsListed((), "the engine dropped the question")
