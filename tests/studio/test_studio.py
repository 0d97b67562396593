"""Requests check themselves, and the studio runs the two models as it promises."""

import math
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jepa_app.engines.turns import BusyError
from jepa_app.engines.waiting import Run
from jepa_app.generation.settings import SamplingSettings
from jepa_app.limits import MAX_CAPTIONS
from jepa_app.studio.frames import Frame, Waiting
from jepa_app.studio.jobs import Job, Jobs
from jepa_app.studio.requests import MAX_SEED, Edit, GenerateRequest, settings_of
from jepa_app.studio.studio import Choice, Studio
from tests.support.studio_server import loaded

PROMPTS = (
    "red apple",
    "cat face, noto style",
    "😀",
    "красное яблоко",
    "赤いりんご",
    "تفاحة حمراء",
    "  apple \n",
    "a\x00b",
)


@pytest.fixture(scope="module")
def studio(tiny_weights: Path) -> Studio:
    return loaded(tiny_weights)


def test_a_transparent_picture_scores_the_same_by_every_way(studio: Studio) -> None:
    """Transparent pixels carry some colour, here a loud one; what is seen is the white below."""
    clear = Image.new("RGBA", (48, 48), (255, 0, 200, 0))
    clear.paste((30, 160, 60, 255), (12, 12, 36, 36))
    flat = Image.new("RGB", (48, 48), "white")
    flat.paste((30, 160, 60), (12, 12, 36, 36))
    energies = []
    for picture in (clear, flat):
        one = studio.matching.score(picture, ["green square"])[0].energy
        [[table]], _ = studio.matching.score_matrix([picture], ["green square"])
        [pair] = studio.matching.score_pairs([picture], ["green square"], [(0, 0)])
        why = studio.matching.explain(picture, "green square").score.energy
        begun, _ = studio.generating.keep_picture(picture)
        energies.append((one, table, pair.energy, why, np.asarray(begun.image).tobytes()))
    assert energies[0] == energies[1]
    assert energies[0][0] == pytest.approx(energies[0][1])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_any_language_is_a_prompt(studio: Studio, prompt: str) -> None:
    picture = studio.generate_image(GenerateRequest(prompt=prompt, steps=1, seed=0))
    assert picture.size == (32, 32)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"prompt": ""}, "prompt is empty; describe"),
        ({"prompt": " \n\t "}, "prompt is empty"),
        ({"prompt": "a" * 1001}, "prompt has 1,001 characters; at most 1,000"),
        ({"prompt": "a" * 10_000}, "at most 1,000"),
        ({"prompt": None}, "prompt is of type NoneType; it must be text"),
        ({"prompt": 7}, "prompt is of type int"),
        ({"prompt": "\ud800"}, "lone surrogate"),
        ({"negative_prompt": "b" * 1001}, "negative prompt has 1,001"),
        ({"negative_prompt": None}, "negative prompt is of type NoneType"),
        ({"steps": 0}, "steps is 0; allowed: a whole number from 1 to 64"),
        ({"steps": 65}, "steps is 65"),
        ({"steps": 16.5}, "steps is 16.5"),
        ({"steps": True}, "steps is True"),
        ({"steps": "16"}, "steps is '16'"),
        ({"guidance": math.nan}, "guidance is nan; allowed: a number from 0 to 20"),
        ({"guidance": math.inf}, "guidance is inf"),
        ({"guidance": -1}, "guidance is -1"),
        ({"guidance": 10**400}, "guidance is 1000"),
        ({"guidance": None}, "guidance is None"),
        ({"temperature": 2.5}, "temperature is 2.5; allowed: a number from 0 to 2"),
        ({"temperature": False}, "temperature is False"),
        ({"seed": -1}, "seed is -1; allowed: a whole number from 0 to 2147483647"),
        ({"seed": 2**31}, "seed is 2147483648"),
        ({"seed": 1.0}, "seed is 1.0"),
    ],
)
def test_a_wrong_request_is_refused_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refusal:
        GenerateRequest(**({"prompt": "apple"} | values))
    assert str(refusal.value).startswith(told) or told in str(refusal.value)


def test_the_limits_themselves_are_allowed() -> None:
    GenerateRequest(prompt="a" * 1000, negative_prompt=" ", steps=1, guidance=0, temperature=0, seed=0)
    GenerateRequest(prompt="a", steps=64, guidance=20.0, temperature=2, seed=MAX_SEED)


