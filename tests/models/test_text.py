"""The real text encoder: features of prompts in any script, padding, and limits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa_app.lesson.words import typed_words
from jepa_app.models.text import MAX_TOKENS, TextEncoder, TextFeatures, join_features, spell_symbols
from training.data.captions import Row
from training.objectives.text_cache import TextCache, long_captions


def similarity(first: TextFeatures, second: TextFeatures) -> float:
    return float(torch.cosine_similarity(first.pooled(), second.pooled()))


def test_features_of_prompts(text_encoder: TextEncoder) -> None:
    features = text_encoder.encode(["red apple", "a joyful cat under a very large old tree"])
    assert features.tokens.shape == (2, features.mask.sum(dim=1).max(), 384)
    assert features.tokens.dtype == torch.float32
    assert features.mask.sum(dim=1).tolist() == [4, 12]  # word pieces and the two marks
    assert not features.tokens.requires_grad


def test_features_do_not_depend_on_the_other_prompts(text_encoder: TextEncoder) -> None:
    alone = text_encoder.encode(["red apple"])
    batch = text_encoder.encode(["a joyful cat under a very large old tree", "red apple"])
    assert torch.allclose(batch.tokens[1, batch.mask[1]], alone.tokens[0], atol=1e-5)
    assert torch.allclose(batch.pooled()[1], alone.pooled()[0], atol=1e-5)


def test_meaning_is_read(text_encoder: TextEncoder) -> None:
    cat, kitten, truck = (text_encoder.encode([prompt]) for prompt in ("a cat", "a kitten", "a truck"))
    assert similarity(cat, kitten) > similarity(cat, truck) + 0.1


def test_symbols_are_read_by_their_names(text_encoder: TextEncoder) -> None:
    assert spell_symbols("🍎 on a 🟦") == "red apple on a blue square"
    apple, name, truck = (text_encoder.encode([prompt]) for prompt in ("🍎", "red apple", "delivery truck"))
    assert similarity(apple, name) == pytest.approx(1, abs=1e-4)
    assert similarity(apple, truck) < 0.9


@pytest.mark.parametrize(
    ("emoji", "name"),
    [
        ("❤️, twemoji style", "red heart , twemoji style"),
        ("❤", "red heart"),
        ("⭐", "star"),
        ("☀️", "sun"),
        ("☎️", "telephone"),
        ("♥️", "heart suit"),
        ("🇯🇵", "flag: Japan"),
        ("1️⃣", "keycap: 1"),
        ("❤️‍🔥", "heart on fire"),
        ("👍🏽", "thumbs up"),
        ("👩🏿‍🚀", "woman astronaut"),
        ("🫩", "face with bags under eyes"),
        ("✅🍎", "check mark button red apple"),
        ("\u200d⛏\ufe0e", "pick"),
        ("1 and #", "1 and #"),
    ],
)
def test_emoji_mean_what_they_are_called_now(emoji: str, name: str) -> None:
    assert spell_symbols(emoji) == name


def test_what_cannot_be_read_is_named(text_encoder: TextEncoder) -> None:
    assert text_encoder.unread("red apple ❤️ 🇯🇵 красное") == []
    assert text_encoder.unread("red \u200d apple 𞤀𞤁") == ["\u200d", "𞤀𞤁"]


@pytest.mark.parametrize(
    "prompt",
    [
        "красное яблоко",
        "赤いりんご",
        "تفاحة حمراء",
        "🍎",
        "👩‍🚀🚀",
        "🇩🇪",
        "a\tred\napple",
        "e\u0301 \u202e\u0000 \ud800",
    ],
    ids=ascii,
)
def test_prompts_in_any_script_give_finite_features(text_encoder: TextEncoder, prompt: str) -> None:
    features = text_encoder.encode([prompt])
    assert bool(torch.isfinite(features.tokens).all())
    assert features.mask.sum() >= 2


def test_over_long_prompts_are_refused_and_the_limit_is_named(text_encoder: TextEncoder) -> None:
    assert text_encoder.encode(["apple " * 126]).mask.shape == (1, 128)
    with pytest.raises(ValueError, match="129 word pieces; allowed: up to 128; shorten it"):
        text_encoder.encode(["apple", "apple " * 127])
    with pytest.raises(ValueError, match="allowed: up to 128"):
        text_encoder.encode(["red apple " * 1000])


@pytest.mark.parametrize("caption", ["word " * 200, "👨‍👩‍👧‍👦" * 40, "한국어 고양이 " * 40, "x1-" * 200])
def test_over_long_captions_lose_their_end(caption: str, text_encoder: TextEncoder) -> None:
    assert text_encoder.num_pieces(caption) > MAX_TOKENS
    features = TextCache(text_encoder).features([caption, "rose"])
    assert features.mask.sum(dim=1).tolist() == [MAX_TOKENS, 3]


def test_features_do_not_depend_on_what_else_is_encoded(text_encoder: TextEncoder) -> None:
    captions = [f"{'very ' * (number % 9)}red apple number {number}" for number in range(30)]
    together = TextCache(text_encoder)
    together.features(captions)
    for order in (captions, captions[::-1]):
        alone = TextCache(text_encoder)
        for caption in order:
            expected, found = together.features([caption]), alone.features([caption])
            assert torch.equal(found.tokens, expected.tokens)
            assert torch.equal(found.mask, expected.mask)


def test_over_long_captions_are_named_before_the_training(text_encoder: TextEncoder) -> None:
    rows = [Row(file=f"{number}.png", label=f"a1b2 {'cat-5 ' * (60 * (number % 2))}") for number in range(30)]
    told = long_captions(rows, text_encoder)
    assert len(told) == 11
    assert told[0].startswith("the caption of 1.png has ")
    assert told[0].endswith("loses its end; 128 are read")
    assert told[-1] == "so do 5 more"
    assert long_captions(rows[:1], text_encoder) == []


class OneAtATime:
    """A tokenizer that fails for a caller who comes while another is still there."""

    def __init__(self, tokenizer: Any) -> None:
        self.unk_token = tokenizer.unk_token
        self._tokenizer, self._used = tokenizer, threading.Lock()

    def __call__(self, *asked: Any, **how: Any) -> Any:
        return self._alone(self._tokenizer, *asked, **how)

    def tokenize(self, *asked: Any) -> Any:
        return self._alone(self._tokenizer.tokenize, *asked)

    def _alone(self, work: Any, *asked: Any, **how: Any) -> Any:
        assert self._used.acquire(blocking=False), "two callers at once"
        time.sleep(0.01)
        done = work(*asked, **how)
        self._used.release()
        return done


def test_nobody_reads_while_another_pads(text_encoder: TextEncoder) -> None:
    encoder = TextEncoder(OneAtATime(text_encoder.tokenizer), text_encoder.model)  # type: ignore[arg-type]
    works = [
        lambda: encoder.encode(["red apple", "a joyful cat under a tree"]),
        lambda: encoder.num_pieces("red apple"),
        lambda: encoder.unread("red apple"),
        lambda: typed_words(encoder, "red apple"),
    ]
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works * 5]:
            done.result()


def test_an_endless_word_is_one_unknown_word_piece(text_encoder: TextEncoder) -> None:
    assert text_encoder.encode(["x" * 10_000]).mask.sum() == 3


def test_there_is_one_encoder_for_a_source_and_a_device(text_encoder: TextEncoder) -> None:
    assert TextEncoder.load() is TextEncoder.load(None) is TextEncoder.load(device=torch.device("cpu")) is text_encoder


def test_no_encoder_at_a_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no text encoder at .*sentence-transformers/all-MiniLM-L6-v2"):
        TextEncoder.load(tmp_path)


def test_joined_features_are_padded_and_masked() -> None:
    short, long = (TextFeatures(torch.ones(1, n, 4), torch.ones(1, n, dtype=torch.bool)) for n in (2, 3))
    joined = join_features([short, long])
    assert joined.mask.tolist() == [[True, True, False], [True, True, True]]
    assert joined.tokens[0, 2].tolist() == [0] * 4
    assert torch.equal(joined.pooled(), torch.ones(2, 4))


def test_the_cache_gives_the_encoder_s_features(text_encoder: TextEncoder) -> None:
    cache = TextCache(text_encoder)
    captions = ["red apple", "a joyful cat under a very large old tree", "red apple"]
    cached, direct = cache.features(captions), text_encoder.encode(captions)
    assert torch.equal(cached.mask, direct.mask)
    assert cached.tokens.dtype == torch.float32
    assert torch.allclose(cached.tokens[cached.mask], direct.tokens[direct.mask], rtol=1e-3, atol=1e-3)
    assert bool((cached.tokens[~cached.mask] == 0).all())
    assert len(cache) == 2


def test_the_cache_pads_to_a_multiple_and_forgets_when_it_is_full(text_encoder: TextEncoder) -> None:
    cache = TextCache(text_encoder, capacity=2)
    first = cache.features(["red apple", "cat"], multiple=8)
    assert first.mask.shape == (2, 8)
    assert first.mask.sum(dim=1).tolist() == [4, 3]
    cache.features(["dog"])
    assert len(cache) == 3
    again = cache.features(["red apple"], multiple=8)
    assert len(cache) == 1
    torch.testing.assert_close(again.tokens[0], first.tokens[0], rtol=1e-3, atol=1e-3)


def test_the_cache_remembers_and_pads_for_each_batch_alone(text_encoder: TextEncoder) -> None:
    cache = TextCache(text_encoder)
    batch = cache.features(["red apple", "a joyful cat under a very large old tree"])
    again = cache.features(["red apple"])
    assert again.tokens.shape == (1, 4, 384)
    assert torch.equal(again.tokens[0], batch.tokens[0, :4])
    assert len(cache) == 2
