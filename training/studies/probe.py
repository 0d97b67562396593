"""What frozen features encode beyond matching: `python -m training.studies.probe WEIGHTS --data DIR`.

A linear probe on the features of pictures, and on those of their labels, predicts the group that Unicode puts an emoji
in, and whether people use it in a negative, neutral or positive sense (Emoji Sentiment Ranking, Kralj Novak et al.
2015).
Neither was trained on. The same probe on MiniLM's own features of the labels is shown for comparison.
Letters in shapes: M concepts, F features, S picture side in pixels.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from emosent import EMOJI_SENTIMENT_DICT
from torch import Tensor
from torch.nn.functional import cross_entropy

from jepa_app.command_line import telling_mistakes
from jepa_app.matching.scoring import Scorer
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import ImageEncoder, TextHead
from training.command_line import Report, weights_parser
from training.data.batches import CaptionedPictures
from training.data.captions import Row
from training.data.selection import Indices
from training.data.split import concept_of
from training.judging.report import cell, table
from training.judging.weights import load_matchers, measured_weights
from training.peers.dual_encoder import PeerScorer

FOLDS = 5
SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10  # of the examples for a few-shot probe
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FEW_SHOT_PENALTY = 1e-2
FEWEST_USES = 5  # of an emoji, for its sentiment to count
SENTIMENTS = {
    "negative": -1.0,
    "neutral": 0.2,
    "positive": 0.5,
}  # class -> lowest score; about a third of the emoji each
FEWEST_OF_A_CLASS = 20  # smaller classes are left out
PICTURES_AT_ONCE = 50


def group_classes(rows: Sequence[Row]) -> list[str]:
    """Return the group of every row, "" where it has none."""
    return [row.group for row in rows]


def sentiment_classes(rows: Sequence[Row]) -> list[str]:
    """Return "negative", "neutral" or "positive" for every row, "" where the ranking does not know the emoji."""
    known = {
        concept_of("-".join(f"{ord(character):X}" for character in emoji)): values["sentiment_score"]
        for emoji, values in EMOJI_SENTIMENT_DICT.items()
        if values["occurrences"] >= FEWEST_USES
    }
    scores = [known.get(concept_of(row.hexcode)) if row.hexcode else None for row in rows]
    return [
        "" if score is None else [name for name, least in SENTIMENTS.items() if score >= least][-1] for score in scores
    ]


TASKS = {"group": group_classes, "sentiment": sentiment_classes}


def one_a_concept(rows: Sequence[Row]) -> Indices:
    """Return the rows of the style that shows the most concepts, one per concept."""
    by_style: dict[str, dict[str, int]] = {}
    for index, row in enumerate(rows):
        if row.hexcode:
            by_style.setdefault(row.style, {}).setdefault(concept_of(row.hexcode), index)
    most = max(by_style.values(), key=len, default={})
    return np.asarray(list(most.values()), dtype=np.int64)


@torch.no_grad()
def frozen_features(scorer: Scorer | PeerScorer, data: CaptionedPictures, indices: Indices) -> dict[str, Tensor]:
    """Return features (M, F) by kind: mean patches "picture", mean words "text", and MiniLM's own "minilm"."""
    network, kinds = scorer.network, ("picture", "text", "minilm")
    encoder, head = network.image_encoder, network.text_head
    assert isinstance(encoder, ImageEncoder)
    assert isinstance(head, TextHead)
    parts: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    device = encoder.position.device
    everything = torch.arange(network.config.num_patches, device=device)
    for batch in data.in_parts(indices, PICTURES_AT_ONCE, scorer.image_size):
        labels = [data.rows[index].label for index in batch.indices.tolist()]
        text = scorer.text_encoder.encode(labels).to(device, torch.float32)
        parts["picture"].append(encoder(batch.pixels.to(device), everything).mean(dim=1))
        parts["text"].append(TextFeatures(head(text), text.mask).pooled())
        parts["minilm"].append(text.pooled())
    return {kind: torch.cat(part).cpu() for kind, part in parts.items()}


