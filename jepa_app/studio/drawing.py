"""Frames of kept runs: what a visitor sees of a step."""

from PIL import Image

from jepa_app.generation.picture import TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.pixels import to_cutouts, to_pil
from jepa_app.studio.frames import Frame
from jepa_app.studio.jobs import Job


def draw_frame(pipeline: JepaTPipeline, job: Job, index: int) -> Frame:
    """Return one of the frames of a job."""
    kept = job.kept[index]
    image, cutout = _drawn(pipeline, kept.step)
    return Frame(
        job=job.name,
        index=index,
        total=job.total,
        image=image,
        cutout=cutout,
        revealed=kept.step.painted,
        planned=kept.step.planned,
        num_plan=kept.step.num_plan,
        born=kept.born,
        grid=pipeline.grid,
        request=kept.request,
        seconds=kept.seconds,
    )


def _drawn(pipeline: JepaTPipeline, step: TokenStep) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture after a step and, if it is finished and its opacity is known, without its background."""
    if not step.is_whole:
        return pipeline.pictures(step.tokens[None], step.known[None])[0], None
    layers = pipeline.layers(step.tokens[None])
    return to_pil(layers.colours)[0], to_cutouts(*layers)[0] if pipeline.knows_opacity else None
