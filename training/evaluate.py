"""Measure weights on a folder of captioned pictures: `python -m training.evaluate WEIGHTS --data DIR`.

Whatever WEIGHTS holds is measured; a figure that was not measured is absent. Pictures are judged by
a network that is not ours (`training/judge.py`), matches by the model's own energies (`training/match_figures.py`).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from jepa_app.checkpoint import resolve_weights
from training.data import CaptionedPictures
from training.generators import GENERATORS, PicturePipeline, load_generators
from training.judge import Features, Judge, frechet_distance
from training.match_figures import (
    Matcher,
    concept_figures,
    group_figures,
    hard_case_figures,
    match_matrix,
    matrix_figures,
    one_wrong,
    reliability,
)
from training.matchers import MATCHERS, load_matchers
from training.picture_figures import (
    ConceptExam,
    Indices,
    Sampling,
    features_cache,
    generate,
    rank_figures,
    real_features,
    reconstruct,
)
from training.report import SUBSETS, JudgedPictures, markdown, save_evidence
from training.selection import balanced_order, choose_pictures, fitting_and_measuring
from training.settings import replace_settings

FEWEST_PICTURES = 10  # a side of the split with fewer is not measured

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Settings(Sampling):
    """What is measured: `prompts` a side of the split are generated, `matches` a side are matched with captions.

    `concepts` of the latter are looked up among the captions and pictures of all concepts, which takes as many pairs.

    Raises:
        ValueError: a number below what makes sense.
    """

    prompts: int = 300
    matches: int = 200
    concepts: int = 0

    def __post_init__(self) -> None:
        least = {"prompts": FEWEST_PICTURES, "matches": FEWEST_PICTURES, "concepts": 0, "steps": 1}
        least |= {"guidance": 0, "temperature": 0, "denoising_steps": 1}
        for name, allowed in least.items():
            if not getattr(self, name) >= allowed:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: {allowed} or more")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measured `figures` by name, the `setting` they hold for, and the generated pictures they were read off.

    `curves` are points by name: reliability curves.
    """

    figures: dict[str, float]
    setting: dict[str, object]
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    judged: tuple[JudgedPictures, ...] = ()

    def __or__(self, other: "Evaluation") -> "Evaluation":
        """Both together."""
        return Evaluation(
            figures=self.figures | other.figures,
            setting=self.setting | other.setting,
            curves=self.curves | other.curves,
            judged=self.judged + other.judged,
        )


def evaluate(weights: Path | str, folder: Path, settings: Settings, device: str | None = None) -> Evaluation:
    """Measure what `weights` holds, a folder or a hub id, on the captioned pictures of `folder`.

    Raises:
        ValueError: the weights hold no model or a broken one, or the folder is not usable.
    """
    started = time.perf_counter()
    device = _checked_device(device)
    parts = resolve_weights(weights)
    result = Evaluation(figures={}, setting={"weights": str(weights), "data": str(folder), **asdict(settings)})
    for pipeline in load_generators(parts, device):
        result |= measure_pictures(pipeline, CaptionedPictures.load(folder, pipeline.image_size), folder, settings)
    for matcher in load_matchers(parts, device):
        result |= measure_matches(matcher, CaptionedPictures.load(folder, matcher.image_size), settings)
    if not result.figures:
        known = ", ".join((*GENERATORS, *MATCHERS))
        raise ValueError(f"{weights} holds none of {known}; train one with python -m training.train")
    seconds = round(time.perf_counter() - started, 1)
    return result | Evaluation(figures={}, setting={"torch": torch.__version__, "seconds": seconds})


