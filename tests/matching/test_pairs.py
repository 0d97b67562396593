"""What pairs share is computed once: the predictor on pairs predicts what it predicts on each pair from the start."""

import pytest
import torch

from jepa_app.config import TIJepaConfig
from jepa_app.matching.energies import hidden_energies, pair_energies
from jepa_app.matching.features import caption_features, picture_features, score_views
from jepa_app.models.attention import attend, attend_part
from jepa_app.models.pairs import Queries, predict_pairs, read_captions, read_pictures
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import CaptionKeys, TIJepa
from tests.conftest import awake

CAPTIONS = ["red apple", "a very long caption about a cat that sits left of a rose", "heart"]


@pytest.fixture(scope="module", params=[1, 3], ids=["one layer", "three layers"])
def network(request: pytest.FixtureRequest) -> TIJepa:
    torch.manual_seed(3)
    config = TIJepaConfig(
        image_size=32, width=32, num_heads=2, image_depth=1, text_depth=1, predictor_depth=request.param
    )
    network = awake(TIJepa(config)).eval().requires_grad_(False)
    assert isinstance(network, TIJepa)
    return network


@pytest.fixture
def pixels() -> torch.Tensor:
    return 2 * torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)) - 1


def test_parts_of_the_keys_joined_are_attention_to_all_of_them() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 5, 3, 8), torch.randn(2, 11, 3, 8), torch.randn(2, 11, 3, 8)
    mask = torch.ones(2, 1, 11, dtype=torch.bool)
    mask[1, :, 9:] = False
    parts = [
        attend_part(query, key[:, block], value[:, block], mask[:, :, block])
        for block in (slice(0, 2), slice(2, 6), slice(6, 11))
    ]
    wanted = attend(query, key, value, mask)
    torch.testing.assert_close(parts[0].joined(parts[1]).joined(parts[2]).values, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(parts[2].joined(parts[0].joined(parts[1])).values, wanted, atol=1e-6, rtol=1e-5)
    extreme = attend_part(100 * query, key, value)  # sums of exponentials would overflow
    torch.testing.assert_close(extreme.values, attend(100 * query, key, value), atol=1e-5, rtol=1e-4)


def test_pairs_are_predicted_as_one_by_one(network: TIJepa, pixels: torch.Tensor) -> None:
    predictor, view = network.text_to_image, score_views(network.config)[0]
    text = network.caption_keys(TextEncoder.load().encode(CAPTIONS))
    kept = predictor.keep_image(network.image_encoder(pixels, view.visible), view.visible)
    queries = Queries.at(predictor, view.asked)
    later = CaptionKeys(text.layers[1:], text.mask)
    found = predict_pairs(predictor, queries, read_pictures(queries, kept), read_captions(queries, text), later)
    torch.testing.assert_close(found, predictor(view.asked, text, kept), atol=1e-5, rtol=1e-4)


def test_listed_pairs_may_repeat_and_need_no_order(network: TIJepa, pixels: torch.Tensor) -> None:
    pictures = picture_features(network, pixels)
    captions = caption_features(network, TextEncoder.load().encode(CAPTIONS))
    table = pair_energies(network, pictures, captions).text_to_hidden
    rows = torch.tensor([2, 0, 1] * 30)  # several blocks, so several threads
    columns = torch.tensor([1, 1, 2, 0, 0] * 18)
    found = hidden_energies(network, pictures, captions, rows, columns)
    torch.testing.assert_close(found, table[rows, columns], atol=1e-6, rtol=1e-5)
    assert found.unique().numel() > 5
