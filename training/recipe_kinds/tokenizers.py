"""Recipes of tokenizers and of their decoder."""

from dataclasses import dataclass, field
from pathlib import Path

from jepa_app.checkpoint import check_fit, load_network
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer, make_tokenizer
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions
from training.objectives.decoding.objective import DecoderLoss, DecoderObjective, DecodingNetwork
from training.objectives.decoding.regenerator import Regenerator
from training.objectives.text_cache import TextCache
from training.objectives.tokenizer import TokenizerObjective, load_tokenizer
from training.optimisation.schedule import Schedule
from training.recipe_kinds.base import AnyRecipe, OnPictures


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(OnPictures):
    """Fit or train a tokenizer; with 0 steps a linear one is only fitted.

    `token_noise` is the greatest strength of the noise on tokens that a refiner learns to repair. `init` takes over the
    components of another tokenizer, so that its tokens stay valid, and a refiner of the same shape; its plan is fitted.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0, matrix_lr=1e-3, other_lr=1e-3))
    captions: CaptionOptions = field(default_factory=CaptionOptions)
    network: TokenizerConfig = field(default_factory=TokenizerConfig)
    init: str = ""
    ema_decay: float = 0.999
    token_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.init and self.network.kind == "vae":
            raise ValueError(f"init is {self.init!r}; allowed for a VAE: none, since it has no components to take over")

    @property
    def fits_without_steps(self) -> bool:
        """Whether the tokenizer is complete once its statistics are measured."""
        return self.network.kind != "vae"

    def build(self, data: CaptionedPictures) -> TokenizerObjective:
        """Fit the tokenizer's statistics on the training pictures, or take them over, and build the objective.

        Raises:
            ValueError: the initial weights are missing or broken, or their components have another shape.
        """
        tokenizer = make_tokenizer(self.network)
        training = data.split.train
        if isinstance(tokenizer, LinearTokenizer) and self.init:
            new = tokenizer.take_over(load_tokenizer(Path(self.init)))
            if new:
                tokenizer.fit((part.pixels for part in data.in_parts(training, 512)), plan_only=True)
        elif isinstance(tokenizer, LinearTokenizer):
            tokenizer.fit(part.pixels for part in data.in_parts(training, 512))
        sample = data.batch(0, min(512, len(training)), self.schedule.seed).pixels
        return TokenizerObjective(tokenizer, sample, ema_decay=self.ema_decay, token_noise=self.token_noise)


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(AnyRecipe):
    """Train a decoder that sees the whole picture for the components of a tokenizer, `init`.

    `ti_jepa` is the weights folder of the TI-JEPA whose picture encoder compares features, `generator` that of the
    JEPA-T that makes a part of the tokens again; it may be empty.
    """

    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=6000, batch_size=16, matrix_lr=1e-3, other_lr=1e-3, weight_decay=0.0)
    )
    captions: CaptionOptions = field(default_factory=lambda: CaptionOptions(backgrounds=0.1, scenes=0.05, counts=0.05))
    network: TokenizerConfig = field(default_factory=TokenizerConfig)
    loss: DecoderLoss = field(default_factory=DecoderLoss)
    init: str = "weights/tokenizer"
    ti_jepa: str = "weights/ti-jepa"
    generator: str = "weights/jepa-t"
    ema_decay: float = 0.998

    def __post_init__(self) -> None:
        if not self.network.decoder_width:
            raise ValueError("network.decoder_width is 0; allowed for a decoder: a multiple of 16")

    def image_size(self) -> int:
        """Return the side in pixels of the pictures to train on: those that are decoded."""
        return self.network.decoded_size

    def build(self, data: CaptionedPictures) -> DecoderObjective:
        """Take over the components of a tokenizer, and a decoder of the same shape, and build the objective.

        Raises:
            ValueError: the weights to begin with are missing or broken, or their components have another shape; or the
                generator's do not fit them.
        """
        tokenizer = make_tokenizer(self.network)
        assert isinstance(tokenizer, LinearTokenizer)
        if tokenizer.take_over(load_tokenizer(Path(self.init))):
            raise ValueError(f"network.plan is {list(self.network.plan)}; allowed: that of the tokenizer {self.init}")
        encoder = load_network(Path(self.ti_jepa), TIJepaConfig, TIJepa).image_encoder
        sample = data.fixed(data.split.train[:12]).pixels
        return DecoderObjective(
            DecodingNetwork(tokenizer),
            encoder,
            sample,
            self._regenerator(tokenizer.config),
            ema_decay=self.ema_decay,
            loss=self.loss,
        )

    def _regenerator(self, made: TokenizerConfig) -> Regenerator | None:
        if not self.generator or not (self.loss.regenerated or self.loss.repainted):
            return None
        network = load_network(Path(self.generator), JepaTConfig, JepaT)
        check_fit(Path(self.generator), made, network.config)
        return Regenerator(network, TextCache(TextEncoder.load()))