def test_frames_reveal_every_token_once(studio: Studio) -> None:
    frames = list(studio.generating.frames(GenerateRequest(prompt="red apple", steps=5, seed=3)))
    assert [(frame.index, frame.total) for frame in frames] == [(step, 5) for step in range(5)]
    assert sorted(position for frame in frames for position in frame.revealed) == list(range(16))
    assert all((frame.grid, frame.seed, frame.image.mode) == (4, 3, "RGB") for frame in frames)
    assert all(before.seconds < after.seconds for before, after in pairwise(frames))


def test_tokens_once_shown_keep_their_pixels(studio: Studio) -> None:
    frames = list(studio.generating.frames(GenerateRequest(prompt="red apple", steps=4, seed=3)))
    for before, after in pairwise(frames):
        for position in before.revealed:
            left, top = position % 4 * 8, position // 4 * 8
            box = (left, top, left + 8, top + 8)
            assert before.image.crop(box).tobytes() == after.image.crop(box).tobytes()


def test_the_same_seed_gives_the_same_picture(studio: Studio) -> None:
    request = GenerateRequest(prompt="red apple", steps=4, seed=7)
    one, two = studio.generate_image(request), studio.generate_image(request)
    other = studio.generate_image(GenerateRequest(prompt="red apple", steps=4, seed=8))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()


def test_without_a_seed_one_is_drawn_and_told(studio: Studio) -> None:
    request = GenerateRequest(prompt="red apple", steps=1)
    first, second = next(studio.generating.frames(request)), next(studio.generating.frames(request))
    assert first.seed != second.seed
    again = studio.generate_image(GenerateRequest(prompt="red apple", steps=1, seed=first.seed))
    assert again.tobytes() == first.image.tobytes()


def test_a_request_with_its_usual_values_is_sampled_as_usual() -> None:
    assert settings_of(GenerateRequest(prompt="apple")) == SamplingSettings()


def test_guidance_temperature_and_negative_prompt_reach_the_model(studio: Studio) -> None:
    base = {"prompt": "red apple", "steps": 2, "seed": 1}
    variants: list[dict[str, Any]] = [{}, {"guidance": 9.0}, {"temperature": 0.2}, {"negative_prompt": "leaf"}]
    pictures = {studio.generate_image(GenerateRequest(**base, **variant)).tobytes() for variant in variants}
    assert len(pictures) == len(variants)


def test_more_steps_than_tokens_are_refused(studio: Studio) -> None:
    with pytest.raises(ValueError, match="steps is 17; allowed: 1 to 16"):
        studio.generate_image(GenerateRequest(prompt="red apple", steps=17))


def test_a_prompt_of_too_many_tokens_is_refused(studio: Studio) -> None:
    with pytest.raises(ValueError, match="402 word pieces; allowed: up to 128"):
        studio.generate_image(GenerateRequest(prompt="a " * 400, steps=1))


def test_a_generation_lets_others_in_between_its_steps(studio: Studio) -> None:
    request = GenerateRequest(prompt="red apple", steps=4, seed=5)
    alone = studio.generate_image(request)
    run, other = (
        studio.generating.frames(request),
        studio.generating.frames(GenerateRequest(prompt="blue car", steps=4, seed=6)),
    )
    frames = []
    for _ in range(4):
        frames.append(next(run))
        next(other)
        studio.matching.score(frames[-1].image, ["red apple"])
    assert frames[-1].image.tobytes() == alone.tobytes()


def test_an_abandoned_run_leaves_the_studio_usable(studio: Studio) -> None:
    run = studio.generating.frames(GenerateRequest(prompt="red apple", steps=8, seed=5))
    next(run)
    run.close()
    assert next(run, None) is None
    next(studio.generating.frames(GenerateRequest(prompt="red apple", steps=8, seed=5)))  # never closed, never finished
    assert studio.matching.score(Image.new("RGB", (9, 9)), ["red apple"])


