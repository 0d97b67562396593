"""Pictures on a ZeroGPU Space: the step loop alone runs where the GPU is, in a process that is forked for a call.

Everything that a visitor comes back to, the line and all decoding stay in the main process, which never touches CUDA:
once it had, no process forked from it could use the GPU. Bytes travel, no tensors: what a call needs of earlier steps
goes in, and a message a step comes out.
"""

import pickle
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch

from jepa_app.compute import choose_dtype
from jepa_app.engines.calling import Call, CallingEngine, LostError, Stop
from jepa_app.engines.messages import message
from jepa_app.engines.prompts import Prompts, features_of
from jepa_app.engines.waiting import EngineRequest, begin
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler
from jepa_app.models.text import TextFeatures

TOGETHER = 16  # pictures of one visitor in a call: those of "best of" and of the Compare tab
MOST_ACTIVE = 64  # in all calls; the host says how many calls run at a time
START_SECONDS, STEP_SECONDS = 5.0, 0.1  # what is asked for: a call's start, with CUDA's, and each step of its pictures

Steps = Callable[[bytes, int], Generator[bytes, None, None]]
Lend = Callable[[Steps, Callable[[bytes, int], int]], Steps]
"""Lets a generator function run where the GPU is, for at most as many seconds as the second function says."""


def seconds_for(work: bytes, num_steps: int) -> int:
    """Return the seconds to ask for: a visitor who has little left is refused more than that."""
    del work
    return round(START_SECONDS + STEP_SECONDS * num_steps)


def zero_gpu_engine(pipeline: JepaTPipeline, lend: Lend, is_lost: Callable[[Exception], bool]) -> CallingEngine:
    """Return an engine that makes pictures in calls which `lend` takes to the GPU.

    Args:
        pipeline: on the CPU.
        is_lost: whether an error says that a call's process ended before its time, so that another can go on.
    """
    if pipeline.device.type != "cpu":
        raise ValueError(f"the pipeline is on {pipeline.device}; keep it on the CPU, where the main process works")
    steps = lend(_steps_of(pipeline), seconds_for)
    prompts = Prompts(pipeline)
    call = _call(pipeline, prompts, steps, is_lost)
    return CallingEngine(pipeline, call, prompts=prompts, max_active=MOST_ACTIVE, together=TOGETHER)


def _call(pipeline: JepaTPipeline, prompts: Prompts, steps: Steps, is_lost: Callable[[Exception], bool]) -> Call:
    def call(requests: Sequence[EngineRequest], take_stop: Callable[[Stop], None]) -> Generator[bytes, None, None]:
        del take_stop  # a call that waits for the GPU cannot be taken back
        asked = [(request, features_of(prompts.of(request))) for request in requests]
        left = max(begin(pipeline, request).steps_left for request in requests)
        try:
            with closing(steps(pickle.dumps(asked), left)) as messages:
                yield from messages
        except Exception as error:
            if is_lost(error):
                raise LostError(str(error)) from error
            raise

    return call


def _steps_of(pipeline: JepaTPipeline) -> Steps:
    def steps(work: bytes, num_steps: int) -> Generator[bytes, None, None]:
        """Make pictures together and yield a message for each step; runs in a process of its own."""
        del num_steps
        torch.set_num_threads(1)  # the main process's helper threads do not exist in a fork, which would wait for them
        asked: list[tuple[EngineRequest, dict[str, TextFeatures]]] = pickle.loads(work)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = pipeline.network.to(device, choose_dtype(device))
        with torch.inference_mode():
            sampler = Sampler(network, pipeline.denoising)
            numbers = {}
            for number, (request, texts) in enumerate(asked):
                picture = begin(pipeline, request)
                numbers[id(picture)] = number
                moved = {name: text.to(device, network.null_text.dtype) for name, text in texts.items()}
                sampler.add_begun(picture, **moved)
            while sampler.pictures:
                for picture, step in sampler.step():
                    yield message(numbers[id(picture)], step)

    return steps
