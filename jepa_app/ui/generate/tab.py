"""The Generate tab: a prompt in, and a picture that grows step by step."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from jepa_app.generation.settings import GUIDANCE, STEPS, TEMPERATURE, SamplingSettings
from jepa_app.studio.studio import Unseen
from jepa_app.styles import style_at_end
from jepa_app.ui import texts
from jepa_app.ui.fragment import fragment
from jepa_app.ui.generate.recall import make_history, make_recall, wire_recall
from jepa_app.ui.generate.runs import GenerateControls, GenerateWork, wire_runs
from jepa_app.ui.player.player import make_player

BEST_OF = (4, 9, 16)

# The same as `in_style`, in the browser.
ADD_STYLE = """(style, prompt) => {
  const bare = prompt.replace(new RegExp(PATTERN, 'i'), '').trim();
  return !style ? bare : bare ? `${bare}, ${style} style` : `${style} style`;
}"""
FIND_STYLE = """(prompt) => {
  const found = (prompt.match(new RegExp(PATTERN, 'i')) ?? ['', ''])[1].toLowerCase();
  return STYLES.find((style) => style.toLowerCase() === found) ?? found;
}"""


def build_generate_tab(work: GenerateWork, facts: Mapping[str, Any], defaults: SamplingSettings) -> gr.HTML:
    """Lay out the tab, wire it to `work` and return the player, so that other tabs can listen to it.

    `facts` are those of `Studio.info`: a picture takes at most as many steps as it has tokens, because each reveals at
    least one. `defaults` are the sampling settings that suit the weights.
    """
    weights, max_steps = facts["weights"], min(STEPS[1], facts["tokens"])
    with gr.Row(elem_id="generate-board"):
        with gr.Column(elem_id="compose"):
            prompt, run, stop, style, examples = _compose(facts["styles"], work.unseen)
        with gr.Column(elem_id="stage"):
            player = make_player(work.kept, weights, work.example)
        with gr.Column(elem_id="settings"):
            controls, dice, negative = _settings(prompt, max_steps, defaults)
            recall = make_recall(max_steps, work.keep_picture, weights)
        history = make_history()

    _wire_words(prompt, style, facts["styles"], examples)
    _wire_seed(player, controls.seed, dice)
    wire_recall(recall, history, player, controls.all(), negative)
    wire_runs(work, weights, controls, player, run, stop)
    return player


def _compose(
    styles: Sequence[str], unseen: Callable[[str], Unseen]
) -> tuple[gr.Textbox, gr.Button, gr.Button, gr.Radio, list[gr.Button]]:
    """Build the prompt, the two large buttons, the style chips and the examples."""
    prompt = gr.Textbox(
        label=texts.PROMPT_LABEL,
        placeholder=texts.PROMPT_PLACEHOLDER,
        lines=1,
        max_lines=4,
        elem_id="prompt",
        autofocus=True,
        html_attributes=gr.InputHTMLAttributes(enterkeyhint="go", spellcheck=True),
    )
    _name_what_is_unseen(prompt, unseen)
    with gr.Row(elem_id="go"):
        run = gr.Button(texts.RUN, variant="primary", size="lg", elem_id="run", scale=3)
        stop = gr.Button(
            texts.STOP, variant="secondary", size="lg", elem_id="stop", scale=1, min_width=90, interactive=False
        )
    choices = [(texts.STYLE_ANY, ""), *((words, words) for words in styles)]
    style = gr.Radio(choices, value="", label=texts.STYLE_LABEL, elem_id="styles", elem_classes="chips")
    with gr.Column(elem_id="examples"):
        gr.HTML(texts.EXAMPLES_LABEL, apply_default_css=False, elem_classes="small-label")
        with gr.Row(elem_classes="chips"):
            examples = [gr.Button(example, size="sm", min_width=0, scale=0) for example in texts.EXAMPLES]
    return prompt, run, stop, style, examples


def _name_what_is_unseen(prompt: gr.Textbox, unseen: Callable[[str], Unseen]) -> None:
    """Put a line under the prompt that names what the model has never seen: words, or a thing in this style."""

    def told(words: str | None) -> dict[str, Any]:
        return asdict(unseen(words or ""))

    prompt.change(
        told,
        [prompt],
        [fragment("generate/unknown")],
        trigger_mode="always_last",
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )


def _settings(
    prompt: gr.Textbox, max_steps: int, defaults: SamplingSettings
) -> tuple[GenerateControls, gr.Button, gr.Accordion]:
    """Build the seed, the sliders and the negative prompt in its accordion."""
    with gr.Row(elem_id="seed-row"):
        seed = gr.Number(
            None,
            label=texts.SEED_LABEL,
            placeholder=texts.SEED_PLACEHOLDER,
            step=1,
            elem_id="seed",
            scale=3,
            min_width=120,
        )
        dice = gr.Button(texts.DICE, size="sm", elem_id="dice", scale=1, min_width=90)
    usual_steps = min(defaults.steps, max_steps)
    steps = gr.Slider(
        STEPS[0], max_steps, usual_steps, step=1, label=texts.STEPS_LABEL, info=texts.STEPS_INFO, elem_id="steps"
    )
    guidance = gr.Slider(
        *GUIDANCE,
        defaults.guidance,
        step=0.05,
        label=texts.GUIDANCE_LABEL,
        info=texts.GUIDANCE_INFO,
        elem_id="guidance",
    )
    temperature = gr.Slider(
        *TEMPERATURE,
        defaults.temperature,
        step=0.05,
        label=texts.TEMPERATURE_LABEL,
        info=texts.TEMPERATURE_INFO,
        elem_id="heat",
    )
    best_of = gr.Radio(
        [(texts.BEST_OF_ONE, 1), *((str(count), count) for count in BEST_OF)],
        value=1,
        label=texts.BEST_OF_LABEL,
        info=texts.BEST_OF_INFO,
        elem_id="best-of",
        elem_classes="chips",
    )
    with gr.Accordion(texts.NEGATIVE_HEAD, open=False, elem_id="negative") as negative:
        negative_prompt = gr.Textbox(
            "",
            label=texts.NEGATIVE_LABEL,
            placeholder=texts.NEGATIVE_PLACEHOLDER,
            max_lines=3,
            elem_id="negative-prompt",
        )
    controls = GenerateControls(
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=steps,
        guidance=guidance,
        temperature=temperature,
        seed=seed,
        best_of=best_of,
    )
    return controls, dice, negative


def _wire_words(prompt: gr.Textbox, style: gr.Radio, styles: Sequence[str], examples: list[gr.Button]) -> None:
    """Make chips and examples write into the prompt, and the prompt select the chip, entirely in the browser."""
    pattern = json.dumps(style_at_end(styles))
    add, find = ADD_STYLE.replace("PATTERN", pattern), FIND_STYLE.replace("PATTERN", pattern)
    style.input(None, [style, prompt], [prompt], js=add, api_visibility="private")
    prompt.change(
        None, [prompt], [style], js=find.replace("STYLES", json.dumps(list(styles))), api_visibility="private"
    )
    for button, example in zip(examples, texts.EXAMPLES, strict=True):
        button.click(None, outputs=[prompt], js=f"() => {json.dumps(example)}", api_visibility="private")


def _wire_seed(player: gr.HTML, seed: gr.Number, dice: gr.Button) -> None:
    """Make the dice clear the seed (a new one for every run), and the player's button restore the seed it shows."""
    dice.click(None, outputs=[seed], js="() => [null]", api_visibility="private")
    # Without triggers, this runs when the page loads. Gradio shows an empty number as 0 until it is cleared.
    gr.on(None, None, outputs=[seed], js="() => [null]", api_visibility="private")
    player.reuse(None, [player, seed], [seed], js="(last, seed) => last?.seed ?? seed", api_visibility="private")
