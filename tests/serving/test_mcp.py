"""The studio as tools, used by a real client of the Model Context Protocol over HTTP."""

import asyncio
import io
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent, Tool
from PIL import Image

from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.support.studio_server import Gate

pytestmark = pytest.mark.filterwarnings("default")  # the server's own libraries warn in this process
APPLE = {"prompt": "red apple", "steps": 4, "seed": 3}
CAPTIONS = "red apple\nblue car"


class Tools:
    """The tools of a served studio, each call in a session of its own."""

    def __init__(self, address: str) -> None:
        self._address = f"{address}gradio_api/mcp/"

    def listed(self) -> list[Tool]:
        """What a client is offered."""
        return asyncio.run(self._ask(lambda session: session.list_tools())).tools

    def call(self, name: str, **arguments: Any) -> CallToolResult:
        """Call a tool."""
        return asyncio.run(self._ask(lambda session: session.call_tool(name, arguments)))

    async def _ask(self, ask: Any) -> Any:
        async with streamable_http_client(self._address) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await ask(session)


@pytest.fixture
def tools(server: tuple[str, Gate]) -> Tools:
    return Tools(server[0])


def said(answer: CallToolResult) -> str:
    """The text of an answer."""
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


def made(tools: Tools) -> tuple[bytes, str]:
    """A picture as an agent gets it: its bytes and its address."""
    shown, where = tools.call("generate_image", **APPLE).content
    assert isinstance(shown, ImageContent)
    assert isinstance(where, TextContent)
    return b64decode(shown.data), where.text.removeprefix("Image URL: ")


def test_there_are_two_tools_and_each_input_is_explained(tools: Tools) -> None:
    listed = {tool.name: tool for tool in tools.listed()}
    assert list(listed) == ["generate_image", "score"]
    assert listed["generate_image"].inputSchema["required"] == ["prompt"]
    assert listed["score"].inputSchema["required"] == ["picture", "captions"]
    for tool in listed.values():
        assert tool.description
        assert "Args" not in tool.description
        assert all(part["description"] for part in tool.inputSchema["properties"].values())
        assert all(part["type"] in ("string", "number", "boolean") for part in tool.inputSchema["properties"].values())


def test_a_picture_comes_back(tools: Tools, studio: Studio) -> None:
    data, _ = made(tools)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        assert picture.tobytes() == studio.generate_image(GenerateRequest(**APPLE)).tobytes()


def test_numbers_may_have_a_point(tools: Tools) -> None:
    """A schema says only that they are numbers, so some clients send 4.0."""
    [shown, _] = tools.call("generate_image", prompt="red apple", steps=4.0, seed=3.0).content
    assert isinstance(shown, ImageContent)
    assert b64decode(shown.data) == made(tools)[0]
    refused = tools.call("generate_image", prompt="red apple", steps=4.5)
    assert refused.isError
    assert said(refused) == "steps is 4.5; allowed: a whole number from 1 to 64"


def test_a_score_takes_an_address_a_data_url_and_base64(tools: Tools) -> None:
    data, address = made(tools)
    text = b64encode(data).decode("ascii")
    answers = [
        tools.call("score", picture=way, captions=CAPTIONS) for way in (address, f"data:image/png;base64,{text}", text)
    ]
    assert not any(answer.isError for answer in answers)
    assert all("'caption': 'blue car'" in said(answer) for answer in answers)
    assert len({said(answer) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("generate_image", {"prompt": " "}, "prompt is empty"),
        ("generate_image", {"prompt": "apple", "steps": 99}, "steps is 99; allowed: a whole number from 1 to 64"),
        ("generate_image", {}, "'prompt' is a required property"),
        ("score", {"picture": "", "captions": "apple"}, "there is no picture yet"),
        ("score", {"picture": "/home/me/apple.png", "captions": "apple"}, "send the bytes of a picture file as base64"),
        ("score", {"picture": "bm8gcGljdHVyZQ==", "captions": "apple"}, "the picture is not a readable picture"),
        ("score", {"picture": "http://127.0.0.1:1/a.png", "captions": "apple"}, "127.0.0.1 is not a public address"),
        ("score", {"picture": "https://none.invalid/a.png", "captions": "apple"}, "none.invalid/a.png cannot be read"),
    ],
)
def test_mistakes_are_told_in_words(tools: Tools, tool: str, arguments: dict[str, Any], told: str) -> None:
    answer = tools.call(tool, **arguments)
    assert answer.isError
    assert told in said(answer)


def test_an_address_leads_to_no_other_file_of_the_server(
    tools: Tools, server: tuple[str, Gate], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    _, address = made(tools)
    cache = address.partition("file=")[2].rpartition("/")[0]
    for path in (tmp_path / "secret.png", f"{cache}/../../../..{tmp_path}/secret.png"):
        answer = tools.call("score", picture=f"{server[0]}gradio_api/file={path}", captions="red")
        assert answer.isError
        assert "is not a public address" in said(answer)


def test_scoring_leaves_no_file(tools: Tools) -> None:
    data, address = made(tools)
    cache = Path(address.partition("file=")[2]).parent.parent
    before = set(cache.rglob("*"))
    for way in (f"data:image/png;base64,{b64encode(data).decode('ascii')}", address):
        tools.call("score", picture=way, captions=CAPTIONS)
    assert set(cache.rglob("*")) == before
