"""The words of the page in English; texts_zh.py says the same in Chinese, name by name and key by key.

Strings are words of Gradio's own components (language.py finds them there), dictionaries are the tables of fragments;
{names} are filled in by the browser. What is data, not words, stands in tuples or in VALUES and is not translated.
Messages of mistakes (`ValueError`) are the same for the page, for programs and on the command line: English.
"""

TITLE = "JEPA studio"

# Values of controls: the models read English only.
EXAMPLES = (
    "red apple, twemoji style",
    "joyful cat face, noto style",
    "blue heart, fluent flat style",
    "pizza, openmoji style",
    "rocket, fluent 3d style",
    "sunflower, blob style",
)
VALUES = {
    "compare_prompt": "red apple, twemoji style",
    "compare_columns": "red apple, twemoji style\ngreen apple, twemoji style\nred heart, twemoji style",
    "compare_rows": "1, 3, 6",
}

GENERATE_TAB = "Generate"
COMPARE_TAB = "Compare"
MATCH_TAB = "Match"

PROMPT_LABEL = "What should the picture show?"
PROMPT_PLACEHOLDER = "red apple, noto style"
RUN = "Generate"
STOP = "Stop"
STYLE_LABEL = "Style"
STYLE_ANY = "any"
EXAMPLES_LABEL = "Try one of these"
SEED_LABEL = "Seed"
SEED_PLACEHOLDER = "random"
DICE = "🎲 Random"
STEPS_LABEL = "Steps"
STEPS_INFO = "More steps predict fewer tokens at a time."
GUIDANCE_LABEL = "Guidance"
GUIDANCE_INFO = "How strictly the words are followed."
TEMPERATURE_LABEL = "Temperature"
TEMPERATURE_INFO = "Lower is calmer and more alike."
NEGATIVE_HEAD = "Negative prompt"
NEGATIVE_LABEL = "What to keep out"
NEGATIVE_PLACEHOLDER = "for example: blue, square"

COMPARE_PROMPT_LABEL = "Prompt"
COMPARE_COLUMNS_LABEL = "Columns"
COMPARE_ROWS_LABEL = "Rows"
COMPARE_VALUES_LABEL = "Values"
COMPARE_VALUES = "Prompts one a line; others parted by commas. Seeds and steps may be ranges: 1-4."
COMPARE_SETTINGS = "Settings of all pictures"
COMPARE_RUN = "Make the grid"
COMPARE_HELP = (
    "Order and noise come from the seed, so neighbours differ by what their row or column changes and by nothing else. "
    "All pictures share the network's passes: a grid of nine takes far less than nine times as long as one. At most 36."
)

MATCH_ONE_TAB = "One picture"
MATCH_MANY_TAB = "Many pictures"
MATCH_PICTURE_LABEL = "Picture"
CAPTIONS_LABEL = "Captions, one a line (up to 20)"
CAPTIONS_PLACEHOLDER = "red apple\ngreen apple\ntomato\nfire engine"
MATCH_RUN = "Rank the captions"
MATCH_HELP = (
    "**How to read this.** TI-JEPA predicts, inside the network, the picture from the caption and the caption from the "
    "picture. The *energy* is the error that is left, minus the error without the other side: **lower is better**, and "
    "below zero the caption helps to predict the picture. The bar turns it into the *probability* that words and "
    "picture belong together, measured against pictures with captions of other pictures. *Right pairs* are pictures "
    "with their own captions that the model never learned from, *wrong pairs* the same pictures with one another's. "
    "The model has seen emoji only: trust it little on photographs. Of a picture that is not square, the central "
    "square is looked at."
)

MANY_FILES_LABEL = "Pictures, zip archives and tables"
MANY_CAPTIONS_LABEL = "Captions, one a line"
MANY_CAPTIONS_PLACEHOLDER = "red apple\ngreen apple\ntomato"
MANY_QUICK_LABEL = "Look quickly first"
MANY_QUICK_INFO = (
    "Counts from 10,000 pairs on: all pairs are compared by the two quick parts of the energy, and only the 20 best "
    "captions of each picture get the whole of it."
)
MANY_RUN = "Score all pairs"
MANY_HELP = (
    "Every picture is scored with every caption, up to 1,000 of each. A zip archive may hold pictures, a text file "
    "with captions, and a table. A table (CSV) has the columns *picture* and *caption* and says which belong together; "
    "then you also learn how often the right caption comes first. What cannot be read is named, and the rest is scored."
)

# What a grid can change, by the names that the requests know; also choices of Gradio's lists.
AXES = {
    "prompt": "prompt",
    "style": "style",
    "seed": "seed",
    "steps": "steps",
    "guidance": "guidance",
    "temperature": "temperature",
    "none": "none",
}

HEADER = {
    "title": TITLE,
    "subtitle": "Watch a picture being predicted, token by token.",
    "mode": "Switch between light and dark",
}

FITS = {
    "fits_very_well": "fits very well",
    "fits_well": "fits well",
    "may_fit": "may fit",
    "probably_not": "probably not",
    "does_not_fit": "does not fit",
}

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
    "from_history": "From your history",
    "kept": "From your history; run it again to see its steps",
    "place": "step {step} of {total}",
    "alt": 'Picture of "{prompt}", {place}',
    "tokens": "{fresh} new, {known} of {all} tokens known",
} | FITS

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

