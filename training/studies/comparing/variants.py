"""What `training.compare` compares: variants of recipes, and which figures tell them apart."""

import dataclasses
from collections.abc import Sequence

from training.judging.evaluation import Settings
from training.objectives.asking import REVEALED_FRACTIONS
from training.recipes import Recipe, make_recipe
from training.settings import replace_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Variants of a recipe: settings of all of them, settings by variant, and the figures that the table shows.

    `recipes` names another recipe for some variants, `measured` how the pictures of some are generated, `plotted` the
    figures of the chart, `as_many_pictures` maps variants to another one whose number of pictures they are
    trained on, instead of the first one's number of operations. With `matches` the variants match pictures with
    captions, with `hard_cases` also nearly right ones; without it, they make pictures. `caution` says which figures
    must not be compared and what else a reader must know.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    recipes: dict[str, str] = dataclasses.field(default_factory=dict)
    measured: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    plotted: tuple[str, ...] = ()
    as_many_pictures: dict[str, str] = dataclasses.field(default_factory=dict)
    matches: bool = False
    hard_cases: bool = False
    caution: str = ""

    def recipe_of(self, variant: str, settings: Sequence[str] = ()) -> Recipe:
        """Return the recipe of a variant with further settings changed."""
        name = self.recipes.get(variant, self.recipe)
        return make_recipe(name, [*self.settings, *self.variants[variant], *settings])

    def measuring(self, variant: str, prompts: int) -> Settings:
        """Return how a variant is measured."""
        return replace_settings(Settings(prompts=prompts), self.measured.get(variant, ()))


SMALL = (
    "network.width=128",
    "network.encoder_depth=3",
    "network.predictor_depth=3",
    "network.denoiser_width=192",
    "network.denoiser_depth=2",
)
SMALL_DIT = ("network.width=128", "network.depth=8")  # 2.3 million parameters, as SMALL
PATCHES_OF_16 = ("network.patch_size=16",)  # a quarter of the patches
ASKED_OF_16 = ("loss.asked=8", "loss.asked_hidden=8")
UNIFORM = ("loss.time_mean=0", "loss.time_std=1.702")  # the logit-normal nearest to uniform, within 0.01 everywhere

LOSSES = ("heldout_pairs/denoising_loss", "train/denoising_loss")
JUDGED = (
    "concept_top5",
    "concept_median_rank",
    "concept_median_rank_heldout_pairs",
    "frechet",
    "frechet_real",
)
SPEED = ("parameters", "milliseconds")
PLOTTED = ("heldout_pairs/denoising_loss", "concept_median_rank_heldout_pairs", "frechet")
PLOTTED_JUDGED = ("concept_median_rank_heldout_pairs", "frechet", "milliseconds")
MATCH_FIGURES = (
    "match_auc_random",
    "match_auc_same_group",
    "recall_at_1_i2t",
    "recall_at_1_t2i",
    "ece",
    "heldout_pairs/image_rank",
    "heldout_pairs/image_std",
    "heldout_pairs/sentence_rank",
    "heldout_pairs/sentence_std",
)


def _only(*places: str) -> tuple[str, ...]:
    """Settings that let text enter only at these places."""
    known = ("text_prefix", "fuse_before_predictor", "fuse_after_predictor", "fuse_before_loss")
    return tuple(f"network.{place}={str(place in places).lower()}" for place in known)


