r"""Trains tiny recipes in one of several processes, as `tests/training/test_several_processes.py` starts them.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.support.several_processes \
        --data DIR --weights DIR --out DIR

The losses of every step go to `losses.json` in `--out`. It fails if the processes end with different networks.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from jepa_app.models.tokenizers.tokenizer import LinearTokenizer
from tests.conftest import TINY_DECODING, TINY_JEPA_T, TINY_TI_JEPA
from training.data.batches import CaptionedPictures
from training.loop import train
from training.objectives.decoding.objective import DecoderLoss
from training.objectives.jepa_t import JepaTLoss
from training.objectives.rectify import RectifyLoss
from training.objectives.tokenizer import load_tokenizer
from training.optimisation.processes import join_processes, leave_processes
from training.optimisation.schedule import Schedule
from training.peers.dit import DitConfig
from training.peers.dual_encoder import PeerConfig
from training.recipe_kinds.generators import DitRecipe, JepaTRecipe, RectifyRecipe
from training.recipe_kinds.matchers import PeerRecipe, TIJepaRecipe
from training.recipe_kinds.tokenizers import DecoderRecipe, TokenizerRecipe
from training.recipes import Recipe

SCHEDULE = Schedule(
    steps=3, batch_size=4, warmup=2, decay=0.0, validate_steps=2, validate_pictures=4, precision="float32"
)
MATCHING: dict[str, Any] = {"schedule": replace(SCHEDULE, batch_size=6), "calibration_pictures": 4}


def recipes(weights: Path) -> dict[str, Callable[[], Recipe]]:
    """One tiny recipe of each kind, on tiny weights."""
    tokenizer = str(weights / "tokenizer")

    def peer(loss: str) -> Recipe:
        return PeerRecipe(network=PeerConfig(**{**TINY_TI_JEPA.to_dict(), "loss": loss}), **MATCHING)

    def jepa_t(backbone: str, **loss: Any) -> Recipe:
        network = replace(TINY_JEPA_T, backbone=backbone)
        return JepaTRecipe(schedule=SCHEDULE, tokenizer=tokenizer, network=network, loss=JepaTLoss(**loss))

    def decoder() -> Recipe:
        loss = DecoderLoss(critic_from=0, critic_side=32, regenerated=0.5)
        init = {"init": tokenizer, "ti_jepa": str(weights / "ti-jepa"), "generator": str(weights / "jepa-t")}
        return DecoderRecipe(schedule=SCHEDULE, network=TINY_DECODING, loss=loss, **init)

    def refined() -> Recipe:
        made = load_tokenizer(weights / "tokenizer")
        assert isinstance(made, LinearTokenizer)
        return TokenizerRecipe(schedule=SCHEDULE, network=replace(made.config, refiner_width=4), token_noise=0.5)

    return {
        "jepa_t": lambda: jepa_t("cached", context_noise=0.2, text_drop=0.5, denoising_draws=3),
        "jepa_t_bidirectional": lambda: jepa_t("bidirectional"),
        "jepa_t_bidirectional_subset": lambda: jepa_t("bidirectional_subset"),
        "jepa_t_diffusion": lambda: JepaTRecipe(
            schedule=SCHEDULE, tokenizer=tokenizer, network=replace(TINY_JEPA_T, denoising="diffusion")
        ),
        "jepa_t_rectified": lambda: RectifyRecipe(
            schedule=SCHEDULE, tokenizer=tokenizer, init=str(weights / "jepa-t"), loss=RectifyLoss(teacher_steps=2)
        ),
        "dit": lambda: DitRecipe(
            schedule=SCHEDULE, tokenizer=tokenizer, network=DitConfig(width=32, num_heads=2, depth=1)
        ),
        "ti_jepa": lambda: TIJepaRecipe(network=TINY_TI_JEPA, fitted_captions=30, references=3, **MATCHING),
        "clip": lambda: peer("softmax"),
        "siglip": lambda: peer("sigmoid"),
        "decoder": decoder,
        "tokenizer_refined": refined,
    }


def main() -> None:
    """Train every recipe and write the losses."""
    parser = argparse.ArgumentParser()
    for name in ("data", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    processes = join_processes()
    losses: dict[str, list[dict[str, float]]] = {}
    for name, make in recipes(options.weights).items():
        recipe = make()
        data = CaptionedPictures.load(options.data, recipe.image_size(), recipe.captions)
        torch.manual_seed(processes.process_index)  # the first weights differ: those of the main process count
        objective = recipe.build(data)
        steps = train(objective, data, recipe.schedule, options.out / name, resume=False)
        losses[name] = [step.losses for step in steps]
        digest = hashlib.sha256()
        for tensor in objective.state_dict().values():
            digest.update(tensor.contiguous().numpy().tobytes())
        assert len(set(gather_object([digest.hexdigest()]))) == 1, f"{name}: the processes have different networks"
    if processes.is_main_process:
        (options.out / "losses.json").write_text(json.dumps(losses))
    leave_processes()


if __name__ == "__main__":
    main()
