"""One picture: the sampler against the published one, where its time goes, and how far it is from the floor.

    python -m tests.benchmarks.sampling [--json] [--rounds 5] [--data DIR --pictures 300]

With --data, a folder of captioned pictures, both samplers' pictures are judged as well.
"""

import dataclasses
import itertools
import statistics
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.waiting import EngineRequest
from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler, sample
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.jepa_t import JepaT
from jepa_app.ui.encoding import LOSSLESS_SIDE, jpeg, png
from tests.benchmarks.measure import Work, in_turn, matrix_rate, operations, ratio, report, seconds
from tests.benchmarks.published import PUBLISHED_DENOISING_STEPS, plain_network, published_sample

PROMPT = "red apple, twemoji style"
OTHER_SEEDS = 1000
OURS = SamplingSettings(guidance_schedule="linear")  # as published
PUBLISHED = dataclasses.replace(OURS, denoising_steps=PUBLISHED_DENOISING_STEPS)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator with a seed."""
    return torch.Generator().manual_seed(seed)


def ours(pipeline: JepaTPipeline, settings: SamplingSettings = OURS) -> None:
    """One picture from words to tokens, as the library does it."""
    text = pipeline.encode_prompts([PROMPT])
    for _ in sample(pipeline.network, pipeline.denoising, text, None, settings, [seeded()]):
        pass


def published(network: JepaT, pipeline: JepaTPipeline, settings: SamplingSettings = PUBLISHED) -> None:
    """One picture from words to tokens, as published."""
    for _ in published_sample(network, lambda: pipeline.encode_prompts([PROMPT]), settings, [seeded()]):
        pass


def passes(network: JepaT, work: Work) -> float:
    """How many tokens pass encoder and predictor, as a multiple of the picture's tokens; prefixes are left out."""
    backbone, seen = network.d_jepa.backbone, Counter[str]()

    def encoded(_: object, arguments: tuple[Tensor, ...]) -> None:
        seen["encoder"] += int((arguments[1] >= 0).sum())  # by their positions: the prefix has none

    def asked(_: object, arguments: tuple[Tensor, ...]) -> None:
        seen["predictor"] += arguments[0].shape[:2].numel()

    handles = [
        backbone.context_encoder.register_forward_pre_hook(encoded),
        backbone.predictor[0].register_forward_pre_hook(asked),
    ]
    work()
    for handle in handles:
        handle.remove()
    return seen.total() / network.config.num_tokens


def parts(pipeline: JepaTPipeline, rounds: int) -> dict[str, float]:
    """Median milliseconds of a picture that each part takes."""
    spent: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        once: Counter[str] = Counter()
        for name, taken in _timed_parts(pipeline, seeded(number)):
            once[name] += 1000 * taken
        for name, value in once.items() if number else ():
            spent.setdefault(name, []).append(value)
    return {f"ms_{name}": statistics.median(values) for name, values in spent.items()}


def _timed_parts(pipeline: JepaTPipeline, generator: torch.Generator) -> Iterator[tuple[str, float]]:
    """The sampler's own calls, one by one."""
    sampler = Sampler(pipeline.network, pipeline.denoising)
    made: dict[str, Any] = {}
    yield "text", seconds(lambda: made.update(text=pipeline.encode_prompts([PROMPT])))
    yield "prefix", seconds(lambda: made.update(prompt=sampler.start(made["text"])[0], null=sampler.null))
    picture = Picture.begin(pipeline.network, OURS, generator)
    sampler.add(picture, made["prompt"])
    conditions = sampler._conditions
    with torch.no_grad():
        while True:
            yield "predictor", seconds(lambda: made.update(conditions=conditions.predict([picture])))
            yield "denoiser", seconds(lambda: made.update(clean=sampler._denoise([picture], made["conditions"])))
            step = picture.reveal(made["clean"][0])
            yield "preview", seconds(lambda step=step: pipeline.decode(step.tokens[None], step.known[None]))
            if picture.is_done:
                return
            yield "encoder", seconds(lambda: conditions.extend([picture]))


def streamed(engine: ThreadEngine, seed: int, previews: bool) -> None:
    """One picture through the engine, with every frame decoded and packed, or the last one only."""
    run = engine.submit(EngineRequest(prompt=PROMPT, settings=OURS, seed=seed))
    for step in run:
        if previews or step.index == step.total - 1:
            frame(engine.pipeline, step.tokens, step.known)


def frame(pipeline: JepaTPipeline, tokens: Tensor, known: Tensor) -> str:
    """A frame as the player gets it: decoded and packed, an unfinished one as JPEG."""
    (image,) = pipeline.pictures(tokens[None], known[None])
    return png(image) if bool(known.all()) or image.width <= LOSSLESS_SIDE else jpeg(image)


