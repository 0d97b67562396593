"""The endpoints of the page, called over HTTP by gradio_client as a program would call them."""

import io
import struct
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from jepa_app.limits import text_lines
from jepa_app.studio.export import read_settings
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from jepa_app.ui.texts import RANKING, VERDICTS, verdict
from tests.support.studio_server import PATIENCE, Gate, loaded, served

pytestmark = pytest.mark.filterwarnings("default")  # the server's own libraries warn in this process
APPLE = {"prompt": "red apple", "steps": 4, "seed": 3}


@pytest.fixture(scope="module")
def studio(tiny_weights: Path) -> Studio:
    return loaded(tiny_weights)


@pytest.fixture(scope="module")
def server(studio: Studio) -> Iterator[tuple[Client, Gate]]:
    with served(studio) as (address, gate):
        client = Client(address, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        yield client, gate
        client.close()


@pytest.fixture
def client(server: tuple[Client, Gate]) -> Client:
    return server[0]


def picture_of(delta: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(delta["frame"])))


def test_the_endpoints_have_their_names(client: Client) -> None:
    endpoints: Any = client.view_api(return_format="dict", print_info=False)
    names = {
        "/generate",
        "/edit",
        "/resume",
        "/generate_image",
        "/grid",
        "/learn",
        "/score",
        "/score_matrix",
        "/score_many",
    }
    assert set(endpoints["named_endpoints"]) == names
    parameters = [part["parameter_name"] for part in endpoints["named_endpoints"]["/generate"]["parameters"]]
    assert parameters == ["prompt", "negative_prompt", "steps", "guidance", "temperature", "seed", "best_of"]


def test_generate_streams_one_small_delta_a_step(client: Client, studio: Studio) -> None:
    deltas = list(client.submit(**APPLE, api_name="/generate"))
    assert [(delta["i"], delta["n"]) for delta in deltas] == [(step, 4) for step in range(4)]
    assert len({delta["job"] for delta in deltas}) == 1
    assert sorted(place for delta in deltas for place in delta["revealed"]) == list(range(16))
    assert all(len(str(delta)) < 20_000 for delta in deltas)
    assert all((delta["seed"], delta["grid"], delta["prompt"]) == (3, 4, "red apple") for delta in deltas)
    frames = studio.generating.frames(GenerateRequest(**APPLE))
    for delta, frame in zip(deltas, frames, strict=True):
        assert picture_of(delta).tobytes() == frame.image.tobytes()


def test_generate_image_returns_the_same_picture_as_png(client: Client, studio: Studio) -> None:
    path = client.predict(**APPLE, api_name="/generate_image")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert GenerateRequest(**APPLE) == read_settings(Path(path))
        assert picture.tobytes() == studio.generate_image(GenerateRequest(**APPLE)).tobytes()


def test_without_a_seed_every_run_draws_one(client: Client) -> None:
    seeds = [next(iter(client.submit(prompt="apple", steps=1, api_name="/generate")))["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("endpoint", ["/generate", "/generate_image"])
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "a" * 10_000}, "10,000 characters; at most 1,000"),
        ({"prompt": "a " * 400}, "402 word pieces"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10**9}, "steps is 1000000000"),
        ({"steps": 17}, "steps is 17; allowed: 1 to 16"),
        ({"guidance": "NaN"}, "guidance is 'NaN'"),
        ({"guidance": 1e300}, "guidance is 1e"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": True}, "temperature is True"),
        ({"seed": 2**31}, "seed is 2147483648"),
        ({"seed": "seven"}, "seed is 'seven'"),
        ({"prompt": ["a", "list"]}, "prompt is of type list"),
        ({"negative_prompt": 5}, "negative prompt is of type int"),
    ],
)
def test_mistakes_are_told_in_words(client: Client, endpoint: str, values: dict[str, Any], told: str) -> None:
    with pytest.raises(AppError, match=told):
        client.submit(**(APPLE | values), api_name=endpoint).result(timeout=PATIENCE)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_outside_json_are_refused(client: Client, number: str) -> None:
    """Python's client cannot send them, but anybody's HTTP request can."""
    call = f"{client.src}gradio_api/call/generate_image"
    body = '{"data": ["red apple", "", 4, %s, 1, 3, null, false]}' % number  # noqa: UP031  # braces belong to JSON here
    event = httpx.post(call, content=body, headers={"content-type": "application/json"}, timeout=PATIENCE).json()
    answer = httpx.get(f"{call}/{event['event_id']}", timeout=PATIENCE).text
    assert "event: error" in answer
    assert "guidance is " in answer


