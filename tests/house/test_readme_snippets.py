"""The snippets of the Markdown files do what they show: each runs word for word, most against a served studio."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import torch
from PIL import Image

from jepa_app.models.text import TextEncoder
from tests.support.browser import PATIENCE_MS
from tests.support.documents import DOCUMENTS, ROOT, blocks
from tests.support.studio_server import PATIENCE, Gate
from training.data.folders import read_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.filterwarnings("default")  # the server's own libraries warn in this process
SECTION = DOCUMENTS["jepa_app/README.md"].partition("\n## For programs\n")[2].partition("\n## ")[0]
ADDRESS = "http://127.0.0.1:7860/"
NODE = ["node", "--input-type=module", "-e"]
needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="Node is not installed (Debian: apt-get install nodejs)"
)


@pytest.fixture
def address(server: tuple[str, Gate]) -> str:
    return server[0]


def snippet(language: str, address: str) -> str:
    """The section's one block of a language, with the address of the studio that is served here."""
    [block] = blocks(SECTION, language)
    assert block.count(ADDRESS) == 1
    return block.replace(ADDRESS, address)


def attempt(command: list[str], text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a snippet in a folder of its own."""
    ours = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [*command, text], check=False, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, env=ours
    )


def run(command: list[str], text: str, folder: Path) -> list[str]:
    """Run a snippet that shall succeed and return the lines that it printed."""
    done = attempt(command, text, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def size(picture: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(picture) as opened:
        opened.load()
        return opened.format, opened.size


def test_every_snippet_is_run_here() -> None:
    """A new one needs a test of its own."""
    counts = {
        (name, language): len(blocks(text, language))
        for name, text in DOCUMENTS.items()
        for language in ("python", "js", "json")
    }
    assert {place: count for place, count in counts.items() if count} == {
        ("README.md", "python"): 1,
        ("jepa_app/README.md", "python"): 1,
        ("jepa_app/README.md", "js"): 1,
        ("jepa_app/README.md", "json"): 1,
        ("training/README.md", "json"): 2,
        ("training/README.md", "python"): 1,
    }


@pytest.mark.slow
def test_the_text_encoder_is_written_in_half_precision(tmp_path: Path) -> None:
    [block] = blocks(DOCUMENTS["training/README.md"], "python")
    assert attempt([sys.executable, "-W", "ignore", "-c"], block, tmp_path).returncode == 0
    sizes = [path.stat().st_size for path in (tmp_path / "text-encoder").iterdir()]
    assert 40e6 < sum(sizes) < 50e6
    features = TextEncoder.load(tmp_path / "text-encoder").encode(["red apple"])
    assert features.tokens.dtype == torch.float32
    torch.testing.assert_close(features.tokens, TextEncoder.load().encode(["red apple"]).tokens, rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_python_without_a_server(tiny_weights: Path, tmp_path: Path) -> None:
    [block] = blocks(DOCUMENTS["README.md"], "python")
    (tmp_path / "weights").symlink_to(tiny_weights, target_is_directory=True)
    printed = "\n".join(run([sys.executable, "-W", "ignore", "-c"], block, tmp_path))
    assert size(tmp_path / "apple.png") == ("PNG", (32, 32))
    assert re.fullmatch(r"tensor\(\[\[\S+, +\S+\]\]\) tensor\(\[\[\S+, +\S+\]\]\)", printed)


@pytest.mark.parametrize(("which", "table"), [(0, "metadata.jsonl"), (1, "captions.jsonl")])
def test_the_lines_of_captioned_folders_are_read(which: int, table: str, tmp_path: Path) -> None:
    line = json.loads(blocks(DOCUMENTS["training/README.md"], "json")[which])
    picture = tmp_path / line.get("file_name", line.get("file"))
    picture.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(picture)
    (tmp_path / table).write_text(json.dumps(line) + "\n", encoding="utf-8")
    [row] = read_folder(tmp_path).rows
    assert (row.label, row.group) == (line.get("text", line.get("label")), line["group"])
    assert (row.style, list(row.tags)) == (line.get("style", ""), line.get("tags", []))


def test_python(address: str, tmp_path: Path) -> None:
    printed = run([sys.executable, "-W", "ignore", "-c"], snippet("python", address), tmp_path)
    steps = [line for line in printed if line.startswith("step ")]
    assert [line.partition(" after")[0] for line in steps] == [f"step {step} of 16" for step in range(1, 17)]
    assert size(tmp_path / "red.png") == size(tmp_path / "green.png") == ("PNG", (32, 32))
    assert (tmp_path / "red.png").read_bytes() != (tmp_path / "green.png").read_bytes()
    assert {re.sub(r"^\d+%  |:.*", "", line) for line in printed[-2:]} == {"green apple", "red apple"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian: apt-get install curl)")
def test_a_shell(address: str, tmp_path: Path) -> None:
    printed = "\n".join(run(["bash", "-euo", "pipefail", "-c"], snippet("sh", address), tmp_path))
    assert size(tmp_path / "apple.png") == ("PNG", (32, 32))
    kind, _, data = printed.strip().partition("\ndata: ")
    assert kind == "event: complete"
    assert {score["caption"] for score in json.loads(data)[0]} == {"red apple", "blue car"}


@needs_node
def test_javascript_in_node(address: str, tmp_path: Path) -> None:
    check_printed(run(NODE, snippet("js", address), tmp_path))


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address where another server of this machine shows its files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as other:
        threading.Thread(target=other.serve_forever).start()
        yield tmp_path, f"http://localhost:{other.server_port}/"
        other.shutdown()


@pytest.mark.slow
def test_javascript_in_a_page(address: str, browser: "Browser", other_server: tuple[Path, str]) -> None:
    folder, start = other_server
    script = f'<script type="module">{snippet("js", address)}console.log("done")</script>'
    (folder / "index.html").write_text(f'<link rel="icon" href="data:,">{script}', encoding="utf-8")
    page = browser.new_page()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    page.on("pageerror", lambda error: printed.append(str(error)))
    with page.expect_console_message(lambda message: message.text == "done", timeout=PATIENCE_MS):
        page.goto(start)
    page.close()
    check_printed(printed[:-1])


def check_printed(lines: list[str]) -> None:
    assert lines[:16] == [f"step {step} of 16" for step in range(1, 17)]
    assert lines[16] == "step 16 of 16"
    assert lines[17] in ("red apple", "blue car")
    assert len(lines) == 18


@needs_node
def test_javascript_throws_what_was_wrong(address: str, tmp_path: Path) -> None:
    done = attempt(NODE, snippet("js", address).replace("seed: 1", "seed: -1"), tmp_path)
    assert done.returncode == 1
    assert "seed is -1; allowed: a whole number from 0 to 2147483647" in done.stderr


def test_the_table_names_every_endpoint_with_its_inputs(address: str) -> None:
    rows = re.findall(r"^\| `(/\w+)` \| (.*?) \| ", SECTION, flags=re.MULTILINE)
    endpoints = httpx.get(f"{address}gradio_api/info", timeout=PATIENCE).json()["named_endpoints"]
    assert [name for name, _ in rows] == list(endpoints)
    for name, inputs in rows:
        parameters = {part["parameter_name"] for part in endpoints[name]["parameters"]}
        if "as `/generate`" in inputs or "as above" in inputs:
            parameters -= {"prompt", "negative_prompt", "steps", "guidance", "temperature", "seed"}
        assert parameters <= set(re.findall(r"`(\w+)`", inputs)), name


def test_the_configuration_leads_to_the_tools(address: str) -> None:
    configured = json.loads(snippet("json", address))["mcpServers"]["jepa"]["url"]
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}
    answer = httpx.post(configured, json=asked, headers=accept, timeout=PATIENCE).text
    tools = json.loads(re.findall(r"^data: (.*)", answer, flags=re.MULTILINE)[0])["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["generate_image", "score"]
