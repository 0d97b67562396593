"""Training: pictures a second of our step against the published step, both at the same batch on the same data.

    python -m tests.benchmarks.training --data DIR [--json] [--rounds 3] [--batch 48]

The published step encodes the text within the step, denoises every token with four draws of noise and time and masks
the loss afterwards, runs under bfloat16 autocast and uses AdamW. It is taken on the same network (the cached backbone)
and, as "bidirectional", on the published one of the same size, which hides 70 to 100 % of the tokens. Not every CPU
multiplies faster in bfloat16, so "float32" shows the published step without autocast. On CUDA all run under autocast.
"""

import dataclasses
import statistics
import sys
from argparse import Namespace
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jepa_app.compute import keep_freed_memory
from tests.benchmarks.measure import in_turn, operations, ratio, report
from training.data.batches import Batch, CaptionedPictures
from training.objectives.asking import Asked, ask, denoising_loss, take
from training.objectives.jepa_t import JepaTObjective
from training.optimisation.muon import make_optimizers
from training.recipe_kinds.generators import JepaTRecipe

DRAWS = 4  # of each token's noise and time in the published code


class Trainer:
    """One training step as the loop takes it: loss, gradients, clipping, optimizers, moving average."""

    def __init__(self, objective: JepaTObjective, optimizers: list[torch.optim.Optimizer], autocast: bool) -> None:
        self.objective, self.optimizers, self.autocast = objective, optimizers, autocast
        self.generator = torch.Generator(objective.network.null_text.device)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.objective(batch, self.generator)["loss"]

    def step(self, batch: Batch) -> None:
        """Take one step."""
        with self._precision():
            loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.objective.after_step(0)

    def _precision(self) -> AbstractContextManager[Any]:
        device = self.objective.network.null_text.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast)


class PublishedTrainer(Trainer):
    """The published step."""

    def loss(self, batch: Batch) -> Tensor:
        """Encode the text anew; denoise all tokens, then mask the loss."""
        objective, network = self.objective, self.objective.network
        device = network.null_text.device
        text = objective.text.encoder.encode(batch.captions).to(device, torch.float32)
        text = network.drop_text(text, torch.rand(len(text), generator=self.generator, device=device) < 0.1)
        with torch.no_grad():
            tokens = objective.tokenizer.encode(batch.pixels.to(device))
        asked = ask(network, text, tokens, self.generator)
        every = with_visible(asked, tokens)
        losses = denoising_loss(objective.denoising, network, every, self.generator, DRAWS)
        return losses[:, :, : asked.positions.shape[1]].mean() + objective._prediction_loss(asked, text, tokens)


def with_visible(asked: Asked, tokens: Tensor) -> Asked:
    """All tokens: those asked for first, then the visible ones, which the published code denoises and throws away."""
    count = tokens.shape[1] - asked.positions.shape[1]
    is_visible = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    visible = is_visible.scatter_(1, asked.positions, False).nonzero()[:, 1].view(len(tokens), count)
    filler = asked.condition[:, :1].expand(-1, count, -1)
    return Asked(
        torch.cat([asked.condition, filler], dim=1),
        torch.cat([asked.clean, take(tokens, visible)], dim=1),
        torch.cat([asked.positions, visible], dim=1),
    )


def build(data: CaptionedPictures, backbone: Literal["cached", "bidirectional"]) -> JepaTObjective:
    """The default network, with a backbone, and everything around it."""
    recipe = JepaTRecipe()
    return dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, backbone=backbone)).build(data)


def make_trainers(data: CaptionedPictures) -> dict[str, Trainer]:
    """Our step, the published one, and what separates them."""
    on_gpu = torch.cuda.is_available()
    ours, schedule = build(data, "cached"), JepaTRecipe().schedule
    optimizers = make_optimizers(
        ours.network, matrix_lr=schedule.matrix_lr, other_lr=schedule.other_lr, weight_decay=schedule.weight_decay
    )
    trainers: dict[str, Trainer] = {"ours": Trainer(ours, optimizers, on_gpu)}
    variants = {"published": ("cached", True), "published_bidirectional": ("bidirectional", True)}
    if not on_gpu:
        variants["published_float32"] = ("cached", False)
    for name, (backbone, autocast) in variants.items():
        theirs = build(data, backbone)
        adam = torch.optim.AdamW(theirs.network.parameters(), lr=1e-4, betas=(0.9, 0.95))
        trainers[name] = PublishedTrainer(theirs, [adam], autocast)
    return trainers


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Pictures a second of the steps, their ratios, and the operations behind them."""
    torch.manual_seed(0)
    keep_freed_memory()
    data = CaptionedPictures.load(Path(options.data), JepaTRecipe().image_size(), JepaTRecipe().captions)
    batches = [data.batch(index, options.batch, 0) for index in range(options.rounds + 1)]
    trainers = make_trainers(data)
    for batch in batches:
        trainers["ours"].objective.text.features(batch.captions)  # as after a while of training
    turns = {name: iter(batches) for name in trainers}
    taken = in_turn({name: (lambda n=name: trainers[n].step(next(turns[n]))) for name in trainers}, options.rounds)
    figures: dict[str, Any] = {}
    for name, spent in taken.items():
        suffix = name.removeprefix("published")
        if name != "ours":
            figures[f"training_speedup{suffix}"] = ratio(spent, taken["ours"])
        figures[f"pictures_a_second_{name}"] = options.batch / statistics.median(spent)
        steps = operations(lambda n=name: trainers[n].step(batches[0]))
        figures[f"operations_a_picture_{name}"] = steps / options.batch
    return figures, {"batch": options.batch, "rounds": options.rounds}


def main() -> int:
    """Measure and print."""
    return report("training", measure, "--data=", "--rounds=3", "--batch=48")


if __name__ == "__main__":
    sys.exit(main())