def test_many_threads_get_their_own_pictures(studio: Studio) -> None:
    """Within 2/255 of what each makes alone: kernels round differently where pictures share passes."""
    requests = [GenerateRequest(prompt="red apple", steps=3, seed=seed) for seed in range(4)]
    alone = [np.asarray(studio.generate_image(request), dtype=int) for request in requests]
    together: dict[int, np.ndarray] = {}

    def run(place: int) -> None:
        together[place] = np.asarray(studio.generate_image(requests[place]), dtype=int)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    difference = np.array([[np.abs(together[made] - alone[asked]).max() for asked in range(4)] for made in range(4)])
    own = np.eye(4, dtype=bool)
    assert (difference[own] <= 2).all()
    assert (difference[~own] > 2).all()


def test_scores_come_best_first(studio: Studio) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    captions = ["red apple", "a blue car", "😀", "cat"]
    scores = studio.matching.score(noise, captions)
    assert sorted(score.caption for score in scores) == sorted(captions)
    assert [score.energy for score in scores] == sorted(score.energy for score in scores)
    assert all(0 <= score.probability <= 1 for score in scores)


def test_a_matrix_agrees_with_its_single_scores(studio: Studio) -> None:
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    captions = ["red apple", "sky"]
    energy, probability = studio.matching.score_matrix(pictures, captions)
    assert np.array(energy).shape == np.array(probability).shape == (3, 2)
    for row, picture in zip(energy, pictures, strict=True):
        single = {score.caption: score.energy for score in studio.matching.score(picture, captions)}
        np.testing.assert_allclose(row, [single[caption] for caption in captions], atol=1e-4)


