"""Grids: values as they are typed become requests, and the cells of a grid are made together."""

from dataclasses import replace
from pathlib import Path

import pytest

from jepa_app.studio.frames import Waiting
from jepa_app.studio.grids import MAX_CELLS, NONE, axis_values, make_grid
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from jepa_app.styles import in_style
from jepa_app.ui.compare import tab
from tests.support.studio_server import loaded

BASE = GenerateRequest(prompt="red apple, noto style", steps=3, seed=5)


@pytest.mark.parametrize(
    ("axis", "text", "values"),
    [
        (NONE, "anything", [None]),
        ("prompt", "red apple, noto style\n\n blue heart \n", ["red apple, noto style", "blue heart"]),
        ("style", "noto, Fluent 3D\ntwemoji", ["noto", "fluent 3d", "twemoji"]),
        ("seed", "1-4, 9", [1, 2, 3, 4, 9]),
        ("steps", "4; 8 .. 10", [4, 8, 9, 10]),
        ("guidance", "1, 2.5", [1.0, 2.5]),
        ("temperature", "0.5\n1", [0.5, 1.0]),
        ("guidance", "1,5\n3,0", [1.5, 3.0]),
        ("guidance", "1,5; 3", [1.5, 3.0]),
        ("guidance", "1,5", [1.0, 5.0]),
        ("temperature", "0.5, 1", [0.5, 1.0]),
        ("steps", "1,5\n3", [1, 5, 3]),
    ],
)
def test_values_are_read_as_they_are_typed(axis: str, text: str, values: list[object]) -> None:
    assert axis_values(axis, text) == values


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("colour", "1", NONE, ""), "axis is 'colour'; allowed: prompt, style"),
        (("seed", " , ", NONE, ""), "no values for seed"),
        (("seed", "1", "seed", "2"), "both axes change the seed"),
        (("seed", "one", NONE, ""), "seed is 'one'; allowed: a whole number or a range"),
        (("seed", "9-1", NONE, ""), "allowed: an ascending range"),
        (("seed", "1-900", NONE, ""), "at most 36 numbers"),
        (("guidance", "1-4", NONE, ""), "guidance is '1-4'; allowed: a number"),
        (("guidance", "nan", NONE, ""), "guidance is nan"),
        (("steps", "900", NONE, ""), "steps is 900; allowed"),
        (("style", "cubist", NONE, ""), "style is 'cubist'; allowed: noto"),
        (("seed", "1-10", "guidance", "1,2,3,4"), "10 x 4 pictures are too many; allowed: at most 36"),
    ],
)
def test_wrong_axes_are_refused_in_words(arguments: tuple[str, str, str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_grid(BASE, *arguments)


def test_prompts_and_styles_cross_whichever_is_the_column() -> None:
    asked = {("koala", "noto"), ("koala", "twemoji"), ("dog", "noto"), ("dog", "twemoji")}
    expected = {f"{thing}, {style} style" for thing, style in asked}
    prompts, styles = ("prompt", "koala\ndog"), ("style", "noto, twemoji")
    wide, high = make_grid(BASE, *prompts, *styles), make_grid(BASE, *styles, *prompts)
    assert {cell.request.prompt for cell in wide.cells} == {cell.request.prompt for cell in high.cells} == expected
    for cell in wide.cells:
        assert cell.request.prompt == f"{wide.columns[cell.column]}, {wide.rows[cell.row]} style"


def test_weights_may_have_styles_of_their_own() -> None:
    styles = ["Ghibli", "water/colour (old)"]
    base = replace(BASE, prompt="apple, ghibli style")
    grid = make_grid(base, "style", "GHIBLI, Water/Colour (old), noto", NONE, "", styles)
    assert [cell.request.prompt for cell in grid.cells] == [
        "apple, Ghibli style",
        "apple, water/colour (old) style",
        "apple, noto style",
    ]
    with pytest.raises(ValueError, match=r"style is 'cubist'; allowed: Ghibli, water/colour \(old\), noto"):
        make_grid(base, "style", "cubist", NONE, "", styles)


def test_cells_stand_row_by_row_and_share_what_no_axis_changes() -> None:
    grid = make_grid(BASE, "guidance", "1, 3", "style", "twemoji, blob")
    assert (grid.columns, grid.rows) == (("1", "3"), ("twemoji", "blob"))
    assert [(cell.row, cell.column) for cell in grid.cells] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [cell.request.prompt for cell in grid.cells] == ["red apple, twemoji style"] * 2 + [
        "red apple, blob style"
    ] * 2
    assert [cell.request.guidance for cell in grid.cells] == [1.0, 3.0] * 2
    assert {cell.request.seed for cell in grid.cells} == {5}
    drawn = make_grid(replace(BASE, seed=None), "prompt", "rose\nsun", NONE, "").cells
    assert drawn[0].request.seed == drawn[1].request.seed is not None
    assert len(make_grid(BASE, "seed", f"1-{MAX_CELLS}", NONE, "").cells) == MAX_CELLS


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("red apple", "red apple, noto style"),
        ("red apple, fluent 3d style", "red apple, noto style"),
        ("red apple Twemoji Style ", "red apple, noto style"),
        ("blob style", "noto style"),
    ],
)
def test_a_style_takes_the_place_of_another(prompt: str, expected: str) -> None:
    assert in_style(prompt, "noto") == expected
    assert in_style(expected, "") == expected.removesuffix("noto style").rstrip(", ")


def test_cells_come_as_they_are_made_and_equal_each_alone(tiny_weights: Path) -> None:
    studio: Studio = loaded(tiny_weights)
    grid = make_grid(BASE, "seed", "1-3", "steps", "2, 4")
    last = {}
    order = []
    for number, frame in studio.generating.together([cell.request for cell in grid.cells]):
        last[number] = frame
        order.append(number)
    assert order != sorted(order)  # nobody waits for a whole picture of another
    assert [last[number].total for number in range(6)] == [2, 2, 2, 4, 4, 4]
    for number, cell in enumerate(grid.cells):
        alone = studio.generate_image(cell.request)
        difference = max(abs(a - b) for a, b in zip(last[number].image.tobytes(), alone.tobytes(), strict=True))
        assert difference <= 2


def test_a_wrong_request_among_many_drops_all(tiny_weights: Path) -> None:
    studio: Studio = loaded(tiny_weights)
    with pytest.raises(ValueError, match="steps is 40; allowed: 1 to 16"):
        list(studio.generating.together([BASE, GenerateRequest(prompt="rose", steps=40)]))
    assert len(list(studio.generating.together([BASE]))) == 3
    assert list(studio.generating.together([])) == []


def test_a_pause_in_the_middle_does_not_begin_the_grid_anew(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab, "SECONDS_BETWEEN", 0)
    *_, last = studio.generating.frames(replace(BASE, steps=1))
    grid = make_grid(BASE, "seed", "1, 2", NONE, "")
    told = list(tab.deltas(grid, iter([(0, last), (0, Waiting(ahead=3, seconds=None)), (1, last)])))
    assert len({delta["run"] for delta in told}) == 1
    assert told[0]["run"] != next(tab.deltas(grid, iter([])))["run"]
    assert [[cell["column"] for cell in delta["cells"]] for delta in told] == [[], [0], [], [1], [0, 1]]
    assert [delta.get("waiting") for delta in told] == [None, None, {"ahead": 3, "seconds": None}, None, None]
    assert [delta["done"] for delta in told] == [False] * 4 + [True]
