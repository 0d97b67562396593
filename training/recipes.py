"""Named training recipes, and how their settings are changed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from jepa_app.config import JepaTConfig, TokenizerConfig
from training.objectives.jepa_t import JepaTLoss
from training.optimisation.schedule import Schedule
from training.peers.dual_encoder import PeerConfig
from training.recipe_kinds.generators import DitRecipe, JepaTRecipe, RectifyRecipe
from training.recipe_kinds.matchers import PeerRecipe, TIJepaRecipe
from training.recipe_kinds.tokenizers import DecoderRecipe, TokenizerRecipe
from training.settings import replace_settings

Recipe = DecoderRecipe | JepaTRecipe | DitRecipe | RectifyRecipe | TokenizerRecipe | TIJepaRecipe | PeerRecipe

_ENLARGING = TokenizerConfig(image_size=128, patch_size=16, reduction=2, refiner_width=48, refiner_depth=6)
_DECODING = TokenizerConfig(image_size=128, patch_size=16, reduction=2, decoder_width=192, plan=(1, 2))
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
    "decoder": lambda: DecoderRecipe(network=_DECODING),
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