@pytest.mark.parametrize(
    ("captions", "told"),
    [
        ([], "got 0 captions; allowed: 1 to 20"),
        (["a"] * (MAX_CAPTIONS + 1), "got 21 captions"),
        (["a", " "], "caption 2 is empty"),
        (["b" * 1001], "caption 1 has 1,001 characters"),
    ],
)
def test_wrong_captions_are_refused(studio: Studio, captions: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        studio.matching.score(Image.new("RGB", (8, 8)), captions)


def test_an_explanation_tells_shares_of_errors(studio: Studio) -> None:
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    told = studio.matching.explain(picture, "red apple, flat")
    whole, alone = (
        studio.matching.score(picture, ["red apple, flat"])[0],
        studio.matching.score(picture, ["red apple,"])[0],
    )
    assert told.words == ("red", "apple", "flat")
    assert told.score.energy == pytest.approx(whole.energy, abs=1e-4)
    assert told.gains[2] == pytest.approx(alone.energy - whole.energy, abs=1e-4)
    assert told.probabilities[2] == pytest.approx(alone.probability, abs=1e-3)
    assert len(told.patches) == told.grid**2 == 16
    assert [len(row) for row in told.word_patches] == [16] * 3
    assert max(told.patches) < 1  # no more than all of the error can be taken away
    assert max(map(max, told.word_patches)) < 1
    with pytest.raises(ValueError, match="words; allowed"):
        studio.matching.explain(picture, "?!")


def test_tables_give_their_turn_away_and_refuse_too_much(studio: Studio) -> None:
    pictures = [Image.effect_noise((32, 32), 60).convert("RGB") for _ in range(3)]
    rows = studio.matching.score_table(pictures, ["red apple", "sky"])
    assert next(rows).energy == ()  # the captions come first
    inner = studio.matching.score(pictures[0], ["sky"])[0].energy  # and others are let in between
    table = [row for part in rows for row in part.energy]
    assert table[0][1] == pytest.approx(inner, abs=1e-4)
    assert [len(row) for row in table] == [2, 2, 2]
    for few, many in ((pictures, []), ([], ["x"]), (pictures, ["x"] * 1001)):
        with pytest.raises(ValueError, match="allowed: 1 to 1,000"):
            list(studio.matching.score_table(few, many))


def test_a_matrix_without_pictures_is_refused(studio: Studio) -> None:
    with pytest.raises(ValueError, match="got 0 pictures"):
        studio.matching.score_matrix([], ["a"])


def test_info_tells_what_runs(studio: Studio, tiny_weights: Path) -> None:
    facts = studio.info()
    assert (facts["weights"], facts["device"], facts["image_size"], facts["tokens"]) == (
        str(tiny_weights),
        "cpu",
        32,
        16,
    )
    assert "noto" in facts["styles"]
    assert {"python", "torch", "gradio"} <= set(facts["versions"])


@pytest.mark.parametrize(
    ("device", "told"), [("toaster", "allowed: auto, cpu"), ("cuda:99", "CUDA devices are available")]
)
def test_a_device_that_is_not_there_is_refused(tiny_weights: Path, device: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Studio.load(tiny_weights, device)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights|manifest"):
        Studio.load(tmp_path, "cpu")


# --- edits


def frames_of(studio: Studio, **request: Any) -> list[Frame]:
    return list(studio.generating.frames(GenerateRequest(**({"prompt": "red apple", "steps": 4, "seed": 3} | request))))


def test_a_run_goes_on_from_any_of_its_steps(studio: Studio) -> None:
    whole = frames_of(studio)
    rest = frames_of(studio, edit=Edit(job=whole[0].job, step=1))
    assert [frame.index for frame in rest] == [2, 3]
    assert rest[0].job != whole[0].job
    assert np.allclose(np.asarray(rest[-1].image, int), np.asarray(whole[-1].image, int), atol=2)


def test_a_run_goes_on_with_other_words(studio: Studio) -> None:
    whole = frames_of(studio)
    rest = frames_of(studio, prompt="blue heart", guidance=9.0, edit=Edit(job=whole[0].job, step=1))
    assert [frame.index for frame in rest] == [2, 3]
    assert rest[-1].image.tobytes() != whole[-1].image.tobytes()
    for position in (*whole[0].revealed, *whole[1].revealed):
        left, top = position % 4 * 8, position // 4 * 8
        box = (left, top, left + 8, top + 8)
        assert rest[-1].image.crop(box).tobytes() == whole[1].image.crop(box).tobytes()


def test_another_seed_plans_the_rest_anew(studio: Studio) -> None:
    whole = frames_of(studio)
    rest = frames_of(studio, seed=9, edit=Edit(job=whole[0].job, step=2))
    assert [(frame.index, frame.total) for frame in rest] == [(3 + step, 3 + len(rest)) for step in range(len(rest))]
    known = {position for frame in whole[:3] for position in frame.revealed}
    assert sorted(position for frame in rest for position in frame.revealed) == sorted(set(range(16)) - known)


def test_a_run_that_goes_on_keeps_its_seed_and_a_part_redone_does_not(studio: Studio) -> None:
    whole = frames_of(studio)
    edit = Edit(job=whole[0].job, step=1)
    assert frames_of(studio, seed=None, edit=edit)[0].seed == 3
    assert frames_of(studio, seed=None, edit=Edit(job=whole[0].job, step=3, redo=(0,)))[0].seed != 3


def test_a_part_is_redone_with_the_ring_around_it(studio: Studio) -> None:
    whole = frames_of(studio)
    rest = frames_of(studio, seed=8, edit=Edit(job=whole[0].job, step=3, redo=(0,)))
    redone = {position for frame in rest for position in frame.revealed}
    assert redone == {0, 1, 4, 5}
    before, after = (np.asarray(frames[-1].image) for frames in (whole, rest))
    assert np.array_equal(before[16:], after[16:])
    assert np.array_equal(before[:, 16:], after[:, 16:])
    assert not np.array_equal(before[:16, :16], after[:16, :16])
    alone = frames_of(studio, seed=8, edit=Edit(job=whole[0].job, step=3, redo=(0,), ring=False))
    assert {position for frame in alone for position in frame.revealed} == {0}


def test_a_redone_run_holds_the_frames_before_it(studio: Studio) -> None:
    whole = frames_of(studio)
    rest = frames_of(studio, seed=8, edit=Edit(job=whole[0].job, step=3, redo=(0,)))
    kept = studio.generating.kept_frames(rest[0].job)
    assert [frame.index for frame in kept] == list(range(4 + len(rest)))
    assert [frame.image.tobytes() for frame in kept[:4]] == [frame.image.tobytes() for frame in whole]
    assert [frame.request.prompt for frame in kept if frame.request] == ["red apple"] * len(kept)
    assert kept[3].born == whole[3].born
    assert all(born >= 4 for position, born in enumerate(kept[-1].born) if position in (0, 1, 4, 5))
    assert kept[-1].born[15] == whole[3].born[15]
    unknown = [position for position, born in enumerate(kept[4].born) if born < 0]
    assert set(unknown) == {0, 1, 4, 5} - set(rest[0].revealed)


def test_a_picture_from_outside_keeps_what_is_not_marked(studio: Studio) -> None:
    def redone(colour: str, **request: Any) -> np.ndarray:
        begin, around = studio.generating.keep_picture(Image.new("RGBA", (50, 40), colour))
        assert (begin.index, begin.total, begin.request, around) == (0, 1, None, ())
        rest = frames_of(studio, **request, edit=Edit(job=begin.job, step=0, redo=(15,)))
        assert {position for frame in rest for position in frame.revealed} == {10, 11, 14, 15}
        return np.asarray(rest[-1].image)

    one, same, other = redone("green"), redone("green", seed=4), redone("red")
    assert np.array_equal(one[:16], same[:16])
    assert not np.array_equal(one[16:], same[16:])
    assert not np.array_equal(one[:16], other[:16])


def test_a_picture_with_room_around_it_is_outpainted(studio: Studio) -> None:
    (begin, around), (other, _) = (
        studio.generating.keep_picture(Image.new("RGB", (60, 60), colour), with_room=True) for colour in ("red", "blue")
    )
    assert set(range(16)) - set(around) == {5, 6, 9, 10}
    differ = (np.asarray(begin.image) != np.asarray(other.image)).any(axis=2)
    assert differ[8:24, 8:24].all()
    assert differ.sum() == 16 * 16
    rest = frames_of(studio, edit=Edit(job=begin.job, step=0, redo=around, ring=False))
    assert {position for frame in rest for position in frame.revealed} == set(around)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"job": "", "step": 0}, "job is ''; it must be the id of a kept run"),
        ({"job": None, "step": 0}, "job is None"),
        ({"job": "a", "step": -1}, "step is -1"),
        ({"job": "a", "step": 1.5}, "step is 1.5"),
        ({"job": "a", "step": 0, "redo": [1]}, "redo is of type list; allowed: a tuple"),
        ({"job": "a", "step": 0, "redo": ("1",)}, "position is '1'"),
        ({"job": "never", "step": 0}, "run 'never' is no longer kept"),
        ({"job": "outside", "step": 0}, "all tokens of the picture are known already; mark a part"),
        ({"job": "outside", "step": 1}, "step 2 does not exist; the run has 1 of 1 steps"),
        ({"job": "outside", "step": 0, "redo": (16,)}, "position 16 is outside the picture; allowed: 0 to 15"),
    ],
)
def test_wrong_edits_are_refused_in_words(studio: Studio, edit: dict[str, Any], told: str) -> None:
    outside, _ = studio.generating.keep_picture(Image.new("RGB", (8, 8)))
    named = edit | ({"job": outside.job} if edit["job"] == "outside" else {})
    with pytest.raises(ValueError, match=told):
        frames_of(studio, edit=Edit(**named))


