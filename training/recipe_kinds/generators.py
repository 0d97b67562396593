"""Recipes of networks that predict a tokenizer's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from jepa_app.checkpoint import load_config, load_network, load_state
from jepa_app.config import JepaTConfig, TokenizerConfig
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.generation.wording import words_of
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from jepa_app.styles import style_words
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions, Row
from training.data.keywords import keywords_of
from training.data.sentences import said_of
from training.objectives.jepa_t import JepaTLoss, JepaTObjective
from training.objectives.rectify import RectifyLoss, RectifyObjective
from training.objectives.text_cache import TextCache
from training.objectives.tokenizer import load_tokenizer
from training.optimisation.schedule import Schedule
from training.peers.dit import Dit, DitConfig
from training.peers.dit_objective import DitLoss, DitObjective
from training.recipe_kinds.base import AnyRecipe

ObjectiveT = TypeVar("ObjectiveT")


class _OnTokens(AnyRecipe, Generic[ObjectiveT]):
    """What the recipes of networks on a tokenizer's tokens share.

    `tokenizer` is its weights folder; `text_encoder` a folder or hub id, by default the packaged one.
    """

    tokenizer: str
    text_encoder: str

    def image_size(self) -> int:
        """Return the side in pixels of the pictures to train on."""
        return load_config(Path(self.tokenizer), TokenizerConfig).image_size

    def build(self, data: CaptionedPictures) -> ObjectiveT:
        """Load the tokenizer and build the objective for the styles of the data.

        Raises:
            ValueError: the tokenizer or the initial weights are missing, broken or do not fit.
        """
        styles = tuple(dict.fromkeys(style_words(row.style) for row in data.rows if row.style))
        text = TextCache(TextEncoder.load(self.text_encoder or None))
        vocabulary = vocabulary_of([data.rows[index] for index in data.split.train], data.options, text.encoder)
        return self._objective(load_tokenizer(Path(self.tokenizer)), text, styles, vocabulary)

    def _objective(
        self, tokenizer: Tokenizer, text: TextCache, styles: tuple[str, ...], vocabulary: Vocabulary
    ) -> ObjectiveT:
        raise NotImplementedError


def vocabulary_of(rows: Sequence[Row], options: CaptionOptions, encoder: TextEncoder) -> Vocabulary:
    """Return what rows teach: the words of their captions, their things by style, and what their keywords mean."""
    things: dict[str, set[str]] = {}
    for row in rows:
        things.setdefault(style_words(row.style) if row.style else "", set()).add(row.label)
    return Vocabulary(
        words=frozenset(words_of(said_of(rows, options))),
        things={style: frozenset(shown) for style, shown in things.items()},
        keywords=keywords_of([row for row in rows if row.style], encoder),
    )


def _generator_captions() -> CaptionOptions:
    """Mostly canonical captions: what a concept looks like in a style is learnt sooner with fewer ways to say it."""
    return CaptionOptions(drops=0.2)


@dataclass(frozen=True, kw_only=True)
class JepaTRecipe(_OnTokens[JepaTObjective]):
    """Train JEPA-T on a tokenizer's tokens; `init` is a weights folder to start from.

    The network makes the tokenizer's plan if `plans` is set and its backbone can. Sampling settings that `network`
    leaves at their defaults are those of `init`.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(batch_size=16))  # on a CPU many steps teach most
    captions: CaptionOptions = field(default_factory=_generator_captions)
    network: JepaTConfig = field(default_factory=JepaTConfig)
    loss: JepaTLoss = field(default_factory=JepaTLoss)
    tokenizer: str = "weights/tokenizer"
    text_encoder: str = ""
    init: str = ""
    ema_decay: float = 0.998
    plans: bool = True

    def _objective(
        self, tokenizer: Tokenizer, text: TextCache, styles: tuple[str, ...], vocabulary: Vocabulary
    ) -> JepaTObjective:
        made = tokenizer.config
        plan = made.plan if self.plans and self.network.backbone == "cached" else ()
        config = replace(self.network, num_tokens=made.num_tokens, channels=made.channels, plan=plan, styles=styles)
        if self.init:
            config = _sampled_like(load_config(Path(self.init), JepaTConfig), config)
            vocabulary |= Vocabulary.load(Path(self.init))
        network = JepaT(config)
        if self.init:
            load_state(Path(self.init), network)
        return JepaTObjective(
            network,
            tokenizer,
            text,
            ema_decay=self.ema_decay,
            loss=self.loss,
            in_bfloat16=self.schedule.in_bfloat16,
            compiled=self.schedule.compiled,
            vocabulary=vocabulary,
        )


def _sampled_like(old: JepaTConfig, new: JepaTConfig) -> JepaTConfig:
    """Return the new config with the old one's sampling settings where the new one has the defaults."""
    sampling = {name: value for name, value in vars(old).items() if name.startswith("sampling_")}
    at_default = [name for name in sampling if getattr(new, name) == getattr(JepaTConfig, name)]
    return replace(new, **{name: sampling[name] for name in at_default})


@dataclass(frozen=True, kw_only=True)
class DitRecipe(_OnTokens[DitObjective]):
    """Train a diffusion transformer on a tokenizer's tokens, for as long and as fast as JEPA-T."""

    schedule: Schedule = field(default_factory=lambda: Schedule(batch_size=16))  # on a CPU many steps teach most
    captions: CaptionOptions = field(default_factory=_generator_captions)
    network: DitConfig = field(default_factory=DitConfig)
    loss: DitLoss = field(default_factory=DitLoss)
    tokenizer: str = "weights/tokenizer"
    text_encoder: str = ""
    ema_decay: float = 0.998

    def _objective(self, tokenizer: Tokenizer, text: TextCache, *_: object) -> DitObjective:
        made = tokenizer.config
        network = Dit(replace(self.network, num_tokens=made.num_tokens, channels=made.channels))
        return DitObjective(network, tokenizer, text, ema_decay=self.ema_decay, loss=self.loss)


@dataclass(frozen=True, kw_only=True)
class RectifyRecipe(_OnTokens[RectifyObjective]):
    """Straighten the flow of a trained JEPA-T, so that few denoising steps are enough; `init` is its weights folder."""

    schedule: Schedule = field(default_factory=lambda: Schedule(steps=300, matrix_lr=1e-3, other_lr=1e-3, warmup=20))
    captions: CaptionOptions = field(default_factory=_generator_captions)
    loss: RectifyLoss = field(default_factory=RectifyLoss)
    tokenizer: str = "weights/tokenizer"
    text_encoder: str = ""
    init: str = "weights/jepa-t"
    ema_decay: float = 0.99

    def _objective(self, tokenizer: Tokenizer, text: TextCache, *_: object) -> RectifyObjective:
        network = load_network(Path(self.init), JepaTConfig, JepaT)
        vocabulary = Vocabulary.load(Path(self.init))
        return RectifyObjective(
            network, tokenizer, text, ema_decay=self.ema_decay, loss=self.loss, vocabulary=vocabulary
        )
