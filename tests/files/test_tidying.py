"""What is given away as a file does not stay for good, nor does its folder."""

import os
import re
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from jepa_app.studio.studio import Studio
from jepa_app.ui import page, texts
from jepa_app.ui.serving.tidying import remove_old
from tests.support.studio_server import PATIENCE, served

pytestmark = pytest.mark.filterwarnings("default")  # the server's own libraries warn in this process


def test_old_files_and_folders_that_have_long_been_empty_are_removed(tmp_path: Path) -> None:
    for name in ("old", "fresh", "used", "stale"):
        (tmp_path / name).mkdir()
    for name in ("used/image.png", "stale/image.png", "stale/.in-use", "cut-upload", "file", ".in-use"):
        (tmp_path / name).touch()
    for name in ("stale/image.png", "stale/.in-use", "old", "used", ".in-use"):
        os.utime(tmp_path / name, (0, 0))
    for name in ("used/image.png", "cut-upload"):
        os.utime(tmp_path / name, (time.time() - 1000,) * 2)
    gone = remove_old(tmp_path, age=3000, emptied=60)
    assert gone == {str(tmp_path / name) for name in ("stale/image.png", "stale/.in-use", "cut-upload")}
    assert {path.name for path in tmp_path.iterdir()} == {"fresh", "used", "stale", "file", ".in-use"}
    assert remove_old(tmp_path / "missing", 60, 60) == set()


@pytest.mark.slow
def test_a_served_page_deletes_its_files_and_their_folders(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, disk = tmp_path / "cache", tmp_path / "red.png"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(cache))
    monkeypatch.setattr(page, "HOUR", 2)
    monkeypatch.setattr(page, "TIDY", 2)
    Image.new("RGB", (9, 9), "red").save(disk)
    with served(studio) as (address, _):
        client = Client(address, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        given = client.predict(prompt="red apple", steps=1, api_name="/generate_image")
        client.predict(handle_file(disk), "red", api_name="/score")
        client.close()
        assert Path(given).is_file()
        until = time.monotonic() + PATIENCE
        while any(cache.iterdir()) and time.monotonic() < until:
            time.sleep(0.2)
        assert not any(cache.iterdir())


@pytest.mark.slow
def test_the_pages_own_pictures_outlast_the_tidying(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(cache))
    with served(studio) as (address, _):
        config = httpx.get(f"{address}config", timeout=PATIENCE).text
        addresses = set(re.findall(r"/gradio_api/file=[^\"]+", config))
        assert len(addresses) >= len(texts.MATCH_EXAMPLES)
        remove_old(cache, age=-1, emptied=-1)
        for one in addresses:
            assert httpx.get(f"{address.rstrip('/')}{one}", timeout=PATIENCE).status_code == 200