def test_a_step_that_was_not_reached_cannot_be_gone_on_from(studio: Studio) -> None:
    run = studio.generating.frames(GenerateRequest(prompt="red apple", steps=4, seed=3))
    first = next(run)
    run.close()
    with pytest.raises(ValueError, match="step 4 does not exist; the run has 1 of 4 steps"):
        frames_of(studio, edit=Edit(job=first.job, step=3))
    assert [frame.index for frame in frames_of(studio, edit=Edit(job=first.job, step=0))] == [1, 2, 3]


def test_frames_can_be_fetched_again_for_a_while(studio: Studio) -> None:
    whole = frames_of(studio)
    again = studio.generating.kept_frames(whole[0].job)
    assert [(frame.index, frame.revealed) for frame in again] == [(frame.index, frame.revealed) for frame in whole]
    assert [frame.image.tobytes() for frame in again] == [frame.image.tobytes() for frame in whole]
    jobs = Jobs(2)
    for name in "abc":
        jobs.keep(Job(name=name))
    assert len(jobs) == 2
    with pytest.raises(ValueError, match="run 'a' is no longer kept"):
        jobs.get("a")


def test_a_lost_run_is_resumed_as_it_was(studio: Studio) -> None:
    whole = frames_of(studio, seed=41)
    run = studio.generating.frames(GenerateRequest(prompt="red apple", steps=4, seed=41))
    first = next(run)
    run.close()
    rest = list(studio.generating.resume(first.job))
    frames = [frame for frame in rest if isinstance(frame, Frame)]
    assert [(frame.job, frame.index) for frame in frames] == [(first.job, index) for index in (1, 2, 3)]
    assert np.allclose(np.asarray(frames[-1].image, int), np.asarray(whole[-1].image, int), atol=2)
    assert list(studio.generating.resume(first.job)) == []
    assert len(studio.generating.kept_frames(first.job)) == 4