def test_what_users_type_is_escaped_in_messages(client: Client) -> None:
    with pytest.raises(AppError) as refusal:
        client.predict(**(APPLE | {"seed": "<img src=x onerror=alert(1)>"}), api_name="/generate_image")
    assert "&lt;img" in str(refusal.value)
    assert "<img" not in str(refusal.value)


@pytest.mark.parametrize("prompt", ["😀", "красное яблоко", "赤いりんご", "<b>apple</b>"])
def test_any_language_is_a_prompt(client: Client, prompt: str) -> None:
    job = client.submit(prompt=prompt, steps=1, api_name="/generate")
    assert job.result(timeout=PATIENCE)["prompt"] == prompt


def test_a_cancelled_run_ends_within_one_step(server: tuple[Client, Gate]) -> None:
    client, gate = server
    gate.hold(5)
    job = client.submit(**(APPLE | {"steps": 16}), api_name="/generate")
    assert gate.held.wait(PATIENCE)
    release = threading.Timer(1, gate.released.set)  # the server hears of the stop while the model is at work
    release.start()
    job.cancel()
    assert gate.ended.wait(PATIENCE)
    assert gate.frames <= 6
    assert client.predict(**APPLE, api_name="/generate_image")  # and the model is free again


def test_score_ranks_captions_best_first(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), "red").save(tmp_path / "red.png")
    captions = "red apple\n\n  blue car  \n<i>cat</i>"
    ranking = client.predict(handle_file(tmp_path / "red.png"), captions, api_name="/score")
    assert {row["caption"] for row in ranking} == {"red apple", "blue car", "<i>cat</i>"}
    assert [row["energy"] for row in ranking] == sorted(row["energy"] for row in ranking)
    assert all(row["words"] == verdict(row["probability"]) for row in ranking)


def test_score_refuses_bad_pictures_and_captions(client: Client, tmp_path: Path) -> None:
    good, text, cut = tmp_path / "good.png", tmp_path / "text.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 40).save(good)
    text.write_text("no picture")
    cut.write_bytes(good.read_bytes()[:800])
    for picture, captions, told in (
        (text, "apple", "text.png is not a readable picture"),
        (cut, "apple", "cut.png is damaged"),
        (good, " \n ", "got 0 captions"),
        (good, "apple\n" * 21, "got 21 captions"),
        (good, "a" * 1001, "caption 1 has 1,001 characters"),
    ):
        with pytest.raises(AppError, match=told):
            client.predict(handle_file(picture), captions, api_name="/score")
    with pytest.raises(AppError, match="there is no picture yet"):
        client.predict(None, "apple", api_name="/score")


def test_score_matrix_scores_every_pair(client: Client, studio: Studio, tmp_path: Path) -> None:
    pictures = []
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
        pictures.append(handle_file(tmp_path / f"{colour}.png"))
    matrix = client.predict(pictures, "red apple\nsky", api_name="/score_matrix")
    energy, _ = studio.matching.score_matrix([Image.new("RGB", (32, 32), "red")], ["red apple", "sky"])
    assert matrix["captions"] == ["red apple", "sky"]
    assert [len(row) for row in matrix["probability"]] == [2, 2, 2]
    assert matrix["energy"][0] == pytest.approx(energy[0], abs=1e-4)
    with pytest.raises(AppError, match="got 0 pictures"):
        client.predict([], "red apple", api_name="/score_matrix")


def test_pictures_may_come_as_text(client: Client, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 40).save(tmp_path / "noise.png")
    text = b64encode((tmp_path / "noise.png").read_bytes()).decode("ascii")
    ways = [handle_file(tmp_path / "noise.png"), text, f"data:image/png;base64,{text}"]
    rankings = [client.predict(way, "red apple\nsky", api_name="/score") for way in ways]
    assert rankings[0] == rankings[1] == rankings[2]
    matrix = client.predict(ways, "red apple\nsky", api_name="/score_matrix")
    for row in matrix["energy"]:
        assert row == pytest.approx(matrix["energy"][0], abs=1e-4)


