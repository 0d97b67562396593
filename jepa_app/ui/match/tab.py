"""The Match tab: captions ranked by how well they fit a picture, with the reasons, and tables of many pictures."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from PIL import Image

from jepa_app.engines.turns import Turns, Visitor, address_of
from jepa_app.files.fetching import fetch
from jepa_app.files.pictures import open_base64, open_picture
from jepa_app.limits import MAX_CAPTIONS, check_captions, text_lines
from jepa_app.pixels import central_square
from jepa_app.studio.studio import CaptionScore
from jepa_app.ui import texts
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.fragment import fragment
from jepa_app.ui.match.many import ManyWork, build_many
from jepa_app.ui.match.why import Explain, KeptPictures, make_why
from jepa_app.ui.serving.visitors import visitor_of
from jepa_app.ui.tools import no_tool
from jepa_app.ui.uploads import in_cache, uploaded

ONE = "one"  # the inner tab of one picture
EXAMPLES = Path(__file__).parent / "examples"
Upload = dict[str, Any] | str  # Gradio's FileData (path, url, orig_name, ...), an address, or base64
OWN_FILE = "/gradio_api/file="  # part of the addresses of files that this server has handed out
Matrix = tuple[list[list[float]], list[list[float]]]


@dataclass(frozen=True, kw_only=True)
class MatchTab:
    """The components that other tabs fill, and the inner tabs, in which they open `ONE`."""

    picture: gr.Image
    captions: gr.Textbox
    kinds: gr.Tabs


@dataclass(frozen=True, kw_only=True)
class MatchWork:
    """What the tab needs from the studio."""

    rank: Callable[[Image.Image, Sequence[str]], list[CaptionScore]]
    score_pairs: Callable[[Sequence[Image.Image], Sequence[str]], Matrix]
    explain: Explain
    many: ManyWork


def build_match_tab(work: MatchWork) -> MatchTab:
    """Lay out the tab, wire it to the studio's callables and return the components that other tabs may fill."""
    with gr.Tabs(elem_id="match-kinds") as kinds:
        with gr.Tab(texts.MATCH_ONE_TAB, id=ONE):
            picture, captions = _build_one(work)
        with gr.Tab(texts.MATCH_MANY_TAB, id="many"):
            build_many(work.many)
    return MatchTab(picture=picture, captions=captions, kinds=kinds)


def _build_one(work: MatchWork) -> tuple[gr.Image, gr.Textbox]:
    kept = KeptPictures(work.many.side)
    with gr.Row(elem_id="match-board"):
        with gr.Column(elem_id="match-inputs"):
            picture = gr.Image(
                label=texts.MATCH_PICTURE_LABEL,
                sources=["upload", "clipboard"],
                height=300,
                elem_id="match-picture",
                buttons=[],
            )
            captions = gr.Textbox(
                label=texts.CAPTIONS_LABEL,
                placeholder=texts.CAPTIONS_PLACEHOLDER,
                lines=5,
                max_lines=20,
                elem_id="captions",
            )
            run = gr.Button(texts.MATCH_RUN, variant="primary", size="lg", elem_id="rank")
            _examples(picture, captions)
        with gr.Column(elem_id="match-results"):
            ranking = fragment("match/ranking", verdicts=texts.VERDICTS)
        make_why(work.explain, kept)
        gr.Markdown(texts.MATCH_HELP, elem_id="match-help")
    _wire_one(work, kept, picture, captions, run, ranking)
    return picture, captions


def _examples(picture: gr.Image, captions: gr.Textbox) -> None:
    """Lay out buttons with small pictures; each puts its picture and captions into the tab and ranks them."""
    gr.set_static_paths([EXAMPLES])  # a copy in Gradio's cache would be tidied away like any other file
    gr.HTML(texts.EXAMPLES_LABEL, apply_default_css=False, elem_classes="small-label")
    with gr.Row(elem_id="match-examples"):
        for name, lines in texts.MATCH_EXAMPLES.items():
            path = EXAMPLES / f"{name}.webp"
            button = gr.Button(name.replace("-", " "), icon=path, size="sm", scale=0)
            button.click(
                partial(_example, path, lines),
                outputs=[picture, captions],
                show_progress="hidden",
                queue=False,
                api_visibility="private",
            ).then(None, js="() => document.querySelector('#rank').click()", api_visibility="private")


def _example(path: Path, lines: Sequence[str]) -> tuple[Image.Image, str]:
    return open_picture(path), "\n".join(lines)


