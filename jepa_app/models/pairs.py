"""TI-JEPA's text-to-image predictor on many pairs, with everything that several pairs share computed once.

The queries of the first layer do not depend on the pair. So what they read from a picture is the same for all captions,
what they read from a caption is the same for all pictures, and joining the two is exact. Only the rest of the first
layer, and the later layers, are computed for each pair.

Letters in shapes: P pairs, M pictures, L captions, V visible patches, Q asked patches, T text tokens, D width, H heads,
E = D / H.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_app.models.attention import PartRead, attend, attend_part
from jepa_app.models.blocks import KeyValue, QueryBlock, Rotary
from jepa_app.models.ti_jepa import CaptionKeys, Layers, TextToImage


@dataclass(frozen=True)
class PictureReads:
    """What the queries of one view read from pictures: in the first layer, and keys and values for the later ones."""

    first: PartRead
    later: Layers


@dataclass(frozen=True)
class Queries:
    """The queries at asked positions (Q,) before any of them has read anything: the same for all pairs.

    Attributes:
        x: (1, Q, D) tokens.
        rotary: factors of their positions.
        query: (1, Q, H, E) queries of the first layer.
        own: their own keys and values in the first layer.
    """

    x: Tensor
    rotary: Rotary
    query: Tensor
    own: KeyValue

    @classmethod
    def at(cls, network: TextToImage, asked: Tensor) -> "Queries":
        """Return the queries at positions asked (Q,)."""
        x = (network.mask_token + network.position[asked])[None]  # (1, Q, D)
        rotary = network.rotary(asked[None])
        first = _layers(network)[0]
        return cls(x, rotary, *first.attention.project(first.attention_norm(x), rotary))


def read_pictures(queries: Queries, kept: Layers) -> PictureReads:
    """Return what queries read from pictures with these keys and values of their visible patches, and from themselves.

    Without the keys and values of the first layer, which are no longer needed.
    """
    from_picture = attend_part(queries.query, kept[0].key, kept[0].value)
    from_queries = attend_part(queries.query, queries.own.key, queries.own.value)
    return PictureReads(from_picture.joined(from_queries), kept[1:])


def read_captions(queries: Queries, captions: CaptionKeys) -> PartRead:
    """Return what queries read from captions in the first layer: values (L, Q, H, E)."""
    return attend_part(queries.query, captions.layers[0].key, captions.layers[0].value, captions.mask[:, None])


def predict_pairs(
    network: TextToImage, queries: Queries, pictures: PictureReads, captions: PartRead, later: CaptionKeys
) -> Tensor:
    """Predict features (P, Q, D) for pairs, as `TextToImage.forward` does.

    Args:
        queries: at the asked positions.
        pictures: what they read from the P pictures.
        captions: what they read from the P captions in the first layer.
        later: keys and values of the P captions for the layers after the first, and their mask (P, T).
    """
    first, *others = _layers(network)
    read = captions.joined(pictures.first).values.flatten(2)  # (P, Q, D)
    x = first.finish(queries.x, first.attention.out(read))
    if others:
        visible, asked = pictures.later[0].key.shape[1], queries.x.shape[1]
        known = [later.mask.new_ones(len(x), visible), later.mask, later.mask.new_ones(len(x), asked)]
        mask = torch.cat(known, dim=1)[:, None]  # (P, 1, V + T + Q)
    for layer, picture, caption in zip(others, pictures.later, later.layers, strict=True):
        query, own = layer.attention.project(layer.attention_norm(x), queries.rotary)
        key = torch.cat([picture.key, caption.key, own.key], dim=1)  # (P, V + T + Q, H, E)
        value = torch.cat([picture.value, caption.value, own.value], dim=1)
        x = layer.finish(x, layer.attention.out(attend(query, key, value, mask).flatten(2)))
    return network.out(network.norm(x))


def _layers(network: TextToImage) -> list[QueryBlock]:
    return [layer for layer in network.layers if isinstance(layer, QueryBlock)]
