"""What is kept of a run: settings inside a PNG, animations, videos."""

import io
import json
import shutil
import subprocess
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jepa_app.studio import export
from jepa_app.studio.export import animation, animation_kinds, open_frames, png_settings, read_settings, run_settings
from jepa_app.studio.requests import Edit, GenerateRequest

REQUEST = GenerateRequest(
    prompt='red "apple" 😀 кот', negative_prompt="blue", steps=7, guidance=2.5, temperature=0.8, seed=11
)


def frames(count: int = 3, side: int = 33) -> list[Image.Image]:
    return [
        Image.linear_gradient("L").rotate(90 * number).resize((side, side)).convert("RGB") for number in range(count)
    ]


def png(picture: Image.Image, info: PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_text(text: str) -> bytes:
    info = PngInfo()
    info.add_text("parameters", text)
    return png(frames(1)[0], info)


def test_a_png_tells_the_request_that_made_it() -> None:
    settings = run_settings(REQUEST, 11, "someone/weights")
    assert settings["weights"] == "someone/weights"
    assert read_settings(png(frames(1)[0], png_settings(settings))) == REQUEST


def test_the_settings_hold_the_seed_that_was_drawn() -> None:
    assert run_settings(GenerateRequest(prompt="apple"), 5, "id")["seed"] == 5


def test_a_picture_does_not_tell_where_its_weights_lay(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert run_settings(REQUEST, 1, folder)["weights"] == "mine"
    (folder / "manifest.json").write_text("{}")
    assert run_settings(REQUEST, 1, str(folder))["weights"] == "mine@44136fa3"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (png(Image.new("RGB", (4, 4))), "a.png contains no settings"),
        (with_text("Steps: 20, Sampler: Euler"), "cannot be read as JSON"),
        (with_text("[" * 100_000), "cannot be read as JSON"),
        (with_text("[1]"), "contain no prompt"),
        (with_text("{}"), "contain no prompt"),
        (with_text(json.dumps({"prompt": "apple", "steps": 1e9})), "not allowed: steps is 1000000000.0"),
        (with_text('{"prompt": "apple", "guidance": NaN}'), "not allowed: guidance is nan"),
        (with_text(json.dumps({"prompt": ["apple"]})), "not allowed: prompt is of type list"),
        (with_text("{}")[:-40], "a.png is damaged"),
        (b"no picture", "a.png is not a readable picture"),
        (b"", "a.png is empty"),
    ],
)
def test_pictures_without_settings_of_ours_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_settings(data, "a.png")


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_holds_every_step(kind: str) -> None:
    with Image.open(io.BytesIO(animation(frames(5), kind))) as made:
        assert (made.format, made.size, getattr(made, "n_frames", 1)) == (kind.upper(), (33, 33), 5)
        durations = []
        for number in range(5):
            made.seek(number)
            made.load()
            durations.append(made.info["duration"])
        assert durations == [120, 120, 120, 120, 2000]


def test_one_step_is_an_animation_too() -> None:
    assert Image.open(io.BytesIO(animation(frames(1), "webp"))).size == (33, 33)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on the PATH")
def test_a_video_is_an_mp4_of_even_sides() -> None:
    made = animation(frames(4), "mp4")
    assert made[4:8] == b"ftyp"
    told = ["-show_entries", "stream=width,height,nb_read_frames,r_frame_rate", "-of", "json", "-count_frames", "-"]
    found = subprocess.run(["ffprobe", "-v", "error", *told], input=made, capture_output=True, check=True)
    (stream,) = json.loads(found.stdout)["streams"]
    assert (stream["width"], stream["height"], stream["r_frame_rate"]) == (512, 512, "25/1")
    assert int(stream["nb_read_frames"]) == pytest.approx(25 * (3 * 0.12 + 2), abs=1)


def test_videos_want_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert animation_kinds() == ("webp", "gif")
    with pytest.raises(ValueError, match="kind is 'mp4'; allowed here: webp, gif"):
        animation(frames(), "mp4")


def test_a_failing_ffmpeg_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\ncat > /dev/null\necho no codec >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ValueError, match=r"ffmpeg failed .no codec.; animated WebP works without ffmpeg"):
        animation(frames(), "mp4")


def test_nothing_makes_no_animation() -> None:
    with pytest.raises(ValueError, match="there are no steps to write"):
        animation([], "webp")


@pytest.mark.parametrize("sides", [[16] * 3 + [32] + [16] * 3 + [32], [32, 16, 16, 32], [16] * 79 + [32]])
def test_a_run_that_goes_on_from_a_finished_picture_is_an_animation(sides: list[int]) -> None:
    sent = [b64encode(png(frames(1, side)[0])).decode() for side in sides]
    assert [frame.width for frame in open_frames(sent)] == sides
    with Image.open(io.BytesIO(animation(frames(1, 16) + open_frames(sent), "webp"))) as made:
        assert made.size == (32, 32)


def test_frames_come_back_from_the_browser() -> None:
    sent = [b64encode(png(frame)).decode() for frame in frames()]
    assert [picture.tobytes() for picture in open_frames(sent)] == [frame.tobytes() for frame in frames()]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("text", "not a list of base64 texts"),
        ([5], "not a list of base64 texts"),
        (["x"] * 257, "got 257 steps; at most 256"),
        (["%"], "step 1 is not base64 text"),
        ([b64encode(b"text").decode()], "step 1 is not a readable picture"),
        ([b64encode(png(Image.new("L", (1025, 1)))).decode()], "step 1 is 1025 x 1; at most 1024 x 1024"),
        ([b64encode(png(Image.new("L", (side, 2)))).decode() for side in (2, 3)], "step 2 is 3 x 2; all steps"),
        (
            [b64encode(png(Image.new("L", (side, side)))).decode() for side in [1] * 79 + [1024]],
            "step 80 is 1024 x 1024",
        ),
    ],
)
def test_bad_frames_are_refused(sent: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        open_frames(sent)


def test_every_kind_has_its_type() -> None:
    assert set(animation_kinds()) <= set(export.TYPES)


def test_settings_of_an_edited_run_say_that_they_are_not_the_whole_story(tmp_path: Path) -> None:
    plain = GenerateRequest(prompt="rose", seed=3)
    edited = replace(plain, edit=Edit(job="one", step=2, redo=(1,)))
    keys = {"prompt", "negative_prompt", "steps", "guidance", "temperature", "seed", "weights"}
    assert set(run_settings(plain, 3, tmp_path)) == keys
    settings = run_settings(edited, 3, tmp_path)
    assert set(settings) == keys | {"edited"}
    assert json.loads(json.dumps(settings)) == settings
