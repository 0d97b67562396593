"""Captions, the split, and batches: on pictures made here, in both folder layouts."""

import colorsys
import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jepa_app.files.pictures import open_picture
from jepa_app.styles import STYLES
from training.data.batches import CaptionedPictures
from training.data.captions import (
    BACKGROUNDS,
    POOL_SIZE,
    RELATIONS,
    CaptionOptions,
    Row,
    canonical_caption,
    caption_pool,
    direct_scene_caption,
    draw_relation,
    on_background,
    with_article,
)
from training.data.composition.recolouring import HUES, in_colour
from training.data.decoded import decode_all
from training.data.folders import open_square, read_folder
from training.data.plurals import plural
from training.data.sentences import SENTENCES, noun_captions, said_of, sentences
from training.data.split import is_heldout_concept, split_rows

CAT = Row(
    file="twemoji/1f639.webp",
    label="cat with tears of joy",
    tags=("animal", "cat", "face", "joyful", "laugh", "tears"),
    style="twemoji",
    hexcode="1F639",
)
COLOURS = {"noto": (255, 0, 0), "twemoji": (0, 255, 0), "openmoji": (0, 0, 255)}


def many_rows(concepts: int = 2000) -> list[Row]:
    codes = [f"{0x1F000 + number:X}" for number in range(concepts)]
    return [
        Row(file=f"{style}/{c}.webp", label=f"thing {c}", style=style, hexcode=c) for c in codes for style in STYLES
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 concepts in three styles: an opaque square of the style's colour on transparency."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for style, colour in COLOURS.items():
        (folder / style).mkdir()
        for number in range(40):
            picture = Image.new("RGBA", (32, 32))
            picture.paste((*colour, 255), (8, 8, 24, 24))
            file = f"{style}/{number}.png"
            picture.save(folder / file)
            lines.append(
                {
                    "file": file,
                    "label": f"thing {number}",
                    "tags": ["odd"],
                    "style": style,
                    "hexcode": f"{0x1F600 + number:X}",
                }
            )
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def data(corpus: Path, tmp_path: Path) -> CaptionedPictures:
    return CaptionedPictures.load(corpus, 16, cache_dir=tmp_path)


def imagefolder(folder: Path, lines: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(4):
        Image.new("RGB", (40, 20), (60 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_colour_behind_an_opaque_picture_is_not_said(tmp_path: Path) -> None:
    folder = tmp_path / "opaque"
    lines = [{"file_name": f"{number}.png", "text": f"thing number {number}"} for number in range(4)]
    data = CaptionedPictures.load(imagefolder(folder, lines), 16, CaptionOptions(drops=0, backgrounds=1), tmp_path)
    assert not any("background" in caption for step in range(9) for caption in data.batch(step, 4, seed=0).captions)
    ring = Image.new("RGBA", (40, 40))
    ring.paste((200, 0, 0, 255), (0, 0, 40, 30))
    for number in range(4):
        ring.save(folder / f"{number}.png")
    data = CaptionedPictures.load(folder, 16, CaptionOptions(drops=0, backgrounds=1), tmp_path)
    assert all("background" in caption for caption in data.batch(0, 4, seed=0).captions)


def test_whole_sentences_are_not_put_into_others(tmp_path: Path) -> None:
    texts = ["A dog runs on the grass.", "a red apple", "a blue car", "Look, a cat!"]
    lines = [{"file_name": f"{number}.png", "text": text} for number, text in enumerate(texts)]
    folder, options = imagefolder(tmp_path / "own", lines), CaptionOptions(drops=0, scenes=1, direct=0)
    data = CaptionedPictures.load(folder, 16, options, tmp_path)
    said = {caption for step in range(40) for caption in data.batch(step, 4, seed=0).captions}
    assert {texts[0], texts[3]} < said
    assert {"a red apple left of a blue car", "a blue car above a red apple"} < said
    assert not any("dog" in caption or "Look" in caption for caption in said - set(texts))


def test_groups_may_be_numbers(tmp_path: Path) -> None:
    lines = [{"file_name": f"{n}.png", "text": f"{n}", "group": group} for n, group in enumerate((3, "b", None, " "))]
    assert [row.group for row in read_folder(imagefolder(tmp_path / "own", lines)).rows] == ["3", "b", "", ""]


# captions


def test_canonical_caption_names_label_and_style() -> None:
    assert canonical_caption(CAT) == "cat with tears of joy, twemoji style"
    assert canonical_caption(Row(file="a.png", label="a red apple on a table")) == "a red apple on a table"


def test_pool_is_bounded_fixed_and_speaks_as_people_do() -> None:
    pool = caption_pool(CAT)
    assert pool[0] == canonical_caption(CAT)
    assert pool == caption_pool(CAT)
    assert 4 < len(pool) == len(set(pool)) <= POOL_SIZE
    said = {
        caption for style in STYLES for caption in caption_pool(Row(**{**vars(CAT), "style": style, "file": style}))
    }
    assert "cat with tears of joy" in said
    assert any(re.fullmatch(r"(joyful|laugh) cat(, .*style)?", caption) for caption in said)
    assert any("emoji of a cat with tears of joy" in caption for caption in said)


def test_captions_without_style_are_shared_by_the_styles_of_a_concept() -> None:
    pools = [caption_pool(Row(**{**vars(CAT), "style": style, "file": f"{style}/x"})) for style in ("noto", "openmoji")]
    plain = [{c for c in pool if "noto" not in c and "openmoji" not in c} for pool in pools]
    assert plain[0] == plain[1] != set()


def test_pool_is_the_same_in_another_process() -> None:
    script = (
        "from training.data.captions import Row, caption_pool; "
        f"print(caption_pool(Row(file={CAT.file!r}, label={CAT.label!r}, tags={CAT.tags!r}, style='twemoji', "
        f"hexcode={CAT.hexcode!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(caption_pool(CAT))


def test_sentences_ask_for_the_thing_and_half_of_them_for_its_style() -> None:
    asked = sentences(CAT)
    assert len(set(asked)) == len(asked) == SENTENCES
    assert asked == sentences(CAT)
    assert all("a cat with tears of joy" in sentence for sentence in asked)
    assert sum("twemoji" in sentence for sentence in asked) == SENTENCES // 2
    assert not set(asked) & set(caption_pool(CAT))
    plain = sentences(Row(file="a.png", label="a red apple"))
    assert len(set(plain)) == SENTENCES
    assert not any("style" in sentence for sentence in plain)


def test_sentences_come_as_often_as_said(corpus: Path, tmp_path: Path) -> None:
    data = CaptionedPictures.load(corpus, 16, CaptionOptions(drops=0, sentences=0.5), cache_dir=tmp_path)
    drawn = [
        (caption, data.rows[index])
        for step in range(100)
        for batch in [data.batch(step, 8, 0)]
        for caption, index in zip(batch.captions, batch.indices.tolist(), strict=True)
    ]
    assert all(caption in (*sentences(row), canonical_caption(row)) for caption, row in drawn)
    assert 0.44 < sum(caption in sentences(row) for caption, row in drawn) / len(drawn) < 0.56


def test_a_noun_stands_alone_where_no_label_is_just_that() -> None:
    palm = Row(file="a.png", label="palm tree", style="noto")
    assert noun_captions(palm, {"palm tree"}) == ("tree, noto style", "tree")
    assert noun_captions(palm, {"palm tree", "tree"}) == ()
    assert noun_captions(Row(file="b.png", label="tree"), {"tree"}) == ()
    assert noun_captions(Row(file="c.png", label="open book"), {"open book"}) == ("book",)


def test_nouns_come_where_they_are_no_label(corpus: Path, tmp_path: Path) -> None:
    data = CaptionedPictures.load(corpus, 16, CaptionOptions(drops=0, nouns=1), cache_dir=tmp_path)
    labels = {row.label for row in data.rows}
    batch = data.batch(0, 8, 0)
    for caption, index in zip(batch.captions, batch.indices.tolist(), strict=True):
        row = data.rows[index]
        assert caption in (noun_captions(row, labels) or (canonical_caption(row),))
    assert any(re.fullmatch(r"\d+(, \w+ style)?", caption) for caption in batch.captions)  # of "thing 3"


def test_known_words_are_those_that_the_options_let_training_say() -> None:
    rows = [CAT]
    plain = said_of(rows, CaptionOptions())
    assert plain == set(caption_pool(CAT))
    said = said_of(rows, CaptionOptions(sentences=0.1, backgrounds=0.1, scenes=0.1, counts=0.1))
    assert said >= {*plain, *sentences(CAT), "turquoise background", "left of", "at the top", "two"}
    assert "cats with tears of joy" in said


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("apple", "an apple"),
        ("cat face", "a cat face"),
        ("unicorn", "a unicorn"),
        ("cherries", "cherries"),
        ("glass of milk", "a glass of milk"),
        ("ATM sign", "ATM sign"),
        ("a red apple", "a red apple"),
        ("The old house", "The old house"),
        ("two hearts", "two hearts"),
        ("another day", "another day"),
        ("anchor", "an anchor"),
    ],
)
def test_article(label: str, phrase: str) -> None:
    assert with_article(label) == phrase


@pytest.mark.parametrize("name", ["drops", "backgrounds", "scenes", "counts"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_caption_options_are_probabilities(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*; allowed: a probability from 0 to 1"):
        CaptionOptions(**{name: value})


@pytest.mark.parametrize(
    ("label", "many"),
    [
        ("red apple", "red apples"),
        ("cat with tears of joy", "cats with tears of joy"),
        ("man frowning", "men frowning"),
        ("woman pilot", "women pilots"),
        ("fairy", "fairies"),
        ("glass of milk", "glasses of milk"),
        ("maple leaf", "maple leaves"),
        ("tropical fish", "tropical fish"),
        ("computer mouse", "computer mice"),
        ("cherries", None),
        ("couch and lamp", None),
        ("a red apple on a table", None),
        ("Aries", None),
        ("keycap: 1", None),
        ("rolling on the floor laughing", None),
    ],
)
def test_plural(label: str, many: str | None) -> None:
    assert plural(label) == many


def test_scenes_and_counts_share_the_pictures() -> None:
    with pytest.raises(ValueError, match=r"scenes is 0\.7, counts is 0\.4 and recoloured is 0\.0; allowed: 0 to 1"):
        CaptionOptions(scenes=0.7, counts=0.4)
    with pytest.raises(ValueError, match=r"sentences is 0\.7 and nouns is 0\.4"):
        CaptionOptions(sentences=0.7, nouns=0.4)


def test_relations_come_as_often_as_said() -> None:
    draws = np.linspace(0, 1, 4000, endpoint=False)
    for odds in (1.0, 5.0):
        drawn = Counter(draw_relation(CaptionOptions(relation_odds=odds), draw) for draw in draws)
        assert drawn["left of"] / drawn["right of"] == pytest.approx(odds, rel=0.02)
        assert drawn["above"] / drawn["below"] == pytest.approx(odds, rel=0.02)
        assert drawn["left of"] == pytest.approx(drawn["above"], abs=2)
    with pytest.raises(ValueError, match="relation_odds is 0"):
        CaptionOptions(relation_odds=0)


def test_scenes_can_be_said_by_their_places() -> None:
    first, second = Row(file="a", label="rose", style="noto"), Row(file="b", label="cat", style="noto")
    assert direct_scene_caption(first, "left of", second, 0.2) == "a rose on the left, a cat on the right, noto style"
    assert direct_scene_caption(first, "below", second, 0.7) == "at the bottom a rose, at the top a cat, noto style"


def test_pictures_are_recoloured_and_their_captions_say_so(tmp_path: Path) -> None:
    colours = {"red apple": (220, 30, 30), "leaf": (40, 160, 60), "grey stone": (120, 120, 120), "night": (40, 20, 20)}
    lines = []
    for index, (label, colour) in enumerate(colours.items()):
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[4:28, 4:28] = (*colour, 255)
        pixels[4:8, 4:28] = (0, 0, 0, 255)  # an outline keeps its colour
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        lines.append(json.dumps({"file": f"{index}.png", "label": label, "style": "flat"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    options = CaptionOptions(drops=0, recoloured=1)
    data = CaptionedPictures.load(tmp_path, 32, options, cache_dir=tmp_path)
    seen = set()
    for step in range(30):
        batch = data.batch(step, 4, 0)
        for caption, pixels in zip(batch.captions, batch.pixels, strict=True):
            said = caption.removesuffix(", flat style")
            if said in ("grey stone", "night"):  # nothing to turn
                continue
            colour, thing = said.split(" ", 1)
            assert thing in ("apple", "leaf")
            seen.add(colour)
            inside = (pixels[:, 16, 16] + 1) / 2
            hue = colorsys.rgb_to_hsv(*inside.tolist())[0]
            assert abs((hue - HUES[colour] + 0.5) % 1 - 0.5) < 0.02
            assert pixels[:, 5, 16].max() < -0.9
    assert seen == set(HUES)


def test_a_label_in_another_colour_keeps_its_other_words() -> None:
    assert in_colour("red apple", "blue") == "blue apple"
    assert in_colour("open book", "pink") == "pink open book"
    assert in_colour("a car", "orange") == "an orange car"
    assert in_colour("an orange car", "blue") == "a blue car"
    assert in_colour("my car", "blue") == "my blue car"
    assert in_colour("anchor", "blue") == "blue anchor"
    assert in_colour("A red car", "orange") == "An orange car"
    assert in_colour("The old house", "blue") == "The blue old house"
    assert in_colour("five dogs", "blue") == "five blue dogs"


def test_emphasised_pictures_come_as_often_as_said(corpus: Path, tmp_path: Path) -> None:
    plain = CaptionedPictures.load(corpus, 16, CaptionOptions(drops=0), cache_dir=tmp_path)
    options = CaptionOptions(drops=0, emphasised=("noto",), repeats=3)
    data = CaptionedPictures.load(corpus, 16, options, cache_dir=tmp_path)
    train = plain.split.train
    assert np.array_equal(train, data.split.train)  # what is held out does not depend on it
    noto = sum(plain.rows[index].style == "noto" for index in train)
    epoch = len(train) + 2 * noto
    seen = Counter(data.batch(0, epoch, 5).indices.tolist())
    assert set(seen) == set(train.tolist())
    assert all(count == (3 if data.rows[index].style == "noto" else 1) for index, count in seen.items())
    heldout = data.batch(0, 8, 5, "heldout_concepts")
    assert torch.equal(heldout.indices, plain.batch(0, 8, 5, "heldout_concepts").indices)


def test_emphasis_says_what_can_be_emphasised(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to emphasise in blob; allowed: noto, openmoji, twemoji"):
        CaptionedPictures.load(corpus, 16, CaptionOptions(emphasised=("blob",), repeats=2), cache_dir=tmp_path)
    for emphasised, repeats in ((("noto",), 1), ((), 2), ((), 0)):
        with pytest.raises(ValueError, match=f"repeats is {repeats} and emphasised is"):
            CaptionOptions(emphasised=emphasised, repeats=repeats)


# split


def test_split_has_the_stated_sizes_and_meanings() -> None:
    rows = many_rows()
    split = split_rows(rows)
    assert sorted(np.concatenate([split.train, split.heldout_pairs, split.heldout_concepts])) == list(range(len(rows)))
    trained = {rows[i].hexcode for i in split.train}
    unseen = {rows[i].hexcode for i in split.heldout_concepts}
    assert not trained & unseen
    assert 0.03 < len(unseen) / 2000 < 0.05
    assert {rows[i].hexcode for i in split.heldout_pairs} <= trained
    assert 0.03 < len(split.heldout_pairs) / len(rows) < 0.05
    # the three Fluent styles are one design: all three or none
    fluent = Counter(rows[i].hexcode for i in split.heldout_pairs if rows[i].style.startswith("fluent"))
    assert set(fluent.values()) == {3}


def test_split_does_not_depend_on_order_or_on_other_styles() -> None:
    rows = many_rows(400)
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    for side in ("train", "heldout_pairs", "heldout_concepts"):
        expected = {rows[i].file for i in getattr(split_rows(rows), side)}
        assert {shuffled[i].file for i in getattr(split_rows(shuffled), side)} == expected
    without_noto = [row for row in rows if row.style != "noto"]
    pairs = {without_noto[i].file for i in split_rows(without_noto).heldout_pairs}
    assert pairs == {rows[i].file for i in split_rows(rows).heldout_pairs if rows[i].style != "noto"}


def test_split_is_fixed_for_ever() -> None:
    """Weights are judged on pictures that they never saw, so these may not change between releases."""
    assert [f"{code:X}" for code in range(0x1F600, 0x1F650) if is_heldout_concept(f"{code:X}")] == [
        "1F60D",
        "1F647",
        "1F64D",
    ]
    assert is_heldout_concept("2764-FE0F") == is_heldout_concept("2764")


def test_concept_in_one_design_stays_in_training() -> None:
    rows = [row for row in many_rows(500) if row.style.startswith("fluent")]
    assert len(split_rows(rows).heldout_pairs) == 0


def test_rows_without_code_point_are_split_by_file_name() -> None:
    rows = [Row(file=f"{number}.png", label="a photograph") for number in range(2000)]
    split = split_rows(rows)
    assert 0.01 < len(split.heldout_pairs) / 2000 < 0.03
    assert len(split.heldout_concepts) == 0


# batches


def test_batch_is_a_pure_function_of_its_arguments(corpus: Path, tmp_path: Path) -> None:
    options = CaptionOptions(backgrounds=0.5, scenes=0.5)
    first = CaptionedPictures.load(corpus, 16, options, cache_dir=tmp_path)
    second = CaptionedPictures.load(corpus, 16, options, cache_dir=tmp_path)
    batches = [first.batch(step, 8, seed=3) for step in range(20)]
    for step in (19, 7, 0):
        again = second.batch(step, 8, seed=3)
        assert torch.equal(again.pixels, batches[step].pixels)
        assert torch.equal(again.indices, batches[step].indices)
        assert again.captions == batches[step].captions
    assert not torch.equal(first.batch(0, 8, seed=4).indices, batches[0].indices)


def test_batches_without_counts_are_those_of_older_runs(corpus: Path, tmp_path: Path) -> None:
    """A run goes on exactly after an update; the digest was taken before there were counts."""
    data = CaptionedPictures.load(corpus, 16, CaptionOptions(backgrounds=0.5, scenes=0.5), cache_dir=tmp_path)
    batches = [data.batch(step, 8, seed=3) for step in range(4)]
    captions = "\n".join(caption for batch in batches for caption in batch.captions)
    assert hashlib.sha256(captions.encode()).hexdigest().startswith("ba0e824ad89ae291e1ded81a9eeb7ad8")
    means = [float(batch.pixels.double().mean()) for batch in batches]
    assert means == pytest.approx([0.318575, 0.49404, 0.510789, 0.683354], abs=1e-5)


def test_batch_has_the_stated_shapes_and_range(data: CaptionedPictures) -> None:
    batch = data.batch(0, 6, 0)
    assert (batch.pixels.shape, batch.pixels.dtype) == ((6, 3, 16, 16), torch.float32)
    assert (batch.indices.shape, batch.indices.dtype) == ((6,), torch.int64)
    assert batch.pixels.min() >= -1
    assert batch.pixels.max() <= 1
    assert len(batch.captions) == 6


def test_epoch_visits_each_row_once_also_across_its_end(data: CaptionedPictures) -> None:
    size = len(data.split.train)
    seen = torch.cat([data.batch(step, 7, 0).indices for step in range(size * 2 // 7)])
    assert sorted(seen[:size].tolist()) == data.split.train.tolist()
    assert len(set(seen[size:].tolist())) == len(seen) - size
    assert Counter(data.batch(0, size * 3, 0).indices.tolist()) == dict.fromkeys(data.split.train.tolist(), 3)


def test_subsets_are_kept_apart(data: CaptionedPictures) -> None:
    for subset in ("heldout_pairs", "heldout_concepts"):
        members = getattr(data.split, subset)
        assert set(data.batch(0, 2 * len(members), 0, subset).indices.tolist()) == set(members.tolist())
    with pytest.raises(ValueError, match="subset is 'test'; allowed: train, heldout_pairs, heldout_concepts"):
        data.batch(0, 2, 0, "test")
    with pytest.raises(ValueError, match="batch_size"):
        data.batch(0, 0, 0)


def test_half_of_the_captions_are_canonical(data: CaptionedPictures) -> None:
    batches = [data.batch(step, 50, 1) for step in range(20)]
    canonical = [
        caption == canonical_caption(data.rows[index])
        for batch in batches
        for index, caption in zip(batch.indices.tolist(), batch.captions, strict=True)
    ]
    assert 0.45 < np.mean(canonical) < 0.55


def test_fixed_is_canonical_on_white_at_any_size(data: CaptionedPictures) -> None:
    for size in (None, 16, 32):
        batch = data.fixed([0, 41, 82], size)
        assert batch.captions == ["thing 0, noto style", "thing 1, twemoji style", "thing 2, openmoji style"]
        side = size or 16
        assert batch.pixels.shape == (3, 3, side, side)
        assert (batch.pixels[:, :, 0, 0] == 1).all()
        middle = (batch.pixels[:, :, side // 2, side // 2] + 1) * 127.5
        assert middle.round().int().tolist() == [list(colour) for colour in COLOURS.values()]


def test_background_is_the_colour_that_the_caption_names(corpus: Path, tmp_path: Path) -> None:
    data = CaptionedPictures.load(corpus, 16, CaptionOptions(backgrounds=1), cache_dir=tmp_path)
    names = set()
    for step in range(8):
        batch = data.batch(step, 16, 0)
        for caption, picture in zip(batch.captions, batch.pixels, strict=True):
            name = re.search(r" on an? (\w+) background$", caption)[1]
            names.add(name)
            assert ((picture[:, 0, 0] + 1) * 127.5).round().int().tolist() == list(BACKGROUNDS[name])
    assert names == set(BACKGROUNDS)
    assert on_background("a cat", "orange") == "a cat on an orange background"


def test_scene_shows_what_its_caption_says(corpus: Path, tmp_path: Path) -> None:
    # one style whose two things differ in colour, so that the picture tells which stands where
    folder = tmp_path / "two"
    folder.mkdir()
    lines = []
    for name, colour in (("rose", (255, 0, 0)), ("cat", (0, 0, 255))):
        for number in range(6):
            Image.new("RGBA", (16, 16), (*colour, 255)).save(folder / f"{name}{number}.png")
            lines.append({"file": f"{name}{number}.png", "label": name, "style": "noto"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = CaptionedPictures.load(folder, 16, CaptionOptions(scenes=1), cache_dir=tmp_path)
    relations = set()
    for step in range(10):
        batch = data.batch(step, 10, 0)
        for caption, picture in zip(batch.captions, batch.pixels, strict=True):
            first, relation, second = re.fullmatch(
                r"a (rose|cat) (left of|right of|above|below) a (rose|cat), noto style", caption
            ).groups()
            assert first != second
            relations.add(relation)
            red = picture[1] < 0
            red &= picture[0] > 0
            blue = (picture[1] < 0) & (picture[2] > 0)
            assert red.sum() == blue.sum() == 64  # each at half size: 8 x 8 of 16 x 16 pixels
            rows_, columns = (
                [mask.nonzero()[:, axis].float().mean() for mask in ((red, blue) if first == "rose" else (blue, red))]
                for axis in (0, 1)
            )
            held = {
                "left of": columns[0] < columns[1],
                "right of": columns[0] > columns[1],
                "above": rows_[0] < rows_[1],
                "below": rows_[0] > rows_[1],
            }
            assert held[relation]
    assert relations == set(RELATIONS)


def areas(mask: np.ndarray) -> list[int]:
    """The sizes of the parts of a mask that hang together by sides or corners."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        todo, size = [left.pop()], 0
        while todo:
            y, x = todo.pop()
            size += 1
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(size)
    return found


def test_counted_pictures_show_as_many_apart_as_their_caption_says(tmp_path: Path) -> None:
    # squares that fill their pictures, which would touch without gaps
    for number in range(12):
        Image.new("RGBA", (32, 32), (255, 0, 0, 255)).save(tmp_path / f"{number}.png")
    lines = [{"file": f"{number}.png", "label": "red square", "style": "noto"} for number in range(12)]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = CaptionedPictures.load(tmp_path, 32, CaptionOptions(counts=1), cache_dir=tmp_path / "cache")
    seen: Counter[tuple[str, bytes]] = Counter()
    for step in range(10):
        batch = data.batch(step, 12, 0)
        for caption, picture in zip(batch.captions, batch.pixels, strict=True):
            red = (picture[1] < 0).numpy()
            said = ["one red square, noto style", "two red squares, noto style", "three red squares, noto style"]
            number = said.index(caption) + 1
            assert areas(red) == ([32 * 32] if number == 1 else [14 * 14] * number)
            seen[caption, red.tobytes()] += 1
    assert len(seen) == 5  # one way to show one, two ways to show two or three
    assert min(seen.values()) > 10
    again = data.counted(0, 3, turned=True)
    assert again.captions == ["three red squares, noto style"]
    assert (again.pixels[0, 1, :16] < 0).sum() > (again.pixels[0, 1, 16:] < 0).sum()


def test_labels_without_plural_are_not_counted(corpus: Path, tmp_path: Path) -> None:
    data = CaptionedPictures.load(corpus, 16, CaptionOptions(scenes=0.3, counts=0.5), cache_dir=tmp_path)
    # "thing 7" has no plural: what is not in a scene is a plain picture
    captions = [caption for step in range(10) for caption in data.batch(step, 16, 0).captions]
    assert not [caption for caption in captions if caption.startswith(("one", "two", "three"))]
    assert 0.2 < np.mean([bool(re.search("left of|right of|above|below", caption)) for caption in captions]) < 0.4
    with pytest.raises(ValueError, match="'thing 0' has no plural"):
        data.counted(0, 2, turned=False)


def test_a_named_colour_is_behind_the_picture(data: CaptionedPictures) -> None:
    batch = data.coloured(0, "turquoise")
    assert batch.captions == ["thing 0, noto style, on a turquoise background"]
    assert ((batch.pixels[0, :, 0, 0] + 1) * 127.5).round().int().tolist() == list(BACKGROUNDS["turquoise"])
    assert ((batch.pixels[0, :, 8, 8] + 1) * 127.5).round().int().tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("relation", "first", "second"),
    [("left of", (7, 4), (7, 12)), ("below", (12, 7), (4, 7)), ("above", (4, 7), (12, 7))],
)
def test_a_named_scene_puts_the_first_where_the_relation_says(
    relation: str, first: tuple[int, int], second: tuple[int, int], corpus: Path, tmp_path: Path
) -> None:
    data = CaptionedPictures.load(corpus, 16, cache_dir=tmp_path)
    red = next(index for index, row in enumerate(data.rows) if row.style == "noto")
    green = next(index for index, row in enumerate(data.rows) if row.style == "twemoji")
    batch = data.scene(red, relation, green)
    assert batch.pixels.shape == (1, 3, 16, 16)
    assert f" {relation} " in batch.captions[0]
    colours = [batch.pixels[0, :, top, left].tolist() for top, left in (first, second)]
    assert colours[0] == pytest.approx([1, -1, -1], abs=0.02)
    assert colours[1] == pytest.approx([-1, 1, -1], abs=0.02)
    assert batch.pixels[0, :, 0, 0].tolist() == [1, 1, 1]  # on white


def test_scene_without_a_partner_is_the_plain_picture(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 255)).save(tmp_path / "a.png")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "label": "rose", "style": "noto"}\n')
    data = CaptionedPictures.load(tmp_path, 16, CaptionOptions(scenes=1, drops=0), cache_dir=tmp_path / "cache")
    assert data.batch(0, 2, 0).captions == ["rose, noto style"] * 2


def test_pictures_are_decoded_some_at_a_time_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{value}.png" for value in range(0, 250, 50)]
    for path in paths:
        Image.new("RGB", (8, 8), (int(path.stem),) * 3).save(path)
    monkeypatch.setattr("training.data.decoded.AT_ONCE", 2)
    decode_all(paths, 8, tmp_path / "decoded.npy")
    assert np.load(tmp_path / "decoded.npy")[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]


def test_decoded_pictures_are_cached_until_a_picture_changes(tmp_path: Path) -> None:
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(folder / "a.png")
    (folder / "captions.jsonl").write_text('{"file": "a.png", "label": "rose"}\n')
    assert CaptionedPictures.load(folder, 16, cache_dir=cache).fixed([0]).pixels[0, 0, 0, 0] == 1
    decoded = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    CaptionedPictures.load(folder, 16, cache_dir=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == decoded
    Image.new("RGB", (16, 16), (0, 0, 250)).save(folder / "a.png")
    assert CaptionedPictures.load(folder, 16, cache_dir=cache).fixed([0]).pixels[0, 0, 0, 0] == -1


@pytest.mark.parametrize("size", [0, 7, 33, 2048])
def test_impossible_image_size_is_refused(corpus: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size is {size}; allowed: an even number of pixels from 8 to 1024"):
        CaptionedPictures.load(corpus, size)


# any folder of captioned pictures


@pytest.mark.parametrize("column", ["text", "caption"])
def test_imagefolder_with_metadata(column: str, tmp_path: Path) -> None:
    lines = [{"file_name": f"{number}.png", column: f"picture number {number}"} for number in range(4)]
    data = CaptionedPictures.load(imagefolder(tmp_path / "photos", lines), 16, cache_dir=tmp_path / "cache")
    assert sorted(row.label for row in data.rows) == [f"picture number {number}" for number in range(4)]
    assert all(row.hexcode is None and row.style == "" for row in data.rows)
    batch = data.fixed(range(4))
    for caption, picture in zip(batch.captions, batch.pixels, strict=True):
        assert round(((picture[0] + 1) * 127.5).mean().item()) == 60 * int(caption[-1])
    assert data.batch(0, 4, 0).captions[0].startswith("picture number")


def test_imagefolder_with_groups(tmp_path: Path) -> None:
    lines = [{"file_name": f"{n}.png", "text": f"thing {n}", "group": ("pets", None)[n % 2]} for n in range(4)]
    folder = imagefolder(tmp_path / "pictures", lines)
    options = CaptionOptions(emphasised=("pets",), repeats=2)
    data = CaptionedPictures.load(folder, 16, options, cache_dir=tmp_path / "cache")
    assert [row.group for row in data.rows] == ["pets", "", "pets", ""]
    assert sorted(data.batch(0, 6, 0).indices.tolist()) == [0, 0, 1, 2, 2, 3]


def test_imagefolder_in_subfolders(tmp_path: Path) -> None:
    folder = imagefolder(tmp_path / "photos", [])
    (folder / "metadata.jsonl").unlink()
    lines = [{"file_name": f"{number}.png", "text": f"picture {number}"} for number in range(4)]
    imagefolder(folder / "train", lines)
    for number in range(4):
        (folder / f"{number}.png").unlink()
    data = CaptionedPictures.load(folder, 16, cache_dir=tmp_path / "cache")
    assert sorted(row.file for row in data.rows) == [f"train/{number}.png" for number in range(4)]


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; expected pictures with a metadata\.jsonl"):
        CaptionedPictures.load(tmp_path / "nowhere", 16)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no captioned pictures"):
        CaptionedPictures.load(tmp_path, 16)


def test_pictures_without_captions_are_refused(tmp_path: Path) -> None:
    folder = imagefolder(tmp_path / "photos", [])
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match=r"has no captioned pictures; expected pictures with a metadata.jsonl"):
        CaptionedPictures.load(folder, 16)


def test_metadata_without_caption_column_is_refused(tmp_path: Path) -> None:
    lines = [{"file_name": f"{number}.png", "title": "a title"} for number in range(4)]
    with pytest.raises(
        ValueError, match=r"metadata.jsonl line 1 .0.png. has no text in the column text or caption: got None"
    ):
        CaptionedPictures.load(imagefolder(tmp_path / "photos", lines), 16)


def test_metadata_naming_a_missing_picture_is_refused(tmp_path: Path) -> None:
    lines = [{"file_name": "9.png", "text": "a picture that is not there"}]
    with pytest.raises(ValueError, match=r"9\.png"):
        CaptionedPictures.load(imagefolder(tmp_path / "photos", lines), 16)


@pytest.mark.parametrize("caption", [" ", 7, None])
def test_caption_that_is_no_text_is_refused(caption: object, tmp_path: Path) -> None:
    lines = [{"file_name": f"{number}.png", "text": caption} for number in range(4)]
    with pytest.raises(ValueError, match=r"line 1 .0\.png. has no text in the column text or caption"):
        CaptionedPictures.load(imagefolder(tmp_path / "photos", lines), 16)


def test_metadata_that_is_not_json_is_refused(tmp_path: Path) -> None:
    folder = imagefolder(tmp_path / "photos", [])
    (folder / "metadata.jsonl").write_text("file_name,text\n0.png,hello\n")
    with pytest.raises(ValueError, match=r"metadata\.jsonl line 1 is not JSON"):
        CaptionedPictures.load(folder, 16)


def test_row_whose_picture_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"file": "noto/gone.webp", "label": "rose"}\n')
    with pytest.raises(ValueError, match=r"noto/gone\.webp, which is not there; mend or drop the lines"):
        CaptionedPictures.load(tmp_path, 16)


@pytest.mark.parametrize(
    "line", ["not json", '{"file": "a.png"}', '["a.png", "rose"]', '{"label": "rose"}', '{"file": 1, "label": "a"}']
)
def test_malformed_caption_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"captions\.jsonl line 1"):
        CaptionedPictures.load(tmp_path, 16)


@pytest.mark.parametrize("kind", ["text", "truncated", "empty"])
def test_broken_picture_is_named_and_leaves_no_cache(kind: str, tmp_path: Path) -> None:
    broken = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(broken)
    broken.write_bytes({"text": b"hello", "truncated": broken.read_bytes()[:1000], "empty": b""}[kind])
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "label": "rose"}\n')
    with pytest.raises(ValueError, match=r"cannot read the picture .*a\.png"):
        CaptionedPictures.load(tmp_path, 16, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


# names of files and folders decide nothing


@pytest.mark.parametrize("name", ["train", "test", "brackets [v1]", "hash #2 (copy)", "été", "valid"])
def test_folders_are_read_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    lines = [
        {"file_name": f"{sub}/{number}.png", "text": f"{sub} {number}"} for sub in ("train", "bus") for number in (0, 1)
    ]
    for line in lines:
        path = folder / str(line["file_name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    Image.new("RGB", (8, 8)).save(folder / "taste_test.png")
    lines.append({"file_name": "taste_test.png", "text": "a taste"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "._metadata.jsonl").write_bytes(b"\x00\x05\x16\x07")  # macOS writes these
    assert sorted(row.label for row in read_folder(folder).rows) == ["a taste", "bus 0", "bus 1", "train 0", "train 1"]


def test_names_written_on_other_systems_are_found(tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    names = {"imgs\\red.png": "imgs/red.png", "caf\u00e9.png": "cafe\u0301.png"}
    for written in names.values():
        Image.new("RGB", (8, 8)).save(tmp_path / written)
    lines = "\n".join(json.dumps({"file_name": name, "text": "a\u2028b"}) for name in names)
    (tmp_path / "metadata.jsonl").write_text(lines, encoding="utf-8-sig")
    folder = read_folder(tmp_path)
    assert [row.label for row in folder.rows] == ["a\u2028b"] * 2
    assert sorted(path.name for path in folder.paths) == sorted(Path(name).name for name in names.values())


def test_all_mistakes_are_told_with_their_lines(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = ["file_name;text", "a.png;red", "b.png;blue", ";green", "a.png;", "x" * 300 + ".png;long"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match="cannot be used") as told:
        read_folder(tmp_path)
    for part in (
        "line 3 names the picture b.png",
        "line 4 has no file_name",
        "line 5 (a.png) has no text",
        "line 6 names",
    ):
        assert part in str(told.value)


def test_a_caption_is_never_cut(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    table = tmp_path / "metadata.csv"
    table.write_text('file_name,text\na.png,a red\u2028apple\na.png,"a red, round apple",\n', encoding="utf-8")
    assert [row.label for row in read_folder(tmp_path).rows] == ["a red\u2028apple", "a red, round apple"]
    table.write_text("file_name,text\na.png,a red apple\na.png,a red, round apple\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 3 has more cells than the first line; put quotes around text .* ','"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("tags", "fruit"), ("tags", 5), ("tags", [1]), ("style", ["noto"]), ("group", {"a": 1}), ("hexcode", 5)],
)
def test_what_a_corpus_says_of_a_picture_has_its_type(key: str, value: object, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    line = {"file": "a.png", "label": "red apple", key: value}
    (tmp_path / "captions.jsonl").write_text(f"\n{json.dumps(line)}\n")
    with pytest.raises(ValueError, match=rf"line 2: {key} is .*; allowed: (text|a list of words)"):
        read_folder(tmp_path)


def test_captions_in_another_encoding_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_bytes('{"file": "a.png", "label": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"captions\.jsonl is not UTF-8 text"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("I;16", 60 * 257, 60),
        ("I", 60 * 257, 60),
        ("I", 60, 60),
        ("F", 60 / 255, 60),
        ("F", 4000.0, 255),
        ("L", 60, 60),
    ],
)
def test_deep_grey_keeps_its_range(mode: str, value: float, expected: int, tmp_path: Path) -> None:
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32, "L": np.uint8}[mode]
    path = tmp_path / "grey.tif"
    Image.fromarray(np.full((16, 16), value, dtype)).save(path)
    for pixel in (open_square(path, 16).getpixel((8, 8)), open_picture(path).getpixel((8, 8))):
        assert pixel is not None
        assert abs(pixel[0] - expected) <= 1
