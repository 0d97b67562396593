"""How finished pictures are given out: their size, and without their background."""

import io
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jepa_app.__main__ import main
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.pixels import to_cutouts
from jepa_app.studio.export import animation, open_frames, read_settings
from jepa_app.studio.frames import Finish, Frame
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from jepa_app.ui.player.player import delta
from tests.conftest import TINY_DECODING, awake, write_tiny_weights
from tests.support.drawn_corpus import write_corpus
from tests.support.studio_server import loaded
from training.studies.decoding import main as decoding_study

REQUEST = GenerateRequest(prompt="red apple", steps=4, seed=3)


@pytest.fixture(scope="module")
def decoding_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights whose decoder tells what is opaque."""
    return write_tiny_weights(tmp_path_factory.mktemp("decoding"), tokenizer_config=TINY_DECODING)


@pytest.fixture(scope="module")
def decoding(decoding_weights: Path) -> Studio:
    studio = loaded(decoding_weights)
    decoder = studio._pipeline.image_tokenizer.decoder  # type: ignore[union-attr]
    awake(decoder)
    return studio


def test_a_cutout_holds_the_colour_of_its_edges_and_not_the_white_behind() -> None:
    opacity = torch.tensor([0.0, 0.01, 0.5, 0.99]).view(1, 1, 1, 4).expand(1, 1, 2, 4)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    [cutout] = to_cutouts(opacity * red + (1 - opacity), opacity)
    assert cutout.mode == "RGBA"
    assert np.asarray(cutout)[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [255, 0, 0, 128], [255, 3, 3, 255]]


def test_the_last_frame_is_large_and_has_no_background_and_the_others_are_small(decoding: Studio) -> None:
    frames = list(decoding.generating.frames(REQUEST))
    assert [frame.image.width for frame in frames] == [32, 32, 32, 64]
    assert [frame.cutout is not None for frame in frames] == [False, False, False, True]
    last = frames[-1]
    assert last.cutout is not None
    assert (last.image.mode, last.cutout.mode, last.cutout.size) == ("RGB", "RGBA", (64, 64))
    deltas = [delta("w", frame) for frame in frames]
    assert ["cutout" in one for one in deltas] == [False, False, False, True]
    with Image.open(io.BytesIO(b64decode(deltas[-1]["cutout"]))) as sent:
        assert sent.tobytes() == last.cutout.tobytes()
    sizes = {size: decoding.generate_image(REQUEST, Finish(size=size)).size for size in (None, 16, 32)}
    assert sizes == {None: (64, 64), 16: (16, 16), 32: (32, 32)}
    clear = decoding.generate_image(REQUEST, Finish(size=16, transparent=True))
    assert (clear.mode, clear.size) == ("RGBA", (16, 16))


def test_small_cutouts_do_not_get_dark_edges() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :1] = (200, 100, 50, 255)
    cutout = Image.fromarray(pixels, "RGBA")
    frame = Frame(
        job="a",
        index=0,
        total=1,
        image=cutout.convert("RGB"),
        cutout=cutout,
        revealed=(),
        born=(),
        planned=0,
        num_plan=0,
        grid=2,
        request=None,
        seconds=0,
    )
    half = np.asarray(Finish(size=2, transparent=True).of(frame)).astype(int)
    assert abs(half[0, 0] - (200, 100, 50, 128)).max() <= 2


@pytest.mark.parametrize(
    ("finish", "told"),
    [
        (Finish(size=15), "size is 15; allowed: a whole number of pixels from 16 to 64"),
        (Finish(size=65), "size is 65"),
        (Finish(size=20.5), "size is 20.5"),  # type: ignore[arg-type]
        (Finish(size=True), "size is True"),
        (Finish(transparent=1), "transparent is 1; allowed: true or false"),  # type: ignore[arg-type]
    ],
)
def test_forms_that_cannot_be_given_are_refused_before_work(decoding: Studio, finish: Finish, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decoding.generate_image(REQUEST, finish)


def test_weights_without_opacity_say_so(studio: Studio) -> None:
    with pytest.raises(ValueError, match="these weights do not know what is opaque"):
        studio.generate_image(REQUEST, Finish(transparent=True))
    assert all(frame.cutout is None for frame in studio.generating.frames(REQUEST))


def test_the_pipeline_gives_any_size(decoding: Studio) -> None:
    pipeline = decoding._pipeline
    assert isinstance(pipeline, JepaTPipeline)

    def made(**asked: Any) -> Any:
        return pipeline("rose", num_inference_steps=2, generator=torch.Generator().manual_seed(0), **asked).images

    assert made()[0].size == (64, 64)
    assert made(size=20)[0].size == (20, 20)
    assert made(size=32, output_type="pt").shape == (1, 3, 32, 32)
    assert made(output_type="np").shape == (1, 64, 64, 3)
    with pytest.raises(ValueError, match="size is 0; allowed"):
        made(size=0)


def test_an_animation_is_as_large_as_its_finished_picture(decoding: Studio) -> None:
    frames = [frame.image for frame in decoding.generating.frames(REQUEST)]
    for kind in ("webp", "gif"):
        with Image.open(io.BytesIO(animation(frames, kind))) as made:
            assert (made.size, made.n_frames) == ((64, 64), 4)

    def sent(picture: Image.Image) -> str:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return b64encode(buffer.getvalue()).decode()

    assert [frame.width for frame in open_frames([sent(frame) for frame in frames])] == [32, 32, 32, 64]


def test_the_command_line_leaves_the_background_out(
    decoding: Studio, decoding_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr(Studio, "load", lambda *_: decoding)
    words = ["generate", "red apple", "--weights", str(decoding_weights), "--steps", "2", "--seed", "3"]
    for name in ("a.png", "a.webp"):
        out = tmp_path / name
        assert main([*words, "--out", str(out), "--size", "32", "--transparent"]) == 0
        with Image.open(out) as picture:
            assert (picture.mode, picture.size) == ("RGBA", (32, 32))
    assert read_settings(tmp_path / "a.png").seed == 3
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "a.jpg"), "--transparent"]) == 2
    assert "must end in .png or .webp" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "b.png"), "--size", "1000"]) == 2
    assert "size is 1000; allowed: a whole number of pixels from 16 to 64" in capsys.readouterr().err


def test_what_a_decoder_is_worth_is_measured(decoding_weights: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "corpus").mkdir()
    corpus = write_corpus(tmp_path / "corpus")
    words = [str(decoding_weights), "--data", str(corpus), "--pictures", "24"]
    assert decoding_study([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    figures = document["figures"]
    assert figures["psnr"] == pytest.approx(figures["psnr_linear"], abs=0.5)  # untrained, it adds nothing
    assert figures["psnr_noisy"] < figures["psnr"]
    assert 0 <= figures["opaque_iou"] <= 1
    assert figures["decoding_ms"] > 0
    assert {"blockiness", "blockiness_real", "blockiness_generated"} <= set(figures)
    assert figures["blockiness"] > figures["blockiness_real"]  # tiles that know nothing of one another
    assert {"psnr_large_heldout_concepts", "opaque_iou_heldout_concepts"} <= set(figures)
    assert (tmp_path / "out" / "decoding.png").is_file()
