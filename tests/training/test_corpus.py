"""The corpus is built from genuine excerpts of its packages; only the download comes from this machine."""

import base64
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepa_app.styles import STYLES
from training.corpus import main
from training.data.batches import CaptionedPictures
from training.data.folders import corpus_lines, open_square
from training.drawings.build import build
from training.drawings.concepts import Concept, join_by_name, normalised
from training.drawings.rendering import Drawing, render
from training.drawings.sources import (
    SOURCES,
    Package,
    StyleSource,
    fetch,
    files_by_code,
    iconify,
    integrity_of,
    read_iconify,
)
from training.drawings.subset import is_variant, select

FIXTURE = Path(__file__).parents[1] / "fixtures" / "emoji"
APPLE = "1F34E"


def pack(folder: Path, name: str, packages: Path) -> Package:
    """An archive as npm makes it, of a fixture folder."""
    package = Package(name=name, version="1.0.0", integrity="")
    packages.mkdir(parents=True, exist_ok=True)
    archive = packages / package.archive
    with tarfile.open(archive, "w:gz") as members:
        manifest = json.dumps({"name": name, "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(manifest)
        members.addfile(entry, io.BytesIO(manifest))
        members.add(folder, arcname="package")
    return replace(package, integrity=integrity_of(archive))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[StyleSource], Package, Path]:
    """The fixture's styles as packages that are downloaded already."""
    packages = tmp_path_factory.mktemp("packages")
    words = pack(FIXTURE / "emojibase-data", "words", packages)
    styles = [
        iconify("noto", pack(FIXTURE / "noto", "@emoji/noto", packages), by_code=True),
        iconify("twemoji", pack(FIXTURE / "twemoji", "@emoji/twemoji", packages), by_code=True),
        files_by_code("openmoji", pack(FIXTURE / "openmoji", "openmoji", packages), folder="color/svg/", suffix=".svg"),
        iconify("fxemoji", pack(FIXTURE / "fxemoji", "@emoji/fxemoji", packages), by_code=False),
    ]
    return styles, words, packages


@pytest.fixture(scope="module")
def corpus(sources: tuple[list[StyleSource], Package, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "new"
    assert build(out, 64, *sources) == 43
    return out


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_build_writes_pictures_with_words_provenance_and_licence(corpus: Path) -> None:
    lines = {line["file"]: line for line in lines_of(corpus / "captions.jsonl")}
    assert lines["twemoji/1f34e.webp"] == {
        "file": "twemoji/1f34e.webp",
        "style": "twemoji",
        "label": "red apple",
        "tags": ["apple", "diet", "food", "fruit", "health", "red", "ripe"],
        "group": "food-drink",
        "subgroup": "food-fruit",
        "hexcode": APPLE,
        "source_package": "@emoji/twemoji@1.0.0",
        "source_name": "red-apple",
        "licence": "CC-BY-4.0",
    }
    assert not any("flag" in line["label"] for line in lines.values())  # flags of places are left out
    for file in lines:
        with Image.open(corpus / file) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGBA")
            alpha = np.asarray(picture)[..., 3]
        assert alpha.max() == 255
        assert alpha.min() == 0
    apple = np.asarray(open_square(corpus / "twemoji/1f34e.webp", 64)).astype(int)
    red, green, blue, _ = apple[40, 20]
    assert red > green + 100
    assert red > blue + 100
    assert "OpenMoji" in (corpus / "ATTRIBUTION.txt").read_text()


def test_name_join_that_shows_something_else_is_dropped(corpus: Path) -> None:
    dropped = lines_of(corpus / "dropped.jsonl")
    assert [(line["file"], line["source_name"]) for line in dropped] == [("fxemoji/1f44b.webp", "wave")]
    assert dropped[0]["nearer_concepts"] >= 3
    hands = {line["style"] for line in lines_of(corpus / "captions.jsonl") if line["label"] == "waving hand"}
    assert hands == {"noto", "twemoji", "openmoji"}


def test_corpus_is_data_to_train_on(corpus: Path, tmp_path: Path) -> None:
    data = CaptionedPictures.load(corpus, 32, cache_dir=tmp_path)
    batch = data.batch(0, 8, 0)
    assert batch.pixels.shape == (8, 3, 32, 32)
    assert {row.style for row in data.rows} == {"noto", "twemoji", "openmoji", "fxemoji"}


def test_build_goes_on_where_it_was_stopped(
    corpus: Path, sources: tuple[list[StyleSource], Package, Path], tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    shutil.copytree(corpus, out)
    (out / "captions.jsonl").unlink()
    (out / "noto/1f34e.webp").unlink()
    (out / "noto/1f511.1234.partial").write_bytes(b"half a picture")
    untouched = out / "twemoji/1f34e.webp"
    before = untouched.stat().st_mtime_ns
    assert build(out, 64, *sources) == 43
    assert (out / "noto/1f34e.webp").read_bytes() == (corpus / "noto/1f34e.webp").read_bytes()
    assert untouched.stat().st_mtime_ns == before
    assert (out / "captions.jsonl").read_bytes() == (corpus / "captions.jsonl").read_bytes()


def test_finished_build_does_nothing(corpus: Path, sources: tuple[list[StyleSource], Package, Path]) -> None:
    before = (corpus / "captions.jsonl").stat().st_mtime_ns
    assert build(corpus, 64, *sources) == 43
    assert (corpus / "captions.jsonl").stat().st_mtime_ns == before


def test_another_size_or_version_is_refused_in_the_same_folder(
    corpus: Path, sources: tuple[list[StyleSource], Package, Path]
) -> None:
    styles, words, packages = sources
    with pytest.raises(ValueError, match="holds pictures of 64 pixels"):
        build(corpus, 32, styles, words, packages)
    newer = replace(styles[0], package=replace(styles[0].package, version="2.0.0"))
    with pytest.raises(ValueError, match="another folder"):
        build(corpus, 64, [newer], words, packages)


def test_drawing_that_is_no_svg_is_named(sources: tuple[list[StyleSource], Package, Path], tmp_path: Path) -> None:
    _, words, packages = sources
    broken = tmp_path / "broken"
    (broken / "color/svg").mkdir(parents=True)
    (broken / "color/svg/1F34E.svg").write_text("<svg this is not")
    package = pack(broken, "broken", packages)
    source = files_by_code("openmoji", package, folder="color/svg/", suffix=".svg")
    with pytest.raises(ValueError, match=r"cannot render 1f34e\.webp"):
        build(tmp_path / "out", 64, [source], words, packages)
    assert not list((tmp_path / "out").rglob("*.webp"))


@pytest.mark.parametrize("size", [0, 15, 513])
def test_impossible_size_is_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"size is {size}; allowed: 16 to 512"):
        build(tmp_path / "out", size)


def test_styles_joined_by_name_need_references(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["build", "--out", str(tmp_path / "out"), "--styles", "streamline,twemoji"]) == 2
    assert "streamline cannot be built alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_part_of_a_corpus_is_data_to_train_on(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    style = lines_of(corpus / "captions.jsonl")[0]["style"]
    expected = [line for line in lines_of(corpus / "captions.jsonl") if line["style"] == style]
    part = tmp_path / "part"
    assert main(["select", "--data", str(corpus), "--out", str(part), "--styles", style]) == 0
    assert f"{len(expected)} captioned pictures" in capsys.readouterr().out
    assert 0 < len(expected) < len(lines_of(corpus / "captions.jsonl"))
    assert lines_of(part / "captions.jsonl") == expected
    assert (part / "ATTRIBUTION.txt").read_text() == (corpus / "ATTRIBUTION.txt").read_text()
    assert {path.relative_to(part).as_posix() for path in part.rglob("*.webp")} == {line["file"] for line in expected}
    assert len(CaptionedPictures.load(part, 32, cache_dir=tmp_path).rows) == len(expected)


@pytest.mark.parametrize("absolute", [False, True])
def test_no_file_outside_of_the_part_is_written(corpus: Path, tmp_path: Path, *, absolute: bool) -> None:
    data, out, mine = tmp_path / "in" / "data", tmp_path / "out" / "part", tmp_path / "out" / "mine.txt"
    shutil.copytree(corpus, data)
    mine.parent.mkdir()
    mine.write_text("mine")
    outside = tmp_path / "in" / "mine.txt"
    outside.write_text("theirs")
    rows = lines_of(corpus / "captions.jsonl")
    rows.append(rows[0] | {"file": str(outside) if absolute else "../mine.txt"})
    (data / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.txt, which is outside of .*; drop its line"):
        select(data, out)
    assert mine.read_text() == "mine"
    assert not out.exists()


def test_captions_are_taken_over_as_they_are(corpus: Path, tmp_path: Path) -> None:
    data, rows = tmp_path / "data", lines_of(corpus / "captions.jsonl")
    shutil.copytree(corpus, data)
    rows[0]["label"] = "red\u2028apple"
    rows.append(rows[1] | {"label": "another caption of it"})
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    (data / "captions.jsonl").write_text(text, encoding="utf-8-sig")
    assert select(data, tmp_path / "part") == len(rows)
    assert [json.loads(line) for _, line in corpus_lines(tmp_path / "part" / "captions.jsonl")] == rows


def test_part_by_group(corpus: Path, tmp_path: Path) -> None:
    lines = lines_of(corpus / "captions.jsonl")
    group = lines[0]["group"]
    count = select(corpus, tmp_path / "part", groups=[group])
    assert 0 < count == sum(line["group"] == group for line in lines) < len(lines)


def test_part_by_subgroup(corpus: Path, tmp_path: Path) -> None:
    lines = lines_of(corpus / "captions.jsonl")
    group, subgroup = next((a["group"], b["subgroup"]) for a in lines for b in lines if a["group"] != b["group"])
    count = select(corpus, tmp_path / "part", groups=[group, subgroup])
    assert 0 < count == sum(group == line["group"] or subgroup == line["subgroup"] for line in lines)


def test_part_without_variants(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, rows = tmp_path / "data", lines_of(corpus / "captions.jsonl")
    shutil.copytree(corpus, data)
    rows[1]["label"] = f"woman {rows[0]['label']}"
    (data / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert main(["select", "--data", str(data), "--out", str(tmp_path / "part"), "--no-variants"]) == 0
    assert f"{len(rows) - 1} captioned pictures" in capsys.readouterr().out
    assert lines_of(tmp_path / "part" / "captions.jsonl") == [rows[0], *rows[2:]]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("woman astronaut", True),
        ("man running: facing right", True),
        ("man running", True),
        ("women with bunny ears", True),
        ("family: man, boy", True),
        ("astronaut", False),
        ("person running", False),
        ("woman", False),
        ("man in suit", False),
        ("keycap: 1", False),
        ("woman and man holding hands", False),
    ],
)
def test_a_variant_adds_gender_hair_direction_or_family_to_another_label(label: str, expected: bool) -> None:
    labels = {"astronaut", "person running", "people with bunny ears", "family", "woman", "man running", "keycap: 1"}
    assert is_variant(label, labels) is expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"--styles": "noto,oil"}, "--styles has oil; allowed: "),
        ({"--groups": "nothing"}, "--groups has nothing; allowed: "),
        ({"--data": "."}, "has no captions.jsonl"),
        ({"--out": "."}, "already exists; give a new folder"),
    ],
)
def test_impossible_part_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], asked: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--data": str(corpus), "--out": "part"} | asked
    assert main(["select", *(text for option in options.items() for text in option)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_unknown_style_lists_the_styles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["build", "--out", str(tmp_path / "out"), "--styles", "crayon"]) == 2
    assert "unknown style crayon; allowed: noto, twemoji" in capsys.readouterr().err


def test_out_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert main(["build", "--out", str(tmp_path / "out"), "--styles", "twemoji"]) == 2
    assert "is a file" in capsys.readouterr().err


def test_missing_npm_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["build", "--out", str(tmp_path / "out"), "--styles", "twemoji"]) == 2
    error = capsys.readouterr().err
    assert "npm is needed to download emojibase-data@17.0.0" in error
    assert error.count("\n") == 1


