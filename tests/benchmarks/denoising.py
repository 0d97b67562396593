"""Quality against evaluations of the denoiser, for every solver: a table, and a curve as SVG.

    python -m tests.benchmarks.denoising --data DIR [--json] [--pictures 200] [--rectified WEIGHTS] [--curve FILE.svg]

The judge looks at pictures of the same captions and seeds, made in 16 steps with guidance 3; "distance" is the root
mean square difference of their tokens from those of 40 evaluations of the multistep solver, with the same noise.
"""

import dataclasses
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa_app.generation.flow import FlowMatching
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import sample
from jepa_app.generation.settings import SamplingSettings
from tests.benchmarks.measure import report, seconds
from training.data.batches import CaptionedPictures
from training.data.selection import balanced_order
from training.judging.judge import Judge, frechet_distance
from training.judging.picture_figures import ConceptExam, features_cache, rank_figures
from training.judging.trials import features_of_all

AT_ONCE = 50
EVALUATIONS = {  # solver -> evaluations; those of the published sampler are 100 of Euler's method
    "euler": (1, 2, 4, 8, 20, 100),
    "midpoint": (2, 4),
    "heun": (3, 5),
    "multistep": (2, 3, 4, 5, 8),
}
RECTIFIED = (1, 2, 3, 4)
REFERENCE = 40


@dataclasses.dataclass(frozen=True)
class Point:
    """One solver with so many evaluations: how good its pictures are and how long a picture takes alone."""

    name: str
    evaluations: int
    frechet: float
    median_rank: float
    distance: float
    milliseconds: float


class Bench:
    """Captions and seeds, the judge, and the real pictures to compare with."""

    def __init__(self, pipeline: JepaTPipeline, folder: Path, pictures: int) -> None:
        self.data = CaptionedPictures.load(folder, pipeline.image_size)
        self.judge = Judge.load(pipeline.device)
        features = features_of_all(self.judge, self.data, features_cache(folder, pipeline.image_size))
        self.exam = ConceptExam(self.data, features)
        order = balanced_order(self.data.rows, self.data.split.train, 0)
        self.indices, self.reference = order[:pictures], features[order[pictures : 2 * pictures]]
        self.captions = self.data.fixed(self.indices).captions
        self.exact: Tensor | None = None

    def tokens(self, pipeline: JepaTPipeline, flow: FlowMatching, evaluations: int) -> Tensor:
        """The tokens (B, N, C) of all pictures."""
        made, settings = [], SamplingSettings(denoising_steps=evaluations)
        for start in range(0, len(self.captions), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            text = pipeline.encode_prompts(self.captions[part])
            seeds = [torch.Generator().manual_seed(index) for index in self.indices[part].tolist()]
            *_, last = sample(pipeline.network, flow, text, None, settings, seeds)
            made += [step.tokens for step in last]
        return torch.stack(made)

    def point(self, name: str, pipeline: JepaTPipeline, flow: FlowMatching, evaluations: int) -> Point:
        """Measure one setting."""
        tokens = self.tokens(pipeline, flow, evaluations)
        if self.exact is None:
            self.exact = tokens
        parts = [pipeline.image_tokenizer.decode(part) for part in tokens.split(AT_ONCE)]
        features = self.judge.features(torch.cat(parts))
        ranks, _ = self.exam.look_up(features, self.indices, leave_out=False)
        return Point(
            name=name,
            evaluations=evaluations,
            frechet=frechet_distance(features, self.reference),
            median_rank=rank_figures(ranks, "")["concept_median_rank"],
            distance=float((tokens - self.exact).square().mean().sqrt()),
            milliseconds=1000 * min(seconds(lambda: self._alone(pipeline, flow, evaluations)) for _ in range(4)),
        )

    def _alone(self, pipeline: JepaTPipeline, flow: FlowMatching, evaluations: int) -> None:
        text, settings = pipeline.encode_prompts(self.captions[:1]), SamplingSettings(denoising_steps=evaluations)
        for _ in sample(pipeline.network, flow, text, None, settings, [torch.Generator().manual_seed(0)]):
            pass


def points(options: Namespace) -> list[Point]:
    """All settings, the reference first."""
    pipeline = JepaTPipeline.from_pretrained(options.weights)
    bench = Bench(pipeline, Path(options.data), options.pictures)
    made = [bench.point("multistep", pipeline, FlowMatching(), REFERENCE)]
    for solver, evaluations in EVALUATIONS.items():
        flow = FlowMatching(solver=solver) if solver == "multistep" else FlowMatching(solver=solver, shift=1.0)
        made += [bench.point(solver, pipeline, flow, number) for number in evaluations]
    if options.rectified:
        straight = JepaTPipeline.from_pretrained(options.rectified)
        made += [bench.point("rectified", straight, FlowMatching(), number) for number in RECTIFIED]
    return made


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Figures named solver_evaluations_what."""
    made = points(options)
    if options.curve:
        Path(options.curve).write_text(curve(made), encoding="utf-8")
    figures = {
        f"{point.name}_{point.evaluations}_{what}": getattr(point, what)
        for point in made
        for what in ("frechet", "median_rank", "distance", "milliseconds")
    }
    return figures, {"pictures": options.pictures}


COLOURS = {"euler": "#888888", "midpoint": "#d97706", "heun": "#059669", "multistep": "#4f46e5", "rectified": "#db2777"}
WIDTH, HEIGHT, MARGIN = 640, 360, 50


def curve(made: list[Point]) -> str:
    """Frechet distance against evaluations (logarithmic) as an SVG, a line for each solver."""
    shown = [point for point in made if point.evaluations <= 20]
    low, high = min(point.frechet for point in shown), max(point.frechet for point in shown)

    def place(point: Point) -> tuple[float, float]:
        right = torch.tensor(float(point.evaluations)).log() / torch.tensor(20.0).log()
        up = (point.frechet - low) / max(high - low, 1e-9)
        return MARGIN + float(right) * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    lines = []
    for row, name in enumerate(dict.fromkeys(point.name for point in shown)):
        places = [place(point) for point in sorted(shown, key=lambda one: one.evaluations) if point.name == name]
        path, colour = " ".join(f"{x:.1f},{y:.1f}" for x, y in places), COLOURS[name]
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        lines.append(f'<text x="{WIDTH - 150}" y="{MARGIN + 18 * row}" fill="{colour}">{name}</text>')
    for number in (1, 2, 4, 8, 20):
        x, _ = place(dataclasses.replace(shown[0], evaluations=number))
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - 28}" text-anchor="middle" fill="#666">{number}</text>')
    for value in (low, high):
        _, y = place(dataclasses.replace(shown[0], frechet=value))
        lines.append(f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{value:.0f}</text>')
    lines.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#666">evaluations of the denoiser</text>'
        f'<text x="8" y="20" fill="#666">Frechet distance (lower is better)</text>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
    return head + 'font-size="13"><rect width="100%" height="100%" fill="white"/>' + "".join(lines) + "</svg>\n"


def main() -> int:
    """Measure and print."""
    return report("denoising", measure, "--data=", "--pictures=200", "--rectified=", "--curve=")


if __name__ == "__main__":
    sys.exit(main())
