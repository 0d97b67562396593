"""The settings that define a network; they travel with its weights and unknown keys are errors."""

import math
from dataclasses import dataclass
from typing import Literal

from jepa_app.config_base import Config

PLAN_PATCH = 8  # pixels along a side of a plan token: a level of g x g tokens shows the picture 8 g pixels wide
TEXT_WIDTH = 384  # width of all-MiniLM-L6-v2, the frozen text encoder


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Config):
    """A picture tokenizer: raw patches, principal components of patches, or the latents of a VAE.

    `patch_size` is the side of the square of pixels that one token stands for; `channels` is how many numbers it holds.
    `vae_channels` are the block widths of the VAE (used by kind "vae" only; their number sets its downsampling).
    `refiner_width` > 0 adds, after the linear decoder, a convolutional one of `refiner_depth` layers that hides seams
    between patches. With a `reduction` above 1 the linear part sees the picture reduced by that factor, and the decoder
    enlarges it again: more pixels from the same tokens. `decoder_width` > 0 puts a decoder that sees the whole picture
    in the place of a refiner: `decoder_depth` transformer layers of that width, then `decoder_layers` convolutions with
    `decoder_features` each; it draws pictures of `decoded_size` pixels and their opacity. `plan` gives
    the number of tokens along a side for each level of the plan, coarse first (`plan.py`): (1, 2) is one token for the
    picture reduced to 8 pixels and four at 16.
    """

    kind: Literal["patch", "pca", "vae"] = "pca"
    image_size: int = 64
    patch_size: int = 8
    channels: int = 48
    vae_channels: tuple[int, ...] = (32, 64, 128, 128)
    refiner_width: int = 0
    refiner_depth: int = 4
    reduction: int = 1
    decoder_width: int = 0
    decoder_depth: int = 3
    decoder_features: int = 64
    decoder_layers: int = 5
    decoded_size: int = 256
    plan: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._require(self.kind in ("patch", "pca", "vae"), f"kind is {self.kind!r}; allowed: patch, pca, vae")
        self._require_positive("image_size", "patch_size", "channels", "refiner_depth", "reduction")
        self._require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        self._require(
            self.patch_size % self.reduction == 0 and (self.kind != "vae" or self.reduction == 1),
            f"reduction is {self.reduction}; allowed: a divisor of patch_size {self.patch_size}, and 1 for a VAE",
        )
        self._require(
            self.refiner_width == 0 or self.patch_size // self.reduction % 2 == 0,
            f"a refiner folds pairs of pixels: patch_size {self.patch_size} / reduction {self.reduction} must be even",
        )
        if self.decoder_width:
            self._require_decoder()
        if self.kind == "patch":
            self._require(self.channels == self.patch_values, f"raw patches hold {self.patch_values} channels")
        if self.kind == "pca":
            most = self.patch_values
            self._require(self.channels <= most, f"channels is {self.channels}; allowed: 1 to {most}, as in a patch")
        if self.kind == "vae":
            down = 2 ** (len(self.vae_channels) - 1)
            self._require(down == self.patch_size, f"{len(self.vae_channels)} VAE blocks reduce by {down}")
        if self.plan:
            self._require_plan(self.plan, self.grid)
            self._require(self.kind != "vae", f"plan is {self.plan}; allowed for a VAE: ()")
            most = 3 * PLAN_PATCH**2
            self._require(self.channels <= most, f"channels is {self.channels}; allowed with a plan: at most {most}")

    def _require_decoder(self) -> None:
        self._require_positive("decoder_depth", "decoder_layers")
        self._require(self.kind != "vae", f"decoder_width is {self.decoder_width}; allowed for a VAE: 0")
        self._require(self.refiner_width == 0, f"refiner_width is {self.refiner_width}; allowed beside a decoder: 0")
        self._require(
            self.decoder_width % 16 == 0, f"decoder_width is {self.decoder_width}; allowed: 0 or a multiple of 16"
        )
        even = self.decoder_features >= 2 and self.decoder_features % 2 == 0
        self._require(even, f"decoder_features is {self.decoder_features}; allowed: an even number, 2 or more")
        step = 8 * self.grid
        fits = self.decoded_size >= step and self.decoded_size % step == 0
        self._require(fits, f"decoded_size is {self.decoded_size}; allowed: a multiple of {step}, 8 times the grid")

    @property
    def decoded_side(self) -> int:
        """Side in pixels of the largest picture that is decoded."""
        return self.decoded_size if self.decoder_width else self.image_size

    @property
    def patch_values(self) -> int:
        """Numbers in one RGB patch of the picture that the linear part sees."""
        return 3 * (self.patch_size // self.reduction) ** 2

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return self.image_size // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Tokens of one picture."""
        return self.grid**2

    @property
    def num_places(self) -> int:
        """Tokens of one picture, including those of its plan."""
        return self.num_tokens + sum(side * side for side in self.plan)


@dataclass(frozen=True, kw_only=True)
class DJepaConfig(Config):
    """D-JEPA (arXiv 2410.03755): context encoder, predictor and per-token denoiser.

    `condition_width` is the width of the prompt features that enter as a prefix (text tokens or a class embedding).
    `plan` gives the tokens along a side for each level of the plan, coarse first; () is the published form.
    """

    backbone: Literal["cached", "bidirectional", "bidirectional_subset"] = "cached"
    num_tokens: int = 64
    channels: int = 48
    condition_width: int = TEXT_WIDTH
    width: int = 256
    num_heads: int = 4
    encoder_depth: int = 5
    predictor_depth: int = 5
    num_buffer_tokens: int = 4
    denoiser_width: int = 384
    denoiser_depth: int = 3
    denoising: Literal["flow", "diffusion"] = "flow"
    plan: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        backbones, denoisings = ("cached", "bidirectional", "bidirectional_subset"), ("flow", "diffusion")
        self._require(self.backbone in backbones, f"backbone is {self.backbone!r}; allowed: {backbones}")
        self._require(self.denoising in denoisings, f"denoising is {self.denoising!r}; allowed: {denoisings}")
        self._require_positive("num_tokens", "channels", "condition_width", "width", "num_heads", "denoiser_width")
        self._require(self.grid**2 == self.num_tokens, f"num_tokens is {self.num_tokens}, which is not a square")
        self._require_plan(self.plan, self.grid)
        self._require(not self.plan or self.backbone == "cached", "only the cached backbone makes a plan first")
        self._require(
            self.width % (4 * self.num_heads) == 0,
            f"width {self.width} must be a multiple of 4 x num_heads ({self.num_heads}) for rotary positions",
        )

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return math.isqrt(self.num_tokens)

    @property
    def num_places(self) -> int:
        """Tokens of one picture, including those of its plan."""
        return self.num_tokens + sum(side * side for side in self.plan)


@dataclass(frozen=True, kw_only=True)
class JepaTConfig(DJepaConfig):
    """JEPA-T (arXiv 2510.00974): D-JEPA with token-level text fusion.

    Where text enters: `text_prefix` as tokens before the picture's, `fuse_before_predictor` by cross-attention from the
    position queries, `fuse_after_predictor` by cross-attention from the predictor's output, `fuse_before_loss` as raw
    features added to the condition. The model uses all but the second; other choices are for ablations. Both
    cross-attentions are one layer with the same weights, so that every choice has the same number of parameters.

    What suits the trained weights is stored with them: the `styles` that they were trained on, as prompts name them (()
    says nothing), and the sampling settings that the judge found best, which are the defaults wherever these weights
    run. `sampling_thing_shares` are for a thing in a style in which it was never shown: the shares that the prompt
    without its style has in the predictions of the plan and of the picture. A share below zero moves away from it.
    """

    text_prefix: bool = True
    fuse_before_predictor: bool = False
    fuse_after_predictor: bool = True
    fuse_before_loss: bool = True
    fusion_heads: int = 4
    styles: tuple[str, ...] = ()
    sampling_steps: int = 16
    sampling_guidance: float = 3.0
    sampling_temperature: float = 0.8
    sampling_thing_shares: tuple[float, ...] = (0.75, -0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_positive("fusion_heads", "sampling_steps")
        for name, most in {"sampling_guidance": 20, "sampling_temperature": 2}.items():
            value = getattr(self, name)
            self._require(0 <= value <= most, f"{name} is {value}; allowed: 0 to {most}")
        shares = self.sampling_thing_shares
        fit = len(shares) == 2 and all(type(share) in (int, float) and -2 <= share <= 2 for share in shares)
        self._require(fit, f"sampling_thing_shares is {shares}; allowed: two numbers from -2 to 2")
        fit = self.width % self.fusion_heads == 0
        self._require(fit, f"width {self.width} is not a multiple of fusion_heads {self.fusion_heads}")


@dataclass(frozen=True, kw_only=True)
class TIJepaConfig(Config):
    """TI-JEPA (arXiv 2503.06380): text predicts image features and image predicts text features.

    `text_components` is the number of whitened principal components of sentence features that pictures predict, with
    `num_summary_queries` queries. The energy uses `num_score_masks` block masks. A pair is compared with
    `num_references` pictures and captions, chosen after training; `reference_temperature` softens the comparison. With
    `foils` a caption is compared with captions that differ in one thing. With `text_positions` the text head is told
    the place of each word, which it needs to tell "a left of b" from "b left of a".
    Fitted after training: the weights of the energy's base terms (text -> image without and with visible patches,
    image -> text; with references also the first compared with other captions, and the last with other captions and
    pictures), and the probability = sigmoid(calibration_offset - calibration_scale * energy); then, for each difference
    of foils, the weights of its two terms and an offset, which give the probability that a caption beats its foils.
    `matched_quantiles` and `mismatched_quantiles` are evenly spaced quantiles, smallest to largest, of the energies of
    held-out right and wrong pairs. Percentiles are read from them; they are empty if never measured.
    """

    image_size: int = 64
    patch_size: int = 8
    text_width: int = TEXT_WIDTH
    text_components: int = 192
    width: int = 128
    num_heads: int = 4
    image_depth: int = 4
    text_depth: int = 2
    text_positions: bool = False
    predictor_width: int = 128
    predictor_depth: int = 2
    num_summary_queries: int = 4
    num_score_masks: int = 4
    num_references: int = 0
    reference_temperature: float = 0.01
    foils: bool = False
    energy_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    calibration_scale: float = 1.0
    calibration_offset: float = 0.0
    foil_weights: tuple[float, ...] = ()
    foil_offsets: tuple[float, ...] = ()
    matched_quantiles: tuple[float, ...] = ()
    mismatched_quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self._require_positive("image_size", "patch_size", "width", "num_heads", "predictor_width")
        self._require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        for name in ("width", "predictor_width"):
            width = getattr(self, name)
            self._require(
                width % (4 * self.num_heads) == 0,
                f"{name} {width} must be a multiple of 4 x num_heads ({self.num_heads}) for rotary positions",
            )
        self._require(
            1 <= self.text_components <= self.text_width,
            f"text_components is {self.text_components}; allowed: 1 to text_width ({self.text_width})",
        )
        self._require(self.num_score_masks >= 1, f"num_score_masks is {self.num_score_masks}; allowed: 1 or more")
        self._require(self.num_references >= 0, f"num_references is {self.num_references}; allowed: 0 or more")
        temperature = self.reference_temperature
        self._require(temperature > 0, f"reference_temperature is {temperature}; allowed: above 0")
        self._require(
            len(self.energy_weights) in (3, self.num_terms)
            and max(self.energy_weights) > 0 <= min(self.energy_weights),
            f"energy_weights are {self.energy_weights}; allowed: {self.num_terms} numbers of 0 or more, not all 0",
        )
        fitted = 3 if self.foils and self.foil_offsets else 0
        sizes = (len(self.foil_offsets), len(self.foil_weights))
        self._require(
            sizes == (fitted, fitted * self.terms_against_foils) and min((0.0, *self.foil_weights)) == 0,
            f"foil_weights, foil_offsets are {self.foil_weights}, {self.foil_offsets}; allowed: none, or with foils "
            f"{3 * self.terms_against_foils} weights of 0 or more and 3 offsets",
        )
        for name in ("matched_quantiles", "mismatched_quantiles"):
            quantiles = getattr(self, name)
            self._require(
                len(quantiles) != 1 and list(quantiles) == sorted(quantiles),
                f"{name} is not in order or has a single value; allowed: none, or two or more from smallest to largest",
            )
        self._require(
            bool(self.matched_quantiles) == bool(self.mismatched_quantiles),
            "only one of matched_quantiles and mismatched_quantiles is given; allowed: both or neither",
        )

    @property
    def num_terms(self) -> int:
        """Base terms of the energy of a pair."""
        return 6 if self.num_references else 3

    @property
    def terms_against_foils(self) -> int:
        """Terms against the foils of one difference."""
        return 2

    @property
    def grid(self) -> int:
        """Patches along one side of the picture."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of one picture."""
        return self.grid**2