def measure_pictures(
    pipeline: PicturePipeline, data: CaptionedPictures, folder: Path, settings: Settings
) -> Evaluation:
    """Generate pictures for captions of each side of the split and let the judge look at them."""
    judge = Judge.load(pipeline.device)
    real = features_of_all(judge, data, features_cache(folder, data.image_size))
    exam = ConceptExam(data, real) if all(row.hexcode for row in data.rows) else None
    result = Evaluation(
        figures={},
        setting={
            "image_size": data.image_size,
            "device": str(pipeline.device),
            "real_pictures": len(data.rows),
            "concepts": exam.num_concepts if exam else 0,
        },
    )
    for suffix, members in _sides(data).items():
        order = balanced_order(data.rows, members, settings.seed)
        # half of a small side stays as the reference of the Frechet distance
        indices, reference = np.split(order, [min(settings.prompts, len(order) // 2)])
        judged, made, restored = _generate_side(pipeline, judge, data, indices, suffix, settings)
        if exam:
            figures, ranks, nearest = _concept_figures(exam, indices, made, restored, real[indices], suffix)
            result |= Evaluation(figures=figures, setting={})
            judged = replace(judged, ranks=ranks.tolist(), nearest=nearest)
        if suffix == "":
            figures = _frechet_figures(real[reference[: len(indices)]], made, restored, real[indices])
            result |= Evaluation(figures=figures, setting={"frechet_pictures": len(indices)})
        result |= Evaluation(figures={}, setting={f"prompts{suffix}": len(indices)}, judged=(judged,))
    return result


def measure_matches(matcher: Matcher, data: CaptionedPictures, settings: Settings) -> Evaluation:
    """Match pictures of each side of the split with captions; of the held-out pairs the half nobody calibrates on."""
    result = Evaluation(figures={}, setting={"match_image_size": data.image_size})
    for suffix, members in _sides(data).items():
        if suffix == "_heldout_pairs":
            _, members = fitting_and_measuring(data.rows, members)
        indices = choose_pictures(data.rows, members, settings.matches, settings.seed)
        if len(indices) < FEWEST_PICTURES:
            continue
        parts = match_matrix(matcher, data, indices)
        tables = list(_bar(parts, f"matching{suffix}", len(indices), lambda part: len(part[0])))
        energy, probability = (np.concatenate(part) for part in zip(*tables, strict=True))
        figures = matrix_figures(energy, probability, settings.seed)
        figures |= group_figures(energy, [data.rows[index] for index in indices])
        figures |= hard_case_figures(matcher, data, members, settings.matches, settings.seed)
        if settings.concepts:
            figures |= concept_figures(matcher, data, members, settings.concepts, settings.seed)
        named = {f"{name}{suffix}": value for name, value in figures.items()}
        curves = {f"reliability{suffix}": reliability(*one_wrong(probability, settings.seed))}
        result |= Evaluation(figures=named, setting={f"matches{suffix}": len(indices)}, curves=curves)
    return result


def _generate_side(
    pipeline: PicturePipeline, judge: Judge, data: CaptionedPictures, indices: Indices, suffix: str, settings: Settings
) -> tuple[JudgedPictures, Features, Features]:
    """The generated pictures of some rows, their features, and those of the rows' reconstructions."""
    batch = data.fixed(indices)
    pictures = generate(pipeline, batch.captions, indices, settings)
    pixels = torch.cat(list(_bar(pictures, f"generating{suffix}", len(indices), len)))
    seeds = (settings.seed + indices).tolist()
    judged = JudgedPictures(suffix=suffix, prompts=batch.captions, seeds=seeds, pixels=pixels)
    return (
        judged,
        judge.features(pixels),
        judge.features(reconstruct(pipeline.image_tokenizer, batch.pixels.to(pipeline.device))),
    )


def _concept_figures(
    exam: ConceptExam, indices: Indices, made: Features, restored: Features, real: Features, suffix: str
) -> tuple[dict[str, float], Indices, list[str]]:
    """Concept accuracy of generated, restored and real pictures of the same rows; ranks and guesses of the first."""
    ranks, nearest = exam.look_up(made, indices, leave_out=False)
    figures = rank_figures(ranks, suffix)
    for kind, features in {"_other_designs": made, "_reconstruction": restored, "_real": real}.items():
        figures |= rank_figures(exam.look_up(features, indices, leave_out=True)[0], suffix + kind)
    return figures, ranks, nearest


def _frechet_figures(reference: Features, made: Features, restored: Features, real: Features) -> dict[str, float]:
    """Distances of equally many pictures from the same reference: other real pictures of the same styles."""
    kinds = {"frechet": made, "frechet_reconstruction": restored, "frechet_real": real}
    return {name: frechet_distance(features, reference) for name, features in kinds.items()}


def features_of_all(judge: Judge, data: CaptionedPictures, cache: Path) -> Features:
    """The features of all pictures of a folder, from the cache or into it."""
    if cache.is_file():
        cached: Features = np.load(cache)
        return cached
    features = np.concatenate(list(_bar(real_features(judge, data), "judging real pictures", len(data.rows), len)))
    partial = cache.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:  # np.save would add .npy to the name
            np.save(file, features)
        partial.replace(cache)
    finally:
        partial.unlink(missing_ok=True)
    return features


def _checked_device(name: str | None) -> str:
    """The device to compute on: `name`, or a GPU if there is one."""
    found = torch.cuda.is_available()
    allowed = ["cpu", "cuda"] if found else ["cpu"]
    if name not in (None, *allowed):
        raise ValueError(f"device is {name!r}; allowed here: {', '.join(allowed)}")
    return name or allowed[-1]


def _sides(data: CaptionedPictures) -> dict[str, Indices]:
    """The sides of the split that are large enough to measure, by the suffix of their figures."""
    sides = (data.split.train, data.split.heldout_pairs, data.split.heldout_concepts)
    return {suffix: side for suffix, side in zip(SUBSETS, sides, strict=True) if len(side) >= 2 * FEWEST_PICTURES}


def _bar(items: Iterable[Item], title: str, total: int, size: Callable[[Item], int]) -> Iterator[Item]:
    """Pass items on with a progress bar on standard error that counts `size` of each."""
    with tqdm(total=total, desc=title.replace("_", " "), unit="picture", disable=None) as bar:
        for item in items:
            yield item
            bar.update(size(item))


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake in one line and leave with status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; exit status 0 done, 2 a user's mistake (told in one line on standard error)."""
    parser = OneLineParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("weights", help="weights folder or hub id")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument(
        "--out", type=Path, help="folder for figures.json, the pictures judged and what was said of them"
    )
    parser.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    names = ", ".join(f"{name}={value}" for name, value in asdict(Settings()).items())
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=f"change what is measured (default: {names})"
    )
    options = parser.parse_args(arguments)
    try:
        settings = replace_settings(Settings(), options.set)
        result = evaluate(options.weights, options.data, settings, options.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = json.dumps({"figures": result.figures, "setting": result.setting, "curves": result.curves}, indent=2)
    if options.out:
        for judged in result.judged:
            save_evidence(judged, options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "figures.json").write_text(document + "\n", encoding="utf-8")
    print(document if options.json else markdown(result.figures, result.setting))
    return 0


if __name__ == "__main__":
    sys.exit(main())