def _wire_one(
    work: MatchWork, kept: KeptPictures, picture: gr.Image, captions: gr.Textbox, run: gr.Button, ranking: gr.HTML
) -> None:
    turns = Turns("scores")

    def on_upload(picture: Upload | None) -> None:
        with shown_to_user():
            open_upload(picture)

    def square_of(picture: Upload | None, visitor: gr.Request) -> Image.Image:
        """What the model sees of an upload: while it waits for its turn, nothing larger is held."""
        return central_square(open_upload(picture, visitor_of(visitor)), work.many.side)

    def ranked(visitor: gr.Request, picture: Image.Image, captions: str | None) -> list[dict[str, Any]]:
        lines = text_lines(captions)
        with turns.taken(visitor_of(visitor)):  # not while a picture is fetched
            scores = work.rank(picture, lines)
        return [asdict(each) | {"words": texts.verdict(each.probability)} for each in scores]

    def rank(visitor: gr.Request, picture: Upload | None, captions: str | None) -> list[dict[str, Any]]:
        with shown_to_user():
            name = kept.add(open_upload(picture, visitor_of(visitor)))  # the page uses it to ask for an explanation
            return [each | {"picture": name} for each in ranked(visitor, kept.find(name).seen, captions)]

    def score(visitor: gr.Request, picture: Upload | None, captions: str | None) -> list[dict[str, Any]]:
        """Score how well captions fit a picture, best first: a low energy and a high probability mean a good match.

        Args:
            picture: an http(s) address, a data URL (data:image/png;base64,...), or a picture file as base64
            captions: up to 20 captions, one per line
        """
        with shown_to_user():
            return ranked(visitor, square_of(picture, visitor), captions)

    @no_tool
    def score_matrix(visitor: gr.Request, pictures: list[Upload] | None, captions: str | None) -> dict[str, Any]:
        """Score every picture with every caption (one per line): M rows of K energies and probabilities."""
        with shown_to_user():
            lines = text_lines(captions)
            check_captions(lines)
            check_pictures(pictures)
            squares = [square_of(picture, visitor) for picture in pictures or []]
            with turns.taken(visitor_of(visitor)):
                energy, probability = work.score_pairs(squares, lines)
            return {"captions": lines, "energy": energy, "probability": probability}

    # Without preprocessing, an upload arrives unopened: Gradio would decode it before its size has been checked.
    picture.upload(  # report a bad file at once, not only when it is ranked
        on_upload, [picture], None, preprocess=False, show_progress="hidden", api_visibility="private"
    )
    run.click(
        rank,
        [picture, captions],
        [ranking],
        preprocess=False,
        show_progress_on=[run],
        api_name="rank",
        api_visibility="private",  # programs and agents use the endpoints below, which also take text
        concurrency_limit=None,  # visitors take turns
    )
    for endpoint, pictures in ((score, gr.Textbox(visible=False)), (score_matrix, gr.JSON(visible=False))):
        gr.Button(visible=False).click(
            endpoint,
            inputs=[pictures, gr.Textbox(visible=False)],
            outputs=[gr.JSON(visible=False)],
            preprocess=False,
            api_name=endpoint.__name__,
            concurrency_limit=None,
        )


def check_pictures(pictures: object) -> None:
    """Refuse a list of pictures that is too long, before one is opened.

    Raises:
        ValueError: it is not a list of 1 to 20.
    """
    if not isinstance(pictures, list) or not 1 <= len(pictures) <= MAX_CAPTIONS:
        got = f"{len(pictures)} pictures" if isinstance(pictures, list) else "no list of pictures"
        raise ValueError(f"got {got}; allowed: 1 to {MAX_CAPTIONS} at once")


def open_upload(upload: Upload | None, visitor: Visitor | None = None) -> Image.Image:
    """Open a picture from the browser, a program or an agent: a file in Gradio's cache, an address or base64.

    Raises:
        ValueError: there is no picture, its address cannot be read, or `pictures.open_picture` refuses it.
    """
    if not upload:
        raise ValueError("there is no picture yet; upload one, or send one from the Generate tab")
    if isinstance(upload, dict) and upload.get("path"):
        path, name = uploaded(upload["path"]), upload.get("orig_name")
        return open_picture(path, name if isinstance(name, str) else None)
    text = str(upload.get("url") or "") if isinstance(upload, dict) else str(upload).strip()
    if not text.startswith(("http://", "https://")):
        return open_base64(text)
    kept = own_file(text)
    return open_picture(fetch(text, address_of(visitor)) if kept is None else kept, text.rpartition("/")[2])


def own_file(address: str) -> Path | None:
    """Return the file in Gradio's cache behind an address that this server has handed out, otherwise None.

    An agent may send back the address of a picture made here, and that address is not always public.
    """
    return in_cache(unquote(urlsplit(address).path.partition(OWN_FILE)[2]))
