"""Named training recipes: everything that defines a run, in one frozen object each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from jepa_app.checkpoint import load_config, load_network, load_state
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizer import LinearTokenizer, Tokenizer, make_tokenizer
from jepa_app.styles import style_words
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions, caption_pool
from training.objectives.calibration import Anchors
from training.objectives.jepa_t import JepaTLoss, JepaTObjective
from training.objectives.rectify import RectifyLoss, RectifyObjective
from training.objectives.resizing import resized_state
from training.objectives.text_cache import TextCache
from training.objectives.ti_jepa import TIJepaLoss, TIJepaObjective
from training.objectives.tokenizer import TokenizerObjective, load_tokenizer
from training.peers.dit import Dit, DitConfig
from training.peers.dit_objective import DitLoss, DitObjective
from training.peers.dual_encoder import DualEncoder, PeerConfig
from training.peers.dual_encoder_objective import PeerObjective
from training.schedule import Schedule
from training.settings import replace_settings

ObjectiveT = TypeVar("ObjectiveT")


class _Recipe:
    """What all recipes share; each lists its own settings in the order in which messages name them."""

    @property
    def fits_without_steps(self) -> bool:
        """Whether the weights are complete before the first step."""
        return False


class _OnPictures(_Recipe):
    """What the recipes of networks that see pictures share."""

    network: TokenizerConfig | TIJepaConfig

    def image_size(self) -> int:
        """Return the side in pixels of the pictures to train on."""
        return self.network.image_size


class _OnTokens(_Recipe, Generic[ObjectiveT]):
    """What the recipes of networks on a tokenizer's tokens share; `tokenizer` is its weights folder."""

    tokenizer: str

    def image_size(self) -> int:
        """Return the side in pixels of the pictures to train on."""
        return load_config(Path(self.tokenizer), TokenizerConfig).image_size

    def build(self, data: CaptionedPictures) -> ObjectiveT:
        """Load the tokenizer and build the objective for the styles of the data.

        Raises:
            ValueError: the tokenizer or the initial weights are missing, broken or do not fit.
        """
        styles = tuple(dict.fromkeys(style_words(row.style) for row in data.rows if row.style))
        return self._objective(load_tokenizer(Path(self.tokenizer)), TextCache(TextEncoder.load()), styles)

    def _objective(self, tokenizer: Tokenizer, text: TextCache, styles: tuple[str, ...]) -> ObjectiveT:
        raise NotImplementedError


def _generator_captions() -> CaptionOptions:
    """Mostly canonical captions: what a concept looks like in a style is learnt sooner with fewer ways to say it."""
    return CaptionOptions(drops=0.2)