def fit_probe(features: Tensor, truth: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression to features (M, F) and classes (M,): weights (F, classes), offsets."""
    weights = torch.zeros(features.shape[1], classes, requires_grad=True)
    offsets = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, offsets], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(features @ weights + offsets, truth) + penalty * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), offsets.detach()


def accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, penalty: float) -> float:
    """Fit on features and classes, standardised by the training ones; return the test accuracy."""
    mean, deviation = train[0].mean(dim=0), train[0].std(dim=0, correction=0).clamp(min=1e-3)
    weights, offsets = fit_probe((train[0] - mean) / deviation, train[1], classes, penalty)
    return float((((test[0] - mean) / deviation @ weights + offsets).argmax(dim=1) == test[1]).float().mean())


def probe(features: Tensor, names: Sequence[str], folds: Indices) -> dict[str, float]:
    """Return the accuracy of a probe on unseen concepts, of always guessing the largest class, and with few examples.

    Args:
        features: (M, F).
        names: the class of each; "" and classes of fewer than 20 are left out.
        folds: (M,) the fold in which each concept is tested.
    """
    kept = [name for name in sorted(set(names) - {""}) if names.count(name) >= FEWEST_OF_A_CLASS]
    if len(kept) < 2:
        return {}
    chosen = torch.tensor([name in kept for name in names])
    features, fold = features[chosen], torch.from_numpy(folds)[chosen]
    truth = torch.tensor([kept.index(name) for name in names if name in kept])
    shares = []
    for number in range(FOLDS):
        inner = (fold + 1) % FOLDS == number  # the fold that chooses the penalty
        train, test = ~inner & (fold != number), fold == number
        sides = [(features[part], truth[part]) for part in (train, inner, train | inner, test)]
        best = max(PENALTIES, key=lambda penalty: accuracy(sides[0], sides[1], len(kept), penalty))
        shares.append(float(test.sum()) * accuracy(sides[2], sides[3], len(kept), best))
    figures = {"": sum(shares) / len(truth), "_chance": float(truth.bincount().max()) / len(truth)}
    for shots in SHOTS:
        drawn = [_few(features, truth, fold, shots, seed) for seed in range(DRAWS)]
        figures[f"_{shots}_shot"] = sum(drawn) / DRAWS
    return figures


def _few(features: Tensor, truth: Tensor, fold: Tensor, shots: int, seed: int) -> float:
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
    order = order[fold[order] != seed % FOLDS]
    classes = int(truth.max()) + 1
    examples = torch.cat([order[truth[order] == number][:shots] for number in range(classes)])
    test = fold == seed % FOLDS
    return accuracy((features[examples], truth[examples]), (features[test], truth[test]), classes, FEW_SHOT_PENALTY)


def measure(scorer: Scorer | PeerScorer, data: CaptionedPictures) -> tuple[dict[str, float], dict[str, object]]:
    """Return the figures of all tasks and kinds of features, and what they hold for.

    Raises:
        ValueError: no picture in the folder has a code point.
    """
    indices = one_a_concept(data.rows)
    if not len(indices):
        raise ValueError("no picture has a code point, which identifies its emoji; use a corpus of training.corpus")
    rows = [data.rows[index] for index in indices]
    folds = np.asarray([_fold(row) for row in rows], dtype=np.int64)
    figures: dict[str, float] = {}
    for kind, features in frozen_features(scorer, data, indices).items():
        for task, classes_of in TASKS.items():
            found = probe(features, classes_of(rows), folds)
            figures |= {f"probe_{task}_{kind}{name}": value for name, value in found.items()}
    setting: dict[str, object] = {"concepts": len(rows), "style": rows[0].style, "folds": FOLDS}
    return figures, setting | {"sentiments": sum(name != "" for name in sentiment_classes(rows))}


def _fold(row: Row) -> int:
    return hashlib.sha256(f"probe|{concept_of(row.hexcode or '')}".encode()).digest()[0] % FOLDS


def markdown(figures: Mapping[str, float]) -> str:
    """The figures as a Markdown table: a row for each task and kind of features."""
    columns = {"": "all examples", "_chance": "largest class", **{f"_{n}_shot": f"{n} a class" for n in SHOTS}}
    rows = [
        [task, kind, *(cell(figures, f"probe_{task}_{kind}{suffix}") for suffix in columns)]
        for task in TASKS
        for kind in ("picture", "text", "minilm")
        if f"probe_{task}_{kind}" in figures
    ]
    return table(["task", "features", *columns.values()], rows)


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Probe and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    options = weights_parser("studies.probe", __doc__).parse_args(arguments)
    scorers = list(load_matchers(measured_weights(options.weights), "cpu"))
    if not scorers:
        raise ValueError(f"{options.weights} holds neither ti-jepa nor a peer of it")
    assert isinstance(scorers[0], Scorer | PeerScorer)
    figures, setting = measure(scorers[0], CaptionedPictures.load(options.data, scorers[0].image_size))
    document = {"figures": figures, "setting": {"weights": str(options.weights), **setting}}
    Report(document=document, table=markdown(figures)).print(as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