def test_who_resumes_and_who_watched_before_both_get_all_steps(studio: Studio) -> None:
    first = studio.generating.frames(GenerateRequest(prompt="red apple", steps=8, seed=42))
    before = [next(first)]
    job = before[0].job
    rest = [frame for frame in studio.generating.resume(job) if isinstance(frame, Frame)]
    assert [frame.index for frame in [*before, *first]] == list(range(8))
    assert [frame.index for frame in rest] == list(range(1, 8))
    assert [frame.index for frame in studio.generating.kept_frames(job)] == list(range(8))


def test_a_run_is_taken_back_when_who_resumed_it_leaves(studio: Studio) -> None:
    first = studio.generating.frames(GenerateRequest(prompt="red apple", steps=12, seed=46))
    before = [next(first)]
    other = studio.generating.resume(before[0].job)
    next(other)
    other.close()
    assert [frame.index for frame in [*before, *first]] == list(range(12))


def test_resumed_twice_at_once_every_step_comes_once(studio: Studio) -> None:
    whole = frames_of(studio, seed=47, steps=16)
    for _ in range(6):
        started = studio.generating.frames(GenerateRequest(prompt="red apple", steps=16, seed=47))
        first = next(started)
        started.close()
        seen: list[list[int]] = [[], [], []]

        def follow(number: int, job: str = first.job, seen: list[list[int]] = seen) -> None:
            frames = studio.generating.resume(job)
            seen[number] = [frame.index for frame in frames if isinstance(frame, Frame)]

        threads = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)
        for indices in seen:
            assert indices == list(range(indices[0] if indices else 16, 16))
        kept = studio.generating.kept_frames(first.job)
        assert [frame.index for frame in kept] == list(range(16))
        assert np.allclose(np.asarray(kept[-1].image, int), np.asarray(whole[-1].image, int), atol=2)