def test_score_many_streams_a_table(client: Client, studio: Studio, tmp_path: Path) -> None:
    files = []
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
        files.append(handle_file(tmp_path / f"{colour}.png"))
    (tmp_path / "bad.png").write_text("no picture")
    (tmp_path / "pairs.csv").write_text("picture,caption\ngreen.png,sea\n")
    files += [handle_file(tmp_path / "bad.png"), handle_file(tmp_path / "pairs.csv")]
    job = client.submit(files, "red apple\nsky", True, api_name="/score_many")
    last = job.result()
    assert [step["stage"] for step in job.outputs()][-1] == last["stage"] == "done"
    assert last["names"] == ["red.png", "green.png", "blue.png"]
    assert last["captions"] == ["red apple", "sky", "sea"]
    assert last["right"] == [[1, 2]]
    assert [problem["name"] for problem in last["problems"]] == ["bad.png"]
    energy, _ = studio.matching.score_matrix([Image.new("RGB", (32, 32), "green")], last["captions"])
    assert struct.unpack("<3f", b64decode(last["energies"][1])) == pytest.approx(energy[0], abs=1e-4)


def test_score_many_reads_no_file_of_the_server(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("password")
    upload = {"path": str(tmp_path / "secret.txt"), "orig_name": "a.txt", "meta": {"_type": "gradio.FileData"}}
    address = f"{client.src}gradio_api/call/score_many"
    asked = httpx.post(address, json={"data": [[upload], "x", True]}, timeout=PATIENCE).json()
    heard = httpx.get(f"{address}/{asked['event_id']}", timeout=PATIENCE).text
    assert "event: error" in heard
    assert "password" not in heard


def test_captions_are_the_lines_that_say_something() -> None:
    assert text_lines(" red apple \n\n\tblue car\r\n") == ["red apple", "blue car"]
    assert text_lines(None) == []
    assert text_lines("a rose\u2028and a cat\x0bon a\x1cmat") == ["a rose\u2028and a cat\x0bon a\x1cmat"]  # one caption


def test_every_probability_has_its_words() -> None:
    assert [verdict(threshold) for threshold, _ in VERDICTS] == [RANKING[key] for _, key in VERDICTS]
    assert verdict(1.0) == "fits very well"
    assert verdict(0.399) == "probably not"


GRID = {"prompt": "red apple", "x_axis": "seed", "x_values": "1-2", "y_axis": "steps", "y_values": "2, 3", "seed": 5}


def test_a_grid_streams_its_cells_and_ends_with_all_of_them(client: Client) -> None:
    deltas = list(client.submit(**GRID, steps=4, guidance=3, temperature=1, api_name="/grid"))
    first, last = deltas[0], deltas[-1]
    assert (first["grid"]["columns"], first["grid"]["rows"], first["cells"]) == (["1", "2"], ["2", "3"], [])
    assert last["done"]
    assert [(cell["row"], cell["column"]) for cell in last["cells"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(cell["seed"], cell["steps"], cell["i"]) for cell in last["cells"]] == [
        (1, 2, 1), (2, 2, 1), (1, 3, 2), (2, 3, 2),
    ]  # fmt: skip
    assert len({cell["frame"] for cell in last["cells"]}) == 4


def test_a_wrong_grid_is_refused_in_words(client: Client) -> None:
    with pytest.raises(AppError, match="both axes change the seed"):
        client.predict(**(GRID | {"y_axis": "seed"}), steps=4, guidance=3, temperature=1, api_name="/grid")


@pytest.mark.parametrize("endpoint", ["score", "score_matrix", "score_many"])
@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}], ids=["plain", "as a file"])
def test_files_that_were_not_uploaded_are_not_read(
    client: Client, tmp_path: Path, endpoint: str, meta: dict[str, Any]
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "private.png")
    private = {"path": str(tmp_path / "private.png"), **meta}
    given = [private if endpoint == "score" else [private], "red apple", *([False] if endpoint == "score_many" else [])]
    asked = httpx.post(f"{client.src}gradio_api/call/{endpoint}", json={"data": given}, timeout=PATIENCE)
    event = asked.json()["event_id"]
    answer = httpx.get(f"{client.src}gradio_api/call/{endpoint}/{event}", timeout=PATIENCE).text
    assert answer.startswith("event: error")
    assert "energy" not in answer
