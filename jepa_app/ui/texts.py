"""The words of the page, and the sentences that numbers turn into."""

TITLE = "JEPA studio"

EXAMPLES = (
    "red apple, twemoji style",
    "joyful cat face, noto style",
    "blue heart, fluent flat style",
    "pizza, openmoji style",
    "rocket, fluent 3d style",
    "sunflower, blob style",
)

PROMPT_PLACEHOLDER = "red apple, noto style"
NEGATIVE_PLACEHOLDER = "for example: blue, square"
STEPS_INFO = "More steps predict fewer tokens at a time."
GUIDANCE_INFO = "How strictly the words are followed."
TEMPERATURE_INFO = "Lower is calmer and more alike."
COMPARE_PROMPT = "red apple, twemoji style"
COMPARE_COLUMNS = "red apple, twemoji style\ngreen apple, twemoji style\nred heart, twemoji style"
COMPARE_ROWS = "1, 3, 6"
COMPARE_VALUES = "Prompts one a line; others parted by commas. Seeds and steps may be ranges: 1-4."
COMPARE_HELP = (
    "Order and noise come from the seed, so neighbours differ by what their row or column changes and by nothing else. "
    "All pictures share the network's passes: a grid of nine takes far less than nine times as long as one. At most 36."
)
CAPTIONS_PLACEHOLDER = "red apple\ngreen apple\ntomato\nfire engine"

# What the player says; {names} are filled in by the browser.
PLAYER = {
    "player": "Player: space plays, arrows step, m changes the view",
    "invitation_title": "Your picture appears here",
    "invitation": "Every tile is one token. The model predicts them a few at a time, in random order.",
    "play": "Play the steps",
    "pause": "Pause",
    "timeline": "Step of the generation",
    "view": "View",
    "view_picture": "Picture",
    "view_unmasking": "Unmasking",
    "view_order": "Order",
    "view_predicted": "Preview",
    "energy": "energy",
    "fit": "Match with the prompt: {words}, {percent} % (energy {energy}, lower is better)",
    "go_on": "Go on from step {step}",
    "redo": "Redo a part",
    "paint_help": "Paint over what is to be made anew, with the words in the prompt box. Its border changes too.",
    "paint_keys": "Arrows move, space marks, Enter starts, Escape leaves.",
    "paint_go": "Redo {count} tokens",
    "paint_room": "Leave room around it",
    "paint_clear": "Clear",
    "paint_leave": "Leave",
    "tile_marked": "row {row}, column {column}, marked",
    "tile_free": "row {row}, column {column}, not marked",
    "speed": "Speed",
    "legend_first": "first",
    "legend_last": "last",
    "to_match": "Match this picture",
    "reuse": "Reuse seed",
    "download": "Download",
    "export": "Export",
    "export_webp": "Animation (WebP)",
    "export_gif": "Animation (GIF)",
    "export_mp4": "Video (MP4)",
    "export_json": "Trace (JSON)",
    "export_png": "This step (PNG)",
    "keep_settings": "Keep the settings inside the PNG",
    "exporting": "Writing the file",
    "exported": "Saved as {name}",
    "unreachable": "The server cannot be reached; try again in a moment",
    "waiting": "Waiting for the model",
    "queued": "Waiting: {ahead} before yours",
    "queued_for": "Waiting: {ahead} before yours, about {seconds} s",
    "coming_back": "The connection was lost; going on in a moment",
    "welcome_back": "Your last run, as it was",
    "alt_begin": "The picture to begin with",
    "running": "Step {step} of {total}",
    "finished": "Finished in {seconds} s",
    "stopped": "Stopped at step {step} of {total}, the picture so far is kept",
    "kept": "From your history; run it again to see its steps",
    "place": "step {step} of {total}",
    "alt": 'Picture of "{prompt}", {place}',
    "tokens": "{fresh} new, {known} of {all} tokens known",
}

RECALL = {
    "from_picture": "Settings from a picture",
    "begin_with": "Begin with a picture",
    "begun": "{name} is on the stage; paint over what is to be made anew",
    "copy_link": "Copy link",
    "filled": "The settings of {name} are filled in",
    "too_large": "{name} is larger than {most} MB",
    "link_copied": "The link with these settings is copied",
    "link_in_address": "The page's address now holds these settings; copy it from there",
    "link_opened": "The settings of the link are filled in; press Generate to run them",
    "link_partly": "From the link, this was left out: {names}",
    "unreachable": "The server cannot be reached; try again in a moment",
}

HISTORY = {
    "history": "Your last pictures, kept in this browser only",
    "history_clear": "Clear",
    "history_item": 'Show "{prompt}", seed {seed}, and restore its settings',
}

MATCH_HELP = (
    "**How to read this.** TI-JEPA predicts, inside the network, the picture from the caption and the caption from the "
    "picture. The *energy* is the error that is left, minus the error without the other side: **lower is better**, and "
    "below zero the caption helps to predict the picture. The bar turns it into the *probability* that words and "
    "picture belong together, measured against pictures with captions of other pictures. The model has seen emoji "
    "only: trust it little on photographs. Of a picture that is not square, the central square is looked at."
)

# (probability from which on it applies, words), highest first
VERDICTS = (
    (0.85, "fits very well"),
    (0.60, "fits well"),
    (0.40, "may fit"),
    (0.15, "probably not"),
    (0.0, "does not fit"),
)


def verdict(probability: float) -> str:
    """Plain words for a match probability in [0, 1]."""
    return next(words for threshold, words in VERDICTS if probability >= threshold)