COMPARE = AXES | {
    "empty": "Choose what changes from column to column and from row to row. "
    "All pictures share one seed unless an axis changes it, so only the change shows.",
    "region": "Grid of pictures",
    "as_picture": "Download as picture",
    "as_csv": "Download as CSV",
    "making": "Making {count} pictures",
    "finished": "{count} pictures are finished",
    "axis_value": "{axis} {value}",
    "alt": 'Picture of "{prompt}", {changes}, step {step} of {total}',
    "comma": ", ",
}

RANKING = {
    "empty": "Give a picture and a few captions. They are ranked here by how well they fit.",
    "facts": "probability {percent} %  ·  energy {energy}",
    "typical": "Better than {wrong} % of wrong pairs; about as good as the typical right pair",
    "strong": "Better than {wrong} % of wrong pairs, and than {right} % of right ones",
    "weak": "Better than {wrong} % of wrong pairs; {others} % of right pairs fit better",
    "choose": "Choose a caption to see why.",
} | FITS

WHY = {
    "why": "Why this match: words and parts of the picture",
    "title": "What the words do for the picture",
    "asking": "Looking at it without each word",
    "unreachable": "The server cannot be reached; try again in a moment",
    "alt": "What the model sees of the picture",
    "patches": "Parts of the picture: arrows move, Enter chooses, Escape shows the whole caption",
    "chips": "Words of the caption",
    "whole": "Whole caption",
    "hinders": "misleads",
    "helps": "helps",
    "legend": "Colour shows how much of the error the words take away: less error is lower energy, and lower is "
    "better. The deepest green stands for {percent} %.",
    "say_whole": "With the caption, {count} of {all} parts of the picture are easier to predict; most of all {place}, "
    "where {percent} % of the error goes. The word that matters most is “{word}”.",
    "say_nothing": "No part of the picture is easier to predict with this caption than without. "
    "The word that matters most is “{word}”.",
    "say_word": "“{word}” helps most at {place}, where it takes {percent} % of the error away.",
    "say_idle": "“{word}” makes no part of the picture easier to predict.",
    "say_match": "Without this word the match would be {without} % probable instead of {percent} %.",
    "say_patch": "{place}: the caption takes {percent} % of the error away. “{word}” gives most here.",
    "say_patch_worse": "{place}: the caption adds {percent} % to the error. “{word}” gives most here.",
    "place": "row {row}, column {column}",
    "place_first": "Row {row}, column {column}",
    "patch_less": "{place}: {percent} % less error with the caption, most by “{word}”",
    "patch_more": "{place}: {percent} % more error with the caption",
    "list_match": "If a word is left out of the caption ({percent} % probable)",
    "list_patch": "What each word does at {place}",
    "worse": "{percent} % probable, energy {energy} higher: worse",
    "better": "{percent} % probable, energy {energy} lower: better",
    "takes": "takes {percent} % of the error away: helps",
    "adds": "adds {percent} % to the error: misleads",
}

MANY = {
    "empty": "Add pictures and captions. Each picture is scored with each caption, and the table fills row by row.",
    "region": "Table of matches",
    "reading": "Reading file {done} of {total}",
    "scoring": "{done} of {total} pictures scored",
    "stopped": "Stopped: {done} of {total} pictures scored, and kept",
    "finished": "{pictures} pictures and {captions} captions scored",
    "progress": "Progress",
    "left_out": "{count} left out, the rest is scored",
    "as_csv": "Download as CSV",
    "sort": "Order of the pictures",
    "sort_given": "as given",
    "sort_best": "best match first",
    "sort_doubtful": "most doubtful pairs first",
    "sort_caption": "by the caption chosen in the table",
    "by_caption": "Order the pictures by “{caption}”",
    "picture": "Picture",
    "shown": "The table shows {rows} of {pictures} pictures and {columns} of {captions} captions. The CSV holds all.",
    "recall": "The right caption comes first for {first} % of {count} pictures, and is among the first five for "
    "{five} %.",
    "recall_back": "The right picture comes first for {first} % of {count} captions, and is among the first five for "
    "{five} %.",
    "quick": "Large table: only the {best} best captions of each picture by a quick look were scored in full. "
    "The others show a dot.",
    "legend": "Numbers are the probability in % that picture and caption belong together. "
    "A ring marks the pairs of your table.",
    "cell": "{caption}: probability {percent} %, energy {energy} (lower is better)",
}

# (probability from which on it applies, key of the words in RANKING), highest first
VERDICTS = (
    (0.85, "fits_very_well"),
    (0.60, "fits_well"),
    (0.40, "may_fit"),
    (0.15, "probably_not"),
    (0.0, "does_not_fit"),
)


def verdict(probability: float) -> str:
    """Plain English words for a match probability in [0, 1]; the page chooses its own by the same thresholds."""
    return FITS[next(key for threshold, key in VERDICTS if probability >= threshold)]