class Registry(http.server.BaseHTTPRequestHandler):
    """Serves one package as npm's registry does, from the archive in `archive`."""

    archive: Path

    def do_GET(self) -> None:
        content = self.archive.read_bytes()
        if not self.path.endswith(".tgz"):
            host = f"http://127.0.0.1:{self.server.server_address[1]}"
            dist = {
                "tarball": f"{host}/toy/-/toy-1.0.0.tgz",
                "integrity": integrity_of(self.archive),
                "shasum": hashlib.sha1(content).hexdigest(),
            }
            version = {"name": "toy", "version": "1.0.0", "dist": dist}
            content = json.dumps(
                {"name": "toy", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keeps requests out of the test's output."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The package `toy` at a registry on this machine, for the real npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    package = pack(FIXTURE / "twemoji", "toy", tmp_path / "registry")
    handler = type("ToyRegistry", (Registry,), {"archive": tmp_path / "registry" / package.archive})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    yield package
    server.shutdown()
    server.server_close()


def test_npm_downloads_and_the_archive_is_kept(registry: Package, tmp_path: Path, monkeypatch) -> None:
    archive = fetch(registry, tmp_path / "kept")
    assert integrity_of(archive) == registry.integrity
    monkeypatch.setenv("PATH", "")
    assert fetch(registry, tmp_path / "kept") == archive  # needs no npm


def test_corrupt_download_is_refused(registry: Package, tmp_path: Path) -> None:
    expected = "sha512-" + base64.b64encode(bytes(64)).decode()
    with pytest.raises(ValueError, match=r"toy@1\.0\.0 is corrupt"):
        fetch(replace(registry, integrity=expected), tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def test_corrupt_kept_archive_is_downloaded_again(registry: Package, tmp_path: Path) -> None:
    archive = fetch(registry, tmp_path / "kept")
    archive.write_bytes(archive.read_bytes()[:-100])
    assert integrity_of(fetch(registry, tmp_path / "kept")) == registry.integrity


def test_download_without_network_is_one_clear_line(registry: Package, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(ValueError, match=r"npm could not download toy@1\.0\.0: .*ECONNREFUSED.*check the network"):
        fetch(registry, tmp_path / "kept")


def test_sources_are_pinned_and_licensed() -> None:
    assert len(SOURCES) == 11
    assert {source.style for source in SOURCES} == set(STYLES)
    for source in SOURCES:
        assert source.package.version.count(".") == 2
        assert len(base64.b64decode(source.package.integrity.removeprefix("sha512-"))) == 64


def test_mirrored_alias_is_drawn_mirrored() -> None:
    icons = json.loads((FIXTURE / "noto/icons.json").read_text())
    icons["aliases"]["yek"] = {"parent": "key", "hFlip": True}
    art = read_iconify({"icons.json": json.dumps(icons).encode(), "chars.json": b"{}"})
    key, mirrored = (np.asarray(render(art.drawings[name], 64)) for name in ("key", "yek"))
    assert np.array_equal(mirrored, key[:, ::-1])
    assert not np.array_equal(mirrored, key)


def test_drawing_that_is_not_square_is_centred() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="red"/></svg>'
    picture = np.asarray(render(Drawing(data=svg, is_svg=True), 64))
    assert picture.shape == (64, 64, 4)
    assert (picture[19:45] == (255, 0, 0, 255)).all()
    assert (picture[:12, :, 3] == 0).all()
    assert (picture[52:, :, 3] == 0).all()


def concept(hexcode: str, *names: str) -> Concept:
    return Concept(
        hexcode=hexcode, label=names[0], tags=(), group="", subgroup="", names=tuple(normalised(n) for n in names)
    )


def test_drawing_goes_to_the_concept_that_knows_it_best() -> None:
    concepts = [concept("1F408", "cat", "pet cat"), concept("1F431", "cat face", "cat"), concept("1F347", "grapes")]
    assert join_by_name(concepts, {"cat": 1}) == {"1F408": "cat"}
    assert join_by_name(concepts, {"cat-face": 1, "cat": 2}) == {"1F408": "cat", "1F431": "cat-face"}
    assert join_by_name(concepts, {"cat-face": 1, "cat": 1}) == {"1F408": "cat"}  # one drawing under two names
    assert join_by_name(concepts, {"grapes-1": 1, "grapes-2": 2}) == {"1F347": "grapes-1"}
    assert join_by_name([concept("1F52B", "water pistol", "pistol")], {"pistol": 1}) == {}