@dataclass(frozen=True, kw_only=True)
class JepaTRecipe(_OnTokens[JepaTObjective]):
    """Train JEPA-T on a tokenizer's tokens; `init` is a weights folder to start from.

    The network makes the tokenizer's plan if `plans` is set and its backbone can.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(batch_size=16))  # on a CPU many steps teach most
    captions: CaptionOptions = field(default_factory=_generator_captions)
    network: JepaTConfig = field(default_factory=JepaTConfig)
    loss: JepaTLoss = field(default_factory=JepaTLoss)
    tokenizer: str = "weights/tokenizer"
    init: str = ""
    ema_decay: float = 0.998
    plans: bool = True

    def _objective(self, tokenizer: Tokenizer, text: TextCache, styles: tuple[str, ...]) -> JepaTObjective:
        made = tokenizer.config
        plan = made.plan if self.plans and self.network.backbone == "cached" else ()
        config = replace(self.network, num_tokens=made.num_tokens, channels=made.channels, plan=plan, styles=styles)
        network = JepaT(config)
        if self.init:
            load_state(Path(self.init), network)
        return JepaTObjective(
            network, tokenizer, text, ema_decay=self.ema_decay, loss=self.loss, in_bfloat16=self.schedule.in_bfloat16
        )


@dataclass(frozen=True, kw_only=True)
class DitRecipe(_OnTokens[DitObjective]):
    """Train a diffusion transformer on a tokenizer's tokens, for as long and as fast as JEPA-T."""

    schedule: Schedule = field(default_factory=lambda: Schedule(batch_size=16))  # on a CPU many steps teach most
    captions: CaptionOptions = field(default_factory=_generator_captions)
    network: DitConfig = field(default_factory=DitConfig)
    loss: DitLoss = field(default_factory=DitLoss)
    tokenizer: str = "weights/tokenizer"
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
    init: str = "weights/jepa-t"
    ema_decay: float = 0.99

    def _objective(self, tokenizer: Tokenizer, text: TextCache, *_: object) -> RectifyObjective:
        network = load_network(Path(self.init), JepaTConfig, JepaT)
        return RectifyObjective(network, tokenizer, text, ema_decay=self.ema_decay, loss=self.loss)


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(_OnPictures):
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
class TIJepaRecipe(_OnPictures):
    """Train TI-JEPA; `init` is a weights folder to start from, even with larger patches or fewer layers.

    `fitted_captions` training captions define the space of sentence features, pairs are compared with `references`
    training pictures, and `calibration_pictures` of one half of the held-out pairs fit the weights of the energy's
    terms and the probability.
    """

    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=6000, batch_size=64, matrix_lr=3e-3, weight_decay=0.05, decay=0.45, validate_pictures=96
        )
    )
    captions: CaptionOptions = field(default_factory=lambda: CaptionOptions(drops=0.35, backgrounds=0.04, scenes=0.04))
    network: TIJepaConfig = field(default_factory=TIJepaConfig)
    loss: TIJepaLoss = field(default_factory=TIJepaLoss)
    init: str = ""
    ema_decay: float = 0.999
    fitted_captions: int = 2048
    calibration_pictures: int = 288
    references: int = 128

    def build(self, data: CaptionedPictures) -> TIJepaObjective:
        """Fit the space of captions and build the objective.

        Raises:
            ValueError: the initial weights are missing or of another shape.
        """
        network = TIJepa(self.network)
        if self.init:
            old = load_network(Path(self.init), TIJepaConfig, TIJepa)
            network.load_state_dict(resized_state(old.state_dict(), old.config, network.state_dict()))
        anchors = Anchors.of(data, self.calibration_pictures, self.references, self.schedule.seed)
        text = TextCache(TextEncoder.load())
        objective = TIJepaObjective(network, text, anchors, ema_decay=self.ema_decay, loss=self.loss)
        if not self.init:  # trained predictors keep the space that they were trained for
            captions = [caption for index in data.split.train for caption in caption_pool(data.rows[index])]
            objective.fit_sentences(captions[:: max(1, len(captions) // self.fitted_captions)])
        return objective


@dataclass(frozen=True, kw_only=True)
class PeerRecipe(_OnPictures):
    """Train a contrastive peer of TI-JEPA on the same pictures, captions and sizes; batches are twice as large.

    `shift` is the largest shift and change of scale of a picture as a share of its side.
    """

    schedule: Schedule = field(
        default_factory=lambda: replace(TIJepaRecipe().schedule, steps=3000, batch_size=128, validate_pictures=96)
    )
    captions: CaptionOptions = field(default_factory=lambda: TIJepaRecipe().captions)
    network: PeerConfig = field(default_factory=PeerConfig)
    ema_decay: float = 0.999
    shift: float = 0.12
    calibration_pictures: int = 288

    def build(self, data: CaptionedPictures) -> PeerObjective:
        """Build the objective and set pictures aside to calibrate on."""
        anchors = Anchors.of(data, self.calibration_pictures, 0, self.schedule.seed)
        network, text = DualEncoder(self.network), TextCache(TextEncoder.load())
        return PeerObjective(network, text, anchors, ema_decay=self.ema_decay, shift=self.shift)


Recipe = JepaTRecipe | DitRecipe | RectifyRecipe | TokenizerRecipe | TIJepaRecipe | PeerRecipe

_ENLARGING = TokenizerConfig(image_size=128, patch_size=16, reduction=2, refiner_width=48, refiner_depth=6)
_VAE = Schedule(steps=6000, batch_size=32, matrix_lr=1e-3, other_lr=1e-3, weight_decay=0.0)

# MAR (arXiv 2406.11838): no feature prediction, text only as a prefix, each token's denoising loss drawn four times
_MAR = JepaTRecipe(
    network=JepaTConfig(
        backbone="bidirectional", denoising="diffusion", fuse_after_predictor=False, fuse_before_loss=False
    ),
    loss=JepaTLoss(prediction_weight=0.0, denoising_draws=4),
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    "clip": PeerRecipe,
    "dit": DitRecipe,
    "jepa_t": JepaTRecipe,
    "jepa_t_bidirectional": lambda: JepaTRecipe(network=JepaTConfig(backbone="bidirectional")),
    "jepa_t_bidirectional_subset": lambda: JepaTRecipe(network=JepaTConfig(backbone="bidirectional_subset")),
    "jepa_t_diffusion": lambda: JepaTRecipe(network=JepaTConfig(denoising="diffusion")),
    "jepa_t_rectified": RectifyRecipe,
    "mar": lambda: _MAR,
    "siglip": lambda: PeerRecipe(network=PeerConfig(loss="sigmoid")),
    "ti_jepa": TIJepaRecipe,
    "tokenizer": TokenizerRecipe,
    "tokenizer_patch": lambda: TokenizerRecipe(network=TokenizerConfig(kind="patch", channels=192)),
    "tokenizer_planning": lambda: TokenizerRecipe(network=replace(_ENLARGING, plan=(1, 2)), init="weights/tokenizer"),
    "tokenizer_refined": lambda: TokenizerRecipe(
        schedule=_VAE, network=TokenizerConfig(refiner_width=48), token_noise=0.5
    ),
    "tokenizer_enlarging": lambda: TokenizerRecipe(
        schedule=replace(_VAE, steps=2400),
        network=_ENLARGING,
        token_noise=0.5,
        init="weights/tokenizer",
        ema_decay=0.99,
    ),
    "tokenizer_vae": lambda: TokenizerRecipe(schedule=_VAE, network=TokenizerConfig(kind="vae", channels=16)),
}


def make_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Return a named recipe with settings such as "schedule.batch_size=96" changed.

    Raises:
        ValueError: the recipe or a setting is unknown, or a value is not allowed.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe is {name!r}; allowed: {', '.join(RECIPES)}")
    return replace_settings(RECIPES[name](), settings)
