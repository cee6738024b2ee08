"""Settings of which model runs, and which names it answers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.access_settings import AccessSettings
from app.model_aliases import ModelAlias, parse_aliases
from app.model_defaults import NamedDefaults, parse_model_defaults
from app.setting_values import parse_choice, parse_text, setting

BUNDLED_MODEL = "bundled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(AccessSettings):
    """Which model runs; who may talk to it is in ``AccessSettings``.

    Attributes:
        model: ``bundled``, an id of the catalogue, or the path of a model folder.
        aliases: Other names for models.
        model_defaults: What holds for single models.
        unknown_model: ``active`` serves model names that are not here by the active model,
            ``reject`` answers 404.
    """

    model: str = setting(
        BUNDLED_MODEL,
        parse_text,
        "MODEL",
        "bundled, an id of `stoker models list`, or the path of a model folder",
    )
    aliases: tuple[ModelAlias, ...] = setting(
        (),
        parse_aliases,
        "NAME=MODEL,...",
        "other names for models, with a * at the end for any rest; active is the active model",
    )
    model_defaults: tuple[NamedDefaults, ...] = setting(
        (),
        parse_model_defaults,
        "JSON",
        "sampling, context, KV cache, system prompt and tool format of single models, by their ids",
    )
    unknown_model: Literal["active", "reject"] = setting(
        "active",
        parse_choice("active", "reject"),
        "active|reject",
        "serve model names that are not here by the active model, or reject them",
    )