def first_frame(engine: ThreadEngine, prompt: str) -> None:
    """From a request with a prompt to its first frame."""
    run = engine.submit(EngineRequest(prompt=prompt, settings=OURS, seed=0))
    step = next(iter(run))
    frame(engine.pipeline, step.tokens, step.known)


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """All figures of one picture."""
    pipeline = JepaTPipeline.from_pretrained(options.weights)
    plain = plain_network(options.weights)
    engine = ThreadEngine(pipeline)
    engine.tune()
    works = {"published": lambda: published(plain, pipeline), "ours": lambda: ours(pipeline)}
    taken = in_turn(works, options.rounds)
    figures: dict[str, Any] = {
        "latency_speedup": ratio(taken["published"], taken["ours"]),
        "ms_published": 1000 * statistics.median(taken["published"]),
        "ms": 1000 * statistics.median(taken["ours"]),
    }
    figures |= parts(pipeline, options.rounds)
    equal = {"published": lambda: published(plain, pipeline, OURS), "ours": works["ours"]}
    taken = in_turn(equal, options.rounds)
    figures["latency_speedup_equal_denoising_steps"] = ratio(taken["published"], taken["ours"])
    floor = operations(works["ours"]) / max(matrix_rate(pipeline.dtype) for _ in range(3))
    figures |= {
        "operations": operations(works["ours"]),
        "operations_published": operations(works["published"]),
        "ms_floor": 1000 * floor,
        "matrix_rate_share": floor / statistics.median(taken["ours"]),
    }
    if pipeline.network.config.backbone == "cached":
        unguided = SamplingSettings(guidance=1.0, denoising_steps=1)
        figures["token_passes"] = passes(pipeline.network, lambda: ours(pipeline, unguided))
        figures["token_passes_published"] = passes(plain, lambda: published(plain, pipeline, unguided))
    figures |= streaming(engine, 3 * options.rounds)
    facts: dict[str, object] = {
        "prompt": PROMPT,
        "rounds": options.rounds,
        "denoising_steps": SamplingSettings.denoising_steps,
    }
    if options.data:
        judged, more = quality(pipeline, plain, Path(options.data), options.pictures)
        figures, facts = figures | judged, facts | more
    return figures, facts


def streaming(engine: ThreadEngine, rounds: int) -> dict[str, float]:
    """Time to the first frame with a prompt that was never asked for, and what previews add to a run."""
    words = itertools.count()
    firsts = [seconds(lambda: first_frame(engine, f"red apple number {next(words)}")) for _ in range(rounds + 1)][1:]
    seeds = itertools.count()
    taken = in_turn(
        {
            "with": lambda: streamed(engine, next(seeds), previews=True),
            "without": lambda: streamed(engine, next(seeds), previews=False),
        },
        rounds,
    )
    engine.close()
    return {
        "first_frame_ms": 1000 * statistics.median(firsts),
        "preview_overhead": ratio(taken["with"], taken["without"]) - 1,
        "ms_engine": 1000 * statistics.median(taken["without"]),
    }


def quality(
    pipeline: JepaTPipeline, plain: JepaT, folder: Path, pictures: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Concept accuracy and Frechet distance of both samplers, on the same captions and seeds."""
    from training.data.batches import CaptionedPictures
    from training.judging.evaluation import Settings, measure_pictures

    data = CaptionedPictures.load(folder, pipeline.image_size)
    settings, figures = Settings(prompts=pictures, guidance_schedule="linear"), dict[str, float]()
    others = dataclasses.replace(settings, seed=OTHER_SEEDS)  # what chance does; the pictures asked for differ too
    for name, one, how in (
        ("", pipeline, settings),
        ("_published", PublishedPipeline(pipeline, plain), settings),
        ("_other_seeds", pipeline, others),
    ):
        measured = measure_pictures(one, data, folder, how).figures
        figures |= {key + name: value for key, value in measured.items() if key in SHOWN}
    return figures, {"pictures": pictures}


SHOWN = ("concept_top5", "concept_median_rank", "concept_median_rank_heldout_pairs", "frechet", "frechet_real")


class PublishedPipeline(JepaTPipeline):
    """A pipeline that samples as published, for the judge."""

    def __init__(self, pipeline: JepaTPipeline, plain: JepaT) -> None:
        super().__init__(pipeline.image_tokenizer, plain, pipeline.text_encoder)

    def __call__(self, prompt: Any, *, generator: Any = None, **_: Any) -> Any:
        """Return pictures (B, 3, S, S) of prompts, with the published settings."""
        *_, tokens = published_sample(self.network, lambda: self.encode_prompts(prompt), PUBLISHED, generator)
        return Namespace(images=self.image_tokenizer.decode(tokens))


def main() -> int:
    """Measure and print."""
    return report("sampling", measure, "--rounds=5", "--data=", "--pictures=300")


if __name__ == "__main__":
    sys.exit(main())
