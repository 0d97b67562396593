"""Tables of many pairs: the same energies as one by one, nothing computed twice, and a bound on what is kept."""

import hashlib

import pytest
import torch

from jepa_app.matching.feature_cache import FeatureCache, bytes_of
from jepa_app.matching.features import PICTURES_AT_ONCE
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.tables import best_rows, listed_pairs, promising, table_rows
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from tests.conftest import TINY_TI_JEPA, awake

CAPTIONS = ["red apple", "a very long caption about a cat that sits left of a rose", "heart", "blue car", "x"]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(2)
    network = awake(TIJepa(TINY_TI_JEPA)).eval().requires_grad_(False)
    assert isinstance(network, TIJepa)
    network.sentence_space.fit(torch.randn(50, 384))
    return Scorer(network, TextEncoder.load())


@pytest.fixture
def pixels() -> torch.Tensor:
    return 2 * torch.rand(PICTURES_AT_ONCE + 3, 3, 32, 32, generator=torch.Generator().manual_seed(4)) - 1


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=5e-5, rtol=1e-4)


def test_a_table_holds_what_the_scorer_says(scorer: Scorer, pixels: torch.Tensor) -> None:
    rows = list(table_rows(FeatureCache(scorer), pixels, CAPTIONS))
    assert [len(part) for part in rows] == [PICTURES_AT_ONCE, 3]
    close(torch.cat(rows), scorer.score(pixels, CAPTIONS).energy)


def test_listed_pairs_are_those_of_the_table(scorer: Scorer, pixels: torch.Tensor) -> None:
    table = scorer.score(pixels, CAPTIONS).energy
    rows, columns = [5, 0, 18, 5, 5], [1, 1, 4, 0, 1]
    close(listed_pairs(FeatureCache(scorer), pixels, CAPTIONS, rows, columns), table[rows, columns])


def test_the_quick_look_keeps_the_best_of_rows_and_columns(scorer: Scorer, pixels: torch.Tensor) -> None:
    table = scorer.score(pixels, CAPTIONS).energy
    energies = scorer.energies(pixels, CAPTIONS)
    quick = table - energies.text_to_hidden / 3  # the three terms weigh the same here
    parts = list(best_rows(FeatureCache(scorer), pixels, CAPTIONS, 2))
    assert parts[0].shape == (0, len(CAPTIONS))  # pictures are compared before a row is finished
    found = torch.cat(parts)
    chosen = ~found.isnan()
    close(found[chosen], table[chosen])
    in_row = quick <= quick.kthvalue(2, dim=1, keepdim=True).values + 1e-5
    in_column = quick <= quick.kthvalue(2, dim=0, keepdim=True).values + 1e-5
    assert torch.equal(chosen, in_row | in_column)
    assert not chosen.all()
    close(torch.cat(list(best_rows(FeatureCache(scorer), pixels, CAPTIONS, 99))), table)


def test_promising_pairs_are_the_lowest_of_a_row_or_a_column() -> None:
    energies = torch.tensor([[0.0, 5.0, 1.0, 9.0], [2.0, 3.0, 8.0, 7.0], [1.0, 6.0, 4.0, 5.0]])
    expected = [[True, False, True, False], [True, True, False, False], [True, False, False, True]]
    assert promising(energies, 1, 1).tolist() == expected
    assert promising(energies, 2, 1).tolist() == [
        [True, False, True, False],
        [True, True, False, False],
        [True, False, True, True],
    ]
    assert promising(energies, 1, 3).all()
    assert promising(energies, 9, 9).all()


def test_nothing_is_encoded_twice(scorer: Scorer, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole = scorer.network.whole
    monkeypatch.setattr(scorer.network, "whole", lambda batch: seen.append(len(batch)) or whole(batch))
    encode = scorer.text_encoder.encode
    asked: list[str] = []
    monkeypatch.setattr(scorer.text_encoder, "encode", lambda texts, **_: asked.extend(texts) or encode(texts))
    cache = FeatureCache(scorer)
    twice = torch.cat([pixels, pixels[:2]])
    first = torch.cat(list(table_rows(cache, twice, CAPTIONS)))
    assert sum(seen) == len(pixels)
    other = torch.cat(list(table_rows(cache, twice, ["rose", "heart", "rose"])))
    assert sum(seen) == len(pixels)  # other captions, the same pictures
    assert sorted(asked) == sorted([*CAPTIONS, "rose"])
    close(other[:, 1], first[:, 2])
    close(first[:2], first[-2:])


def test_what_is_kept_is_bounded_and_the_oldest_goes(scorer: Scorer, pixels: torch.Tensor) -> None:
    one = bytes_of(FeatureCache(scorer).pictures(pixels[:1]))
    cache = FeatureCache(scorer, max_bytes=3 * one + one // 2)
    cache.pictures(pixels[:3])
    cache.pictures(pixels[:1])  # used again, so the second is the oldest now
    cache.pictures(pixels[3:4])
    kept = [hashlib.sha256(pixels[row].numpy().tobytes()).digest() in cache._kept for row in range(4)]
    assert kept == [True, False, True, True]
    assert cache.num_bytes == 3 * one
    close(torch.cat(list(table_rows(cache, pixels, CAPTIONS))), scorer.score(pixels, CAPTIONS).energy)
    assert cache.num_bytes <= cache.max_bytes


@pytest.mark.parametrize(
    ("shape", "captions", "best", "told"),
    [
        ((0, 3, 32, 32), ["x"], 1, "got 0 pictures"),
        ((1, 3, 32, 32), [], 1, "0 captions"),
        ((1, 3, 16, 16), ["x"], 1, "32"),
        ((1, 3, 32, 32), ["x"], 0, "best is 0"),
    ],
)
def test_bad_input_is_refused(
    scorer: Scorer, shape: tuple[int, ...], captions: list[str], best: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        list(best_rows(FeatureCache(scorer), torch.zeros(shape), captions, best))
