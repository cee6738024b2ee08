"""What a hub's model consists of, and which of its files are wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from app.pull.errors import HubError, PullRefusedError
from app.pull.hub import Hub
from app.pull.reference import ModelReference
from engine.models.weight_files import INDEX_NAME

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
_SMALL = frozenset(
    {
        CONFIG,
        TOKENIZER,
        INDEX_NAME,
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
    }
)
MAX_SMALL_BYTES = 64 * 2**20
_WEIGHTS = re.compile(r"model[\w.-]{0,120}\.safetensors", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model on a hub.

    Attributes:
        name: Its name, without folders.
        size_bytes: Its length.
        checksum: Of its content, in hex: sha256 where it is in large-file storage, else git's
            sha1 of a blob. The cache names blobs by it.
    """

    name: str
    size_bytes: int
    checksum: str

    @property
    def is_weights(self) -> bool:
        """Whether it holds weights."""
        return _WEIGHTS.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Listing:
    """A model on a hub, at one commit.

    Attributes:
        commit: The commit that the revision stands for, 40 hex digits.
        files: The files that a model needs, by name.
        others: Names of all other files.
    """

    commit: str
    files: dict[str, RemoteFile]
    others: tuple[str, ...]

    @property
    def small(self) -> list[RemoteFile]:
        """What says how to read the weights and the text."""
        return [file for file in self.files.values() if not file.is_weights]

    def weights(self, indexed: Iterable[str] = ()) -> list[RemoteFile]:
        """The weights: those that the model's index names, else all.

        Args:
            indexed: Names in the index.

        Raises:
            PullRefusedError: The hub does not have one of them.
        """
        names = sorted(set(indexed))
        missing = [name for name in names if name not in self.files]
        if missing:
            raise PullRefusedError(
                f"{INDEX_NAME} names {missing[0]!r}, which the hub does not have"
            )
        wanted = names or sorted(self.files)
        return [self.files[name] for name in wanted if self.files[name].is_weights]


def read_listing(hub: Hub, model: ModelReference) -> Listing:
    """Asks a hub for a model's commit and files.

    Raises:
        PullRefusedError: It has no such model, or not for us, or it is not one we can load.
        HubError: It cannot be reached, or answers something else.
    """
    revision = quote(model.revision, safe="")
    subject = f"{model.repository!r}"
    if model.revision != "main":
        subject = f"{model.repository!r} at {model.revision!r}"
    answer = hub.read_json(
        f"/api/models/{model.repository}/revision/{revision}?blobs=true", subject
    )
    try:
        listing = _listing(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HubError(f"{hub.address.host} lists {subject} in a form of its own") from error
    _check(listing, subject)
    return listing


def _listing(answer: dict[str, Any]) -> Listing:
    commit = answer["sha"]
    if not _SHA1.fullmatch(commit):
        raise ValueError("commit")
    files: dict[str, RemoteFile] = {}
    others: list[str] = []
    for item in answer["siblings"]:
        name = item["rfilename"]
        _check_name(name)
        if name in _SMALL or _WEIGHTS.fullmatch(name):
            files[name] = _file(name, item)
        else:
            others.append(name)
    return Listing(commit, files, tuple(others))


def _check_name(name: str) -> None:
    parts = name.split("/")
    if ".." in parts or name.startswith("/") or "\\" in name or not name.isprintable():
        raise PullRefusedError(
            f"the hub lists a file named {name!r}, which leads out of the model's folder: "
            "nothing of it is taken"
        )


def _file(name: str, item: dict[str, Any]) -> RemoteFile:
    stored = item.get("lfs")
    size = int(stored["size"] if stored else item["size"])
    checksum = stored["sha256"] if stored else item["blobId"]
    form = _SHA256 if stored else _SHA1
    if not form.fullmatch(checksum) or size < 0:
        raise ValueError(name)
    return RemoteFile(name, size, checksum)


def _check(listing: Listing, subject: str) -> None:
    """Refuses what could not be loaded, as far as the names tell."""
    if not listing.weights():
        raise PullRefusedError(f"{subject} {_no_weights(listing.others)}")
    for name in (CONFIG, TOKENIZER):
        if name not in listing.files:
            raise PullRefusedError(f"{subject} has no {name}, without which it cannot be loaded")
    for file in listing.small:
        if file.size_bytes > MAX_SMALL_BYTES:
            raise PullRefusedError(f"{subject}: {file.name} is too big for what it should be")


def _no_weights(names: tuple[str, ...]) -> str:
    if any(name.endswith(".gguf") for name in names):
        return "has GGUF files only; look for the same model in MLX or safetensors form"
    if any(name.endswith(_PICKLES) for name in names):
        return "has pickled weights only, which are never loaded: look for safetensors"
    return "has no model*.safetensors: it is not a model that can be loaded"
