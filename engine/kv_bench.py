"""Measures what the formats of the KV cache cost and lose, for one model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.cache.block import blocks_for
from engine.cache.quantisation import KVQuantisation, format_key
from engine.cache.spec import CacheSpec
from engine.errors import KVFormatError
from engine.kv_quality import KVQualities, KVQuality, save_qualities
from engine.models.chat import ModelChat
from engine.runtime import device
from engine.runtime.fitting import FittedRunner, fit
from engine.runtime.loader import load, quantised_ops
from engine.runtime.perplexity import perplexity
from engine.settings import EngineSettings, Progress

AGENT_TOKENS = 4096
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class MeasuredFormat:
    """One format, measured or refused.

    Attributes:
        quantisation: None for lossless.
        quality: What was measured; None where the model refuses the format.
        refusal: Why it does, in words.
        seconds: What the measurement took.
    """

    quantisation: KVQuantisation | None
    quality: KVQuality | None = None
    refusal: str = ""
    seconds: float = 0.0


class KVBench:
    """A loaded model whose formats are measured. Belongs to the thread that made it."""

    def __init__(self, settings: EngineSettings, text: str, progress: Progress) -> None:
        """Loads the model.

        Args:
            settings: Which model, and where results are kept.
            text: Some thousand tokens of prose.
            progress: Told how far loading is.

        Raises:
            ModelLoadError: There is no such model, or it cannot be run.
        """
        plan = device.prepare(settings.cache_dir)
        source = settings.find_model(lambda share, words: progress(share * 0.3, words))
        self._profile = device.detect(plan)
        self._loaded = load(
            source.path, self._profile, lambda share, words: progress(0.3 + share * 0.7, words)
        )
        chat = ModelChat(source.path)
        self._cache_dir, self._fingerprint = settings.cache_dir, source.fingerprint
        self._text_sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._token_ids = chat.encode_text(text)[: chat.max_context_tokens]
        self.model_id = source.model_id
        self.dtype = self._loaded.dtype

    @property
    def num_tokens(self) -> int:
        """Length of the text."""
        return len(self._token_ids)

    def measure(
        self, quantisation: KVQuantisation | None, progress: Callable[[float], None]
    ) -> MeasuredFormat:
        """Measures one format.

        Args:
            quantisation: None for lossless.
            progress: Told the share that is done, 0-1.
        """
        began_s = time.monotonic()
        try:
            fitted = self._fitted(quantisation)
        except KVFormatError as error:
            return MeasuredFormat(quantisation, refusal=str(error))
        if fitted.quantisation != quantisation:
            return MeasuredFormat(quantisation, refusal=fitted.result.reasons[-1])
        spec = fitted.runner.spec
        quality = KVQuality(
            perplexity=perplexity(fitted.runner, self._token_ids, progress),
            bytes_per_token=spec.bytes_per_token,
            agents_per_gib=agents_per_gib(spec),
        )
        return MeasuredFormat(quantisation, quality, seconds=time.monotonic() - began_s)

    def _fitted(self, quantisation: KVQuantisation | None) -> FittedRunner:
        return fit(
            self._loaded.runner.model,
            quantisation,
            lambda: quantised_ops(self._profile),
            self._loaded.vocabulary_size,
        )

    def keep(self, formats: Sequence[MeasuredFormat]) -> KVQualities:
        """Keeps what was measured, for those who choose a format later."""
        qualities = KVQualities(
            self._text_sha256,
            {
                format_key(measured.quantisation): measured.quality
                for measured in formats
                if measured.quality is not None
            },
        )
        save_qualities(self._cache_dir, self._fingerprint, qualities)
        return qualities


def agents_per_gib(spec: CacheSpec) -> float:
    """Agents of 4096 tokens that fit 2**30 bytes of blocks, without sharing."""
    num_slots = blocks_for(AGENT_TOKENS) + spec.checkpoint_slots
    return _GIB / (num_slots * spec.block_bytes)