COMPARISONS: dict[str, Comparison] = {
    "backbones": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "cached": (),
            "bidirectional, as published": ("network.backbone=bidirectional",),
            "bidirectional, subsets asked": ("network.backbone=bidirectional_subset",),
        },
        shown=(
            *(f"heldout_pairs/denoising_loss@{fraction}" for fraction in REVEALED_FRACTIONS),
            *LOSSES,
            *JUDGED,
            "milliseconds",
        ),
        plotted=PLOTTED,
    ),
    "prediction": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "weight 0": ("loss.prediction_weight=0",),
            "weight 1, as published": ("loss.prediction_weight=1",),
            "weight 4": ("loss.prediction_weight=4",),
            "weight 16 (default)": (),
            "weight 64": ("loss.prediction_weight=64",),
        },
        shown=(*LOSSES, *JUDGED, *SPEED),
        plotted=PLOTTED,
        caution="without the prediction loss a step is cheaper, so that weight 0 sees more pictures",
    ),
    "fusion": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "off": _only(),
            "prefix only": _only("text_prefix"),
            "before the predictor only": _only("fuse_before_predictor"),
            "after the predictor only": _only("fuse_after_predictor"),
            "before the loss only": _only("fuse_before_loss"),
            "prefix, after, before the loss (default)": (),
            "all": ("network.fuse_before_predictor=true",),
        },
        shown=(*LOSSES, *JUDGED, *SPEED),
        plotted=PLOTTED,
        caution='"off" has no text at all: the difference from it is what text is worth. "before" and "after" '
        "use one cross-attention, whose weights both places share",
    ),
    "denoising": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "flow, 5 evaluations": (),
            "diffusion, 5 evaluations": ("network.denoising=diffusion",),
            "diffusion, 100 evaluations": ("network.denoising=diffusion",),
        },
        shown=(*JUDGED, *SPEED, *LOSSES),
        measured={"diffusion, 100 evaluations": ("denoising_steps=100",)},
        plotted=PLOTTED_JUDGED,
        caution="the losses of flow (velocity) and diffusion (noise) differ in kind: compare the judge's figures",
    ),
    "sizes": Comparison(
        recipe="jepa_t",
        variants={"base": (), "tiny": SMALL, "tiny, as many pictures": SMALL},
        as_many_pictures={"tiny, as many pictures": "base"},
        shown=(*LOSSES, *JUDGED, *SPEED),
        plotted=PLOTTED,
        caution="base and tiny get as many operations, so that tiny sees several times as many pictures; in its other "
        "run, tiny stops after as many pictures as base sees",
    ),
    "tuning": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "default": (),
            "AdamW only": ("schedule.muon=false",),
            "half the learning rates": ("schedule.matrix_lr=0.001", "schedule.other_lr=0.001"),
            "double the learning rates": ("schedule.matrix_lr=0.004", "schedule.other_lr=0.004"),
            "uniform times": UNIFORM,
            "error of the token": ("loss.min_denominator=1",),
            "wide": ("network.width=160", "network.encoder_depth=2", "network.predictor_depth=2"),
            "deep": ("network.width=96", "network.encoder_depth=5", "network.predictor_depth=5"),
            "no buffer": ("network.num_buffer_tokens=0",),
            "buffer of 16": ("network.num_buffer_tokens=16",),
            "canonical captions only": ("captions.drops=0",),
            "varied captions by half": ("captions.drops=0.5",),
            "1 denoising draw": ("loss.denoising_draws=1",),
            "4 denoising draws": ("loss.denoising_draws=4",),
            "batch of 8": ("schedule.batch_size=8", "ema_decay=0.999"),
            "batch of 48": ("schedule.batch_size=48", "ema_decay=0.994"),  # averages over the same number of pictures
        },
        shown=(*LOSSES, *JUDGED, *SPEED),
        plotted=PLOTTED,
        caution="all losses are measured in the same way: as that of the velocity at logit-normal times, which "
        "favours variants trained on exactly that",
    ),
    "generators": Comparison(
        recipe="jepa_t",
        variants={"JEPA-T": SMALL, "MAR": SMALL, "MAR with flow": (*SMALL, "network.denoising=flow"), "DiT": SMALL_DIT},
        shown=(*JUDGED, *SPEED),
        recipes={"MAR": "mar", "MAR with flow": "mar", "DiT": "dit"},
        measured={"MAR": ("denoising_steps=100",), "DiT": ("temperature=1",)},
        plotted=PLOTTED_JUDGED,
        caution="their losses are different quantities, so only judged figures are shown. MAR denoises by diffusion "
        "in 100 evaluations, as published; MAR with flow in JEPA-T's 5; DiT evaluates all tokens at once, 16 times, at "
        "temperature 1, which suits it better than the tokens' 0.8",
    ),
    "ti_jepa": Comparison(
        recipe="ti_jepa",
        settings=(*PATCHES_OF_16, *ASKED_OF_16),
        variants={
            "both directions": (),
            "text -> image only": ("loss.image_to_text_weight=0",),
            "image -> text only": ("loss.text_to_image_weight=0",),
            "without EMA": ("loss.averaged_targets=false",),
            "without masking": ("loss.whole_share=1",),
        },
        shown=MATCH_FIGURES,
        plotted=MATCH_FIGURES[:2],
        matches=True,
    ),
    "order": Comparison(
        recipe="ti_jepa",
        settings=(
            "network.foils=false",
            *("captions.drops=0.5", "captions.scenes=0.42", "captions.counts=0.06", "captions.backgrounds=0.04"),
            *("captions.recoloured=0.12", "captions.relation_odds=5", "captions.direct=0.5"),
            *("schedule.matrix_lr=0.002", "schedule.other_lr=0.002", "schedule.warmup=50", "ema_decay=0.998"),
        ),
        variants={
            "all parts": (),
            "relations drawn evenly": ("captions.relation_odds=1",),
            "never said directly": ("captions.direct=0",),
            "without word positions": ("network.text_positions=false",),
        },
        shown=("match_wins_sides", "match_auc_sides", "match_auc_shuffled", *MATCH_FIGURES[:2]),
        plotted=("match_wins_sides", "match_auc_sides"),
        matches=True,
        hard_cases=True,
        caution="started from weights that know things but not their order (--set init=DIR), and scored without foils, "
        "which would hide how much of the order a network has learnt",
    ),
    "peers": Comparison(
        recipe="ti_jepa",
        settings=PATCHES_OF_16,
        variants={"TI-JEPA": ASKED_OF_16, "CLIP": (), "SigLIP": ()},
        shown=MATCH_FIGURES[:7],
        recipes={"CLIP": "clip", "SigLIP": "siglip"},
        plotted=MATCH_FIGURES[:2],
        matches=True,
    ),
}
