"""All that the page and the command line may call: requests in, small frozen results out."""

import itertools
import platform
import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.utils import logging as transformers_logging

from jepa_app.editing import Job, Jobs, shown_of_job, shown_of_picture, with_ring
from jepa_app.engine import Engine, EngineRequest, Inbox, Run
from jepa_app.explain import Lesson, LessonProgress, explain
from jepa_app.pipeline import JepaTPipeline, to_pil
from jepa_app.requests import MAX_CAPTIONS, MAX_SEED, Edit, GenerateRequest, check_captions
from jepa_app.scoring import Scorer
from jepa_app.styles import STYLES
from jepa_app.unmasking import SamplingSettings, Shown, TokenStep

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture after one step.

    `job` names the run; `index` counts from 0 to `total` - 1; `revealed` are the row-major positions of the tokens that
    this step made known, on a board of `grid` x `grid` tokens; `seconds` have passed since the run began.
    """

    job: str
    index: int
    total: int
    image: Image.Image
    revealed: tuple[int, ...]
    grid: int
    seed: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CaptionScore:
    """How one caption fits a picture: `energy` is better when lower, `probability` is in [0, 1]."""

    caption: str
    energy: float
    probability: float


class Studio:
    """The two models: all pictures in the making share the engine's forward passes, scores take turns at a lock."""

    def __init__(self, engine: Engine, scorer: Scorer, weights: Path | str) -> None:
        self._engine = engine
        self._pipeline = engine.pipeline
        self._scorer = scorer
        self._weights = str(weights)
        self._scoring = threading.Lock()
        self._explaining = threading.Lock()
        self._jobs = Jobs()

    @classmethod
    def load(cls, weights: Path | str = DEFAULT_WEIGHTS, device: str = "auto") -> "Studio":
        """Load the generator and the scorer from a weights folder or hub id; `device` is auto, cpu, cuda or cuda:N.

        Raises:
            ValueError: the weights are missing, damaged or do not fit together, or the device is not there.
        """
        transformers_logging.disable_progress_bar()  # standard error is for mistakes
        chosen = _checked_device(device)
        engine = Engine(JepaTPipeline.from_pretrained(weights, device=chosen))
        engine.tune()
        return cls(engine, Scorer.from_pretrained(weights, device=chosen), weights)

    def generate(self, request: GenerateRequest, client: Hashable = None) -> Generator[Frame, None, None]:
        """Yield the growing picture, one frame a step; closing the iterator ends the work before the next step.

        Requests of one `client` wait for one another, those of different clients take turns.

        Raises:
            ValueError: the prompt has more tokens than the text encoder reads, the numbers ran out of range, or too
                many requests wait.
        """
        started = time.perf_counter()
        yield from self._follow(self._submit(request, client), started)

    def kept_frames(self, job: str) -> list[Frame]:
        """Return the frames that a run has made so far, for a visitor who comes back to it.

        Raises:
            ValueError: the run is forgotten.
        """
        kept = self._jobs.get(job)
        return [self._frame(job, kept.seed, step, seconds=0.0) for step in list(kept.steps)]

    def generate_each(self, requests: Sequence[GenerateRequest]) -> Generator[tuple[int, Frame], None, None]:
        """Yield (number of the request, frame) of one request after the other, while all are being worked on.

        Raises:
            ValueError: as `generate`.
        """
        runs: deque[tuple[int, Run, float]] = deque()
        rest = enumerate(requests)
        try:
            while True:
                for number, request in itertools.islice(rest, self._engine.max_active - len(runs)):
                    runs.append((number, self._submit(request, None), time.perf_counter()))
                if not runs:
                    return
                number, run, started = runs[0]
                for frame in self._follow(run, started):
                    yield number, frame
                runs.popleft()
        finally:
            for _, run, _ in runs:
                run.cancel()

    def generate_together(
        self, requests: Sequence[GenerateRequest], client: Hashable = None
    ) -> Generator[tuple[int, Frame], None, None]:
        """Yield (number of the request, frame) as the frames come; closing the iterator ends all.

        Raises:
            ValueError: as `generate`; the others are then dropped too.
        """
        inbox: Inbox = SimpleQueue()
        started, numbers, jobs = time.perf_counter(), dict[Run, int](), dict[Run, tuple[str, Job]]()
        try:
            for number, request in enumerate(requests):
                run = self._submit(request, client, inbox)
                numbers[run], jobs[run] = number, self._keep(run)
            left = len(numbers)
            while left:
                run, step = inbox.get()
                if isinstance(step, Exception):
                    raise step
                name, job = jobs[run]
                if step is None:
                    left -= 1
                    continue
                job.steps.append(step)
                yield numbers[run], self._frame(name, job.seed, step, time.perf_counter() - started)
        finally:
            for run in numbers:
                run.cancel()

    def _submit(self, request: GenerateRequest, client: Hashable, inbox: Inbox | None = None) -> Run:
        settings = SamplingSettings(
            num_steps=request.steps, guidance_scale=float(request.guidance), temperature=float(request.temperature)
        )
        seed = _seed_of(request)
        return self._engine.submit(
            EngineRequest(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt.strip() or None,
                settings=settings,
                seed=seed,
                client=client,
                shown=None if request.edit is None else self._shown(request.edit, seed, request.steps),
            ),
            inbox,
        )

    def _shown(self, edit: Edit, seed: int, num_steps: int) -> Shown:
        redo = with_ring(edit.redo, self._pipeline.grid)
        if edit.picture is None:
            return shown_of_job(self._jobs.get(edit.job), edit.step, redo, seed=seed, num_steps=num_steps)
        pixels = _to_pixels(edit.picture, self._pipeline.image_size).to(self._pipeline.device)
        with torch.no_grad():
            return shown_of_picture(self._pipeline.image_tokenizer.encode(pixels[None])[0].cpu(), redo)

    def _follow(self, run: Run, started: float) -> Generator[Frame, None, None]:
        """Keep the steps of a run as a job and yield its frames; closing the iterator cancels the run."""
        name, job = self._keep(run)
        try:
            for step in run:
                job.steps.append(step)
                yield self._frame(name, job.seed, step, time.perf_counter() - started)
        finally:
            run.cancel()

    def _keep(self, run: Run) -> tuple[str, Job]:
        name, job = secrets.token_hex(6), Job(run.request.seed, run.request.settings.num_steps)
        self._jobs.keep(name, job)
        return name, job

    def _frame(self, job: str, seed: int, step: TokenStep, seconds: float) -> Frame:
        return Frame(
            job=job,
            index=step.index,
            total=step.total,
            image=_to_picture(self._pipeline.decode(step.tokens[None], step.known[None])),
            revealed=tuple(step.revealed.tolist()),
            grid=self._pipeline.grid,
            seed=seed,
            seconds=seconds,
        )

    def generate_image(self, request: GenerateRequest) -> Image.Image:
        """Run a request to its end and return the finished picture."""
        *_, last = self.generate(request)
        return last.image

    def explain(self, request: GenerateRequest) -> Generator[LessonProgress | Lesson, None, None]:
        """Make a picture and yield how far its lesson is, at last the lesson; one at a time, the others wait.

        The network is only read, so pictures go on being made meanwhile.

        Raises:
            ValueError: the request begins with a picture, or as `generate`.
        """
        if request.edit is not None:
            raise ValueError("a lesson tells a picture from its first token on; leave the edit out")
        settings = SamplingSettings(
            num_steps=request.steps, guidance_scale=float(request.guidance), temperature=float(request.temperature)
        )
        with self._explaining:
            yield from explain(
                self._pipeline,
                request.prompt,
                negative_prompt=request.negative_prompt.strip() or None,
                settings=settings,
                seed=_seed_of(request),
            )

    def score(self, picture: Image.Image, captions: Sequence[str]) -> list[CaptionScore]:
        """Rank captions for a picture, best first (its central square is looked at).

        Raises:
            ValueError: there is no caption, there are more than 20, or one is empty or too long.
        """
        energy, probability = self.score_matrix([picture], captions)
        scores = [
            CaptionScore(caption=caption, energy=energy[0][row], probability=probability[0][row])
            for row, caption in enumerate(captions)
        ]
        return sorted(scores, key=lambda score: score.energy)

    def score_matrix(
        self, pictures: Sequence[Image.Image], captions: Sequence[str]
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return the energies and the probabilities of M pictures x K captions, each as M rows of K numbers.

        Raises:
            ValueError: as `score`, and when there is no picture or more than 20.
        """
        check_captions(captions)
        if not 1 <= len(pictures) <= MAX_CAPTIONS:
            raise ValueError(f"got {len(pictures)} pictures; allowed: 1 to {MAX_CAPTIONS} at once")
        size = self._scorer.image_size
        pixels = torch.stack([_to_pixels(picture, size) for picture in pictures])  # (M, 3, S, S)
        with self._scoring:
            scores = self._scorer.score(pixels, [caption.strip() for caption in captions])
        return scores.energy.tolist(), scores.probability.tolist()

    def info(self) -> dict[str, Any]:
        """What runs here: weights, device, attention backend, picture size, styles and versions."""
        packages = ("torch", "gradio", "diffusers", "transformers", "pillow")
        return {
            "weights": self._weights,
            "device": str(self._pipeline.device),
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "threads": self._engine.num_threads,
            "attention": self._pipeline.attention_backend,
            "image_size": self._pipeline.image_size,
            "tokens": self._pipeline.grid**2,
            "styles": [style.words for style in STYLES.values()],
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        }


def _seed_of(request: GenerateRequest) -> int:
    return secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed


def _checked_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as unknown:
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda or cuda:N") from unknown
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, but {torch.cuda.device_count()} CUDA devices are here; use --device cpu")
    return device


def _to_picture(pixels: torch.Tensor) -> Image.Image:
    """Pixels (1, 3, S, S) in [-1, 1] as an RGB picture."""
    if not torch.isfinite(pixels).all():
        raise ValueError("the picture ran out of the range of numbers; use less guidance or a lower temperature")
    return to_pil(pixels)[0]


def _to_pixels(picture: Image.Image, size: int) -> torch.Tensor:
    """The central square of a picture, reduced as in training, as pixels (3, size, size) in [-1, 1]."""
    square = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1  # (3, S, S)