def test_a_run_goes_on_if_its_successor_is_refused(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = studio.generating.frames(GenerateRequest(prompt="red apple", steps=16, seed=48))
    first = next(frames)

    def refuse(*_: object) -> Run:
        raise BusyError("all places are taken")

    with monkeypatch.context() as patch:
        patch.setattr(studio._engine, "submit", refuse)
        with pytest.raises(BusyError, match="all places are taken"):
            list(studio.generating.resume(first.job))
    run = studio.generating.job(first.job).run
    assert run is not None
    assert not run.is_cancelled
    assert [frame.index for frame in frames] == list(range(1, 16))


def test_pictures_together_are_left_to_who_takes_them_over(studio: Studio) -> None:
    requests = [GenerateRequest(prompt="red apple", steps=8, seed=seed) for seed in (49, 50)]
    together = studio.generating.together(requests)
    taken, first = next(together)
    assert isinstance(first, Frame)
    rest = list(studio.generating.resume(first.job))
    left = [(number, frame.index) for number, frame in together if isinstance(frame, Frame)]
    assert left == [(1 - taken, index) for index in range(8)]
    assert [frame.index for frame in rest if isinstance(frame, Frame)] == list(range(1, 8))
    assert [frame.index for frame in studio.generating.kept_frames(first.job)] == list(range(8))


def test_only_finished_pictures_are_chosen_from(studio: Studio) -> None:
    frames = studio.best_of(GenerateRequest(prompt="red apple", steps=8, seed=51), 3)
    first = next(frame for frame in frames if isinstance(frame, Frame))
    list(studio.generating.resume(first.job))  # as the page does when it is loaded again
    *_, choice = frames
    assert isinstance(choice, Choice)
    assert sorted(frame.seed for frame in choice.frames) == [52, 53]
    assert all(frame.index == 7 for frame in choice.frames)


def test_a_job_s_name_cannot_be_guessed() -> None:
    names = {Job().name for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) * 4 >= 128  # bits, in hexadecimal digits


def test_the_same_request_is_shown_again_from_memory(studio: Studio) -> None:
    request = GenerateRequest(prompt="red apple", steps=4, seed=43)
    first = list(studio.generating.watch(request))
    steps: list[object] = []
    handle = studio._pipeline.network.denoiser.condition_in.register_forward_pre_hook(lambda *_: steps.append(1))
    again = list(studio.generating.watch(request))
    assert not steps
    list(studio.generating.watch(GenerateRequest(prompt="red apple", steps=4, seed=44)))
    handle.remove()
    assert len(steps) == 4
    assert [frame.image for frame in again] == [frame.image for frame in first]
    assert again[0].job != first[0].job
    assert len({frame.job for frame in again}) == 1


def test_the_prediction_of_a_step_is_a_whole_picture(studio: Studio) -> None:
    whole = frames_of(studio, seed=45)
    predicted = [studio.generating.predicted(whole[0].job, index) for index in range(4)]
    assert predicted[3] == whole[3].image
    for frame, picture in zip(whole[:3], predicted, strict=False):
        assert picture != whole[3].image
        for position, born in enumerate(frame.born):
            left, top = position % 4 * 8, position // 4 * 8
            box = (left, top, left + 8, top + 8)
            if born >= 0:
                assert picture.crop(box).tobytes() == frame.image.crop(box).tobytes()
            else:
                assert picture.crop(box).tobytes() != frame.image.crop(box).tobytes()
    at_once = frames_of(studio, steps=1, seed=45)
    begun = studio.generating.predicted(whole[0].job, 0)
    assert begun != at_once[0].image


def test_frames_are_matched_with_their_own_prompts(studio: Studio) -> None:
    whole = frames_of(studio, seed=46)
    rest = frames_of(studio, prompt="blue heart", seed=46, edit=Edit(job=whole[0].job, step=1))
    scores = studio.match_frames(rest[0].job, [0, 3])
    assert [score.caption for score in scores] == ["red apple", "blue heart"]
    for score, picture in zip(scores, (whole[0].image, rest[-1].image), strict=True):
        [alone] = studio.matching.score(picture, [score.caption])
        assert score.energy == pytest.approx(alone.energy, abs=1e-4)
    outside, _ = studio.generating.keep_picture(Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="has no prompt to match"):
        studio.match_frames(outside.job, [0])


def test_those_who_wait_are_told_how_many_are_ahead(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepa_app.studio.generating.SECONDS_BETWEEN_NEWS", 0.05)
    engine, go = studio._engine, threading.Event()
    monkeypatch.setattr(engine, "max_active", 1)
    handle = studio._pipeline.network.denoiser.condition_in.register_forward_pre_hook(lambda *_: go.wait(60) and None)
    runs = [
        studio.generating.watch(GenerateRequest(prompt="red apple", steps=2, seed=seed), seed) for seed in (51, 52, 53)
    ]
    try:
        news: list[Frame | Waiting] = []
        for run in runs:
            thread = threading.Thread(target=lambda run=run: news.append(next(run)))
            thread.start()
            thread.join()
        many = studio.generating.together([GenerateRequest(prompt="red apple", steps=2, seed=54)], 54)
        news.append(next(many)[1])  # and while they wait, they can leave
        many.close()
    finally:
        go.set()
        handle.remove()
    assert [one.ahead for one in news if isinstance(one, Waiting)] == [0, 0, 1, 2]
    for run in runs:
        *_, last = run
        assert isinstance(last, Frame)
        assert last.index == 1


def test_the_best_of_several_seeds_is_chosen_by_energy(studio: Studio) -> None:
    request = GenerateRequest(prompt="red apple", steps=3, seed=60)
    *frames, choice = studio.best_of(request, 4)
    assert [(frame.index, frame.seed) for frame in frames if isinstance(frame, Frame)] == [(n, 60) for n in range(3)]
    assert isinstance(choice, Choice)
    assert sorted(frame.seed for frame in choice.frames) == [60, 61, 62, 63]
    energies = [score.energy for score in choice.scores]
    assert energies == sorted(energies)
    for frame, energy in zip(choice.frames, energies, strict=True):
        alone = studio.generate_image(GenerateRequest(prompt="red apple", steps=3, seed=frame.seed))
        assert np.allclose(np.asarray(frame.image, int), np.asarray(alone, int), atol=2)
        assert studio.matching.score(frame.image, ["red apple"])[0].energy == pytest.approx(energy, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 17, 2.5, True, None])
def test_a_choice_among_too_few_or_too_many_is_refused(studio: Studio, count: Any) -> None:
    with pytest.raises(ValueError, match=r"best of is .*; allowed: a whole number from 2 to 16"):
        next(studio.best_of(GenerateRequest(prompt="red apple"), count))
