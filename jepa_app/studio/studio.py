"""Everything that the page and the command line call: requests in, small frozen results out."""

import json
import platform
import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.utils import logging as transformers_logging

from jepa_app.checkpoint import EXAMPLE_FILE, resolve_weights
from jepa_app.compute import checked_device
from jepa_app.engines.port import Engine
from jepa_app.engines.thread import tuned
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
from jepa_app.lesson.lesson import Lesson, LessonProgress, explain
from jepa_app.matching.scoring import Scorer
from jepa_app.studio.example import read_example, write_example
from jepa_app.studio.export import PARAMETERS, run_settings
from jepa_app.studio.frames import Finish, Frame, Waiting
from jepa_app.studio.generating import Generating
from jepa_app.studio.matches import CaptionScore as CaptionScore
from jepa_app.studio.matches import Matching
from jepa_app.studio.requests import MAX_SEED, GenerateRequest, seed_of, settings_of
from jepa_app.styles import STYLES

MAX_CHOICE = 16
MAX_WORDS = 2000  # characters of a prompt in which words are looked up
PLAIN = Finish()  # as large as it is, on white
DEFAULT_WEIGHTS = Path(__file__).parent.parent.parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Finished pictures of one prompt, best match first: their last frames and their scores."""

    frames: tuple[Frame, ...]
    scores: tuple[CaptionScore, ...]


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """What is new in a prompt.

    Attributes:
        words: that the text encoder cannot read or the generator has never seen.
        thing: the thing that it asks for, if that was seen in other styles only; None otherwise.
        read_as: the caption that it is read as, if keywords told the thing; None otherwise.
    """

    words: tuple[str, ...] = ()
    thing: str | None = None
    read_as: str | None = None


class Studio:
    """The two models: `generating` makes pictures, `matching` scores them; the methods here use or describe both."""

    def __init__(self, engine: Engine, scorer: Scorer, weights: Path | str) -> None:
        self._engine = engine
        self._pipeline = engine.pipeline
        self._weights = str(weights)
        self.matching = Matching(scorer)
        self.generating = Generating(engine)
        self._explaining = threading.Lock()
        self.example: str | None = None  # the run that the page shows first

    @classmethod
    def load(
        cls,
        weights: Path | str = DEFAULT_WEIGHTS,
        device: str = "auto",
        revision: str | None = None,
        make_engine: Callable[[JepaTPipeline, Path], Engine] = tuned,
    ) -> "Studio":
        """Load the generator and the scorer from a weights folder or hub id; `device` is auto, cpu, cuda or cuda:N.

        `revision` is a branch, tag or commit of a hub id; `ID@REVISION` says the same. `make_engine` decides where
        pictures are made: by default in a thread of this process.

        Raises:
            ValueError: the weights are missing, damaged or do not fit together, or the device does not exist.
        """
        transformers_logging.disable_progress_bar()  # standard error is reserved for errors
        chosen = checked_device(device)
        folder = resolve_weights(weights, revision)  # once: a branch may move on in between
        pipeline = JepaTPipeline.from_pretrained(folder, device=chosen)
        scorer = Scorer.from_pretrained(folder, device=chosen)
        example = read_example(folder)
        name = str(weights) if revision is None else f"{weights}@{revision}"
        studio = cls(make_engine(pipeline, folder), scorer, name)  # last: an engine elsewhere would outlive an error
        if example is not None:
            studio.generating.pin(example)
            studio.example = example.name
        return studio

    def prepare(self) -> None:
        """Begin with what the first visitor would wait for; a process that ends before it is done waits for it."""
        nearest = self._pipeline.vocabulary.nearest
        if nearest is not None:
            threading.Thread(target=nearest.prepare, name="labels").start()

    def close(self) -> None:
        """End all runs and the worker that makes them."""
        self._engine.close()

    @property
    def defaults(self) -> SamplingSettings:
        """The sampling settings that suit the weights."""
        return self._pipeline.defaults

    def match_frames(self, name: str, indices: Sequence[int]) -> list[CaptionScore]:
        """Score frames of a run against their own prompts.

        Raises:
            ValueError: the run is no longer kept, has not reached a frame, or is an uploaded picture.
        """
        frames = [self.generating.kept_frame(name, index) for index in indices]
        captions = [None if frame.request is None else frame.request.prompt.strip() for frame in frames]
        prompts = list(dict.fromkeys(caption for caption in captions if caption is not None))
        if not prompts or None in captions:
            raise ValueError("an uploaded picture has no prompt to match; score it with captions instead")
        energy, probability = self.matching.energies([frame.image for frame in frames], prompts)
        columns = [prompts.index(caption) for caption in captions if caption is not None]
        return [
            CaptionScore(caption=prompts[column], energy=energy[row][column], probability=probability[row][column])
            for row, column in enumerate(columns)
        ]

    def best_of(
        self, request: GenerateRequest, count: int, client: Hashable = None
    ) -> Generator[Frame | Waiting | Choice, None, None]:
        """Make pictures from consecutive seeds together; yield the frames of the first, then the choice among all.

        Before the first frame, the expected wait is yielded every second. Pictures that were not finished here, as
        somebody else has taken them over, are left out of the choice.

        Raises:
            ValueError: as `Generating.frames`, or `count` is not a whole number from 2 to 16.
        """
        if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MAX_CHOICE:
            raise ValueError(f"best of is {count!r}; allowed: a whole number from 2 to {MAX_CHOICE}")
        first = seed_of(request)
        requests = [replace(request, seed=(first + number) % (MAX_SEED + 1)) for number in range(count)]
        last: dict[int, Frame] = {}
        with closing(self.generating.together(requests, client)) as frames:
            for number, frame in frames:
                if isinstance(frame, Frame):
                    last[number] = frame
                if number == 0 and (isinstance(frame, Frame) or not last):
                    yield frame
        prompt, done = request.prompt.strip(), [frame for frame in last.values() if frame.index == frame.total - 1]
        if not done:
            return
        energy, probability = self.matching.energies([frame.image for frame in done], [prompt])
        order = sorted(range(len(done)), key=lambda number: energy[number][0])
        yield Choice(
            frames=tuple(done[number] for number in order),
            scores=tuple(
                CaptionScore(caption=prompt, energy=energy[number][0], probability=probability[number][0])
                for number in order
            ),
        )

    def unseen(self, prompt: object) -> Unseen:
        """Return what is new in a prompt, as far as what the generator has seen is kept with its weights."""
        if not isinstance(prompt, str):
            return Unseen()
        asked, vocabulary = prompt[:MAX_WORDS], self._pipeline.vocabulary
        read_as = vocabulary.caption_by_keyword(asked)
        new = [] if read_as else [*self._pipeline.text_encoder.unread(asked), *vocabulary.unknown_words(asked)]
        return Unseen(words=tuple(dict.fromkeys(new)), thing=self._pipeline.thing_alone(asked), read_as=read_as)

    def write_example(self, request: GenerateRequest) -> Path:
        """Make a picture and keep its run beside the weights, for the page to show first; return the file.

        Raises:
            ValueError: the weights are no folder, or as `Generating.frames`.
        """
        folder = Path(self._weights)
        if not folder.is_dir():
            raise ValueError(f"the weights {self._weights} are no folder, so nothing can be kept beside them")
        *_, last = self.generating.frames(request)
        write_example(folder, self.generating.job(last.job))
        return folder / EXAMPLE_FILE

    def check_finish(self, finish: Finish) -> None:
        """Refuse a form of finished pictures that the weights cannot give.

        Raises:
            ValueError: as `Finish.check`.
        """
        finish.check(self._pipeline.decoded_side, knows_opacity=self._pipeline.knows_opacity)

    def generate_image(self, request: GenerateRequest, finish: Finish = PLAIN, client: Hashable = None) -> Image.Image:
        """Run a request to its end and return the finished picture, with its settings attached for saving it as PNG.

        Raises:
            ValueError: as `Generating.frames`, or the weights cannot give the picture in that form.
        """
        self.check_finish(finish)
        *_, last = self.generating.frames(request, client)
        assert last.request is not None
        picture = finish.of(last)
        picture.info[PARAMETERS] = json.dumps(run_settings(last.request, last.seed, self._weights))
        return picture

    def explain(self, request: GenerateRequest) -> Generator[LessonProgress | Lesson, None, None]:
        """Make a picture and yield the progress of its lesson, then the lesson; lessons are made one at a time.

        The network is only read, so other pictures can be made in the meantime.

        Raises:
            ValueError: the request has a starting picture, or as `Generating.frames`.
        """
        if request.edit is not None:
            raise ValueError("a lesson explains a picture from its first token; leave out the edit")
        with self._explaining:
            yield from explain(
                self._pipeline,
                request.prompt,
                negative_prompt=request.negative_prompt.strip() or None,
                settings=settings_of(request),
                seed=seed_of(request),
            )

    def info(self) -> dict[str, Any]:
        """Return what runs here: weights, device, attention backend, picture size, styles and versions."""
        packages = ("torch", "gradio", "diffusers", "transformers", "pillow")
        return {
            "weights": self._weights,
            "device": str(self._pipeline.device),
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "threads": self._engine.num_threads,
            "attention": self._pipeline.attention_backend,
            "image_size": self._pipeline.decoded_side,
            "tokens": self._pipeline.grid**2,
            "styles": list(self._pipeline.network.config.styles) or [style.words for style in STYLES.values()],
            "sampling": {name: getattr(self.defaults, name) for name in ("steps", "guidance", "temperature")},
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        }
