"""The words of the page in English; texts_zh.py has the same names and keys in Chinese.

Strings are shown by Gradio's own components, where language.py replaces them; dictionaries are the tables of fragments.
The browser fills in {names}. Data, as opposed to words, is kept in tuples or in VALUES and is not translated.
Error messages (`ValueError`) are English everywhere: on the page, for programs and on the command line.
"""

TITLE = "JEPA studio"

# Values of controls; English, because the models read nothing else.
EXAMPLES = (
    "red apple, twemoji style",
    "grinning face, noto style",
    "waving hand, openmoji style",
    "automobile, fluent 3d style",
    "red heart, fluent flat style",
    "tulip, twemoji style",
)
MATCH_EXAMPLES = {  # a picture of jepa_app/ui/match/examples -> captions to rank for it
    "red-apple": ("red apple", "green apple", "tomato", "fire engine"),
    "blue-apple": ("red apple", "blue apple", "green apple", "apple"),
    "rose-left-of-cat": ("a rose left of a cat", "a rose right of a cat", "a rose above a cat", "a cat"),
    "three-tulips": ("one tulip", "two tulips", "three tulips", "three roses"),
}
VALUES = {
    "compare_prompt": "red apple, twemoji style",
    "compare_columns": "red apple, twemoji style\ngreen apple, twemoji style\nred heart, twemoji style",
    "compare_rows": "1, 1.25, 2",
    "learn_prompt": "red apple, twemoji style",
}

GENERATE_TAB = "Generate"
COMPARE_TAB = "Compare"
MATCH_TAB = "Match"
LEARN_TAB = "Learn"

PROMPT_LABEL = "What should the picture show?"
PROMPT_PLACEHOLDER = "red apple, twemoji style"
RUN = "Generate"
STOP = "Stop"
STYLE_LABEL = "Style"
STYLE_ANY = "any"
EXAMPLES_LABEL = "Try one of these"
SEED_LABEL = "Seed"
SEED_PLACEHOLDER = "random"
DICE = "Random"
STEPS_LABEL = "Steps"
STEPS_INFO = "With more steps, fewer tokens are predicted at a time."
GUIDANCE_LABEL = "Guidance"
GUIDANCE_INFO = "How closely the picture follows the prompt."
TEMPERATURE_LABEL = "Temperature"
TEMPERATURE_INFO = "Lower values give calmer, more similar pictures."
BEST_OF_LABEL = "Best of"
BEST_OF_INFO = "Makes several pictures at once and shows the one that fits the prompt best."
BEST_OF_ONE = "just one"
NEGATIVE_HEAD = "Negative prompt"
NEGATIVE_LABEL = "What should the picture not show?"
NEGATIVE_PLACEHOLDER = "for example: blue, square"

LEARN_PROMPT_LABEL = "Your own prompt"
LEARN_SETTINGS = "Settings for this run"
LEARN_RUN = "Walk me through it"
LEARN_SAMPLE = "Another example"

COMPARE_PROMPT_LABEL = "Prompt"
COMPARE_COLUMNS_LABEL = "Columns"
COMPARE_ROWS_LABEL = "Rows"
COMPARE_VALUES_LABEL = "Values"
COMPARE_VALUES = "One prompt per line; other values separated by commas. Seeds and steps can be ranges, such as 1-4."
COMPARE_SETTINGS = "Settings for all pictures"
COMPARE_RUN = "Make the grid"
COMPARE_HELP = (
    "The seed sets the order and the noise, so neighbouring pictures differ only in what their row or column changes. "
    "All pictures share the network's forward passes: a grid of nine takes far less than nine times as long as one "
    "picture. A grid has at most 36 pictures."
)

MATCH_ONE_TAB = "One picture"
MATCH_MANY_TAB = "Many pictures"
MATCH_PICTURE_LABEL = "Picture"
CAPTIONS_LABEL = "Captions, one per line (up to 20)"
CAPTIONS_PLACEHOLDER = "red apple\ngreen apple\ntomato\nfire engine"
MATCH_RUN = "Rank the captions"
MATCH_HELP = (
    "**How to read this.** Inside the network, TI-JEPA predicts the picture from the caption and the caption from "
    "the picture. The *energy* is the error that remains, compared with the error without the other side and with the "
    "errors that other captions and pictures leave: **lower is better**, and below zero the probability is above one "
    "half. The bar turns it into the *probability* that words and picture belong together, measured against captions "
    "of other pictures, half of them of the same group. A caption that names a colour, a side or a number must also "
    "beat its *foils*, the same words with another colour, side or number. *Right pairs* are pictures that the model "
    "never learned from, with their own captions; *wrong pairs* are the same pictures with one another's captions. The "
    "model has seen only emoji, so do not rely on it for photographs. If a picture is not square, only its central "
    "square is used."
)

MANY_FILES_LABEL = "Pictures, zip archives and tables"
MANY_CAPTIONS_LABEL = "Captions, one per line"
MANY_CAPTIONS_PLACEHOLDER = "red apple\ngreen apple\ntomato"
MANY_QUICK_LABEL = "Take a quick look first"
MANY_QUICK_INFO = (
    "Applies to 2,000 pairs or more: all pairs are compared by the two quick parts of the energy, and only the 20 best "
    "captions of each picture and the 5 best pictures of each caption get the full energy."
)
MANY_RUN = "Score all pairs"
MANY_HELP = (
    "Every picture is scored with every caption, up to 1,000 of each. A zip archive can contain pictures, a text file "
    "with captions, and a table. A table (CSV) has the columns *picture* and *caption* and lists which belong "
    "together; with a table, you also see how often the right caption comes first. Files and rows that cannot be read "
    "are listed, and the rest is scored."
)

# What a grid can change, by the names used in requests; also the choices in Gradio's drop-down lists.
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

WAITING = {
    "waiting": "Waiting for the model",
    "queued": "Waiting: {ahead} ahead of you",
    "queued_for": "Waiting: {ahead} ahead of you, about {seconds} s",
}

PLAYER = {
    "player": "Player: Space plays, arrow keys step, M changes the view",
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
    "go_on": "Continue from step {step}",
    "redo": "Redo a part",
    "paint_help": "Paint over a part. It is made again with the words in the prompt box, and its border changes too.",
    "paint_keys": "Arrow keys move, Space marks, Enter starts, Escape cancels.",
    "paint_go": "Redo {count} tokens",
    "paint_room": "Leave room around it",
    "paint_clear": "Clear",
    "paint_leave": "Cancel",
    "tile_marked": "row {row}, column {column}, marked",
    "tile_free": "row {row}, column {column}, not marked",
    "speed": "Speed",
    "legend_first": "first",
    "legend_last": "last",
    "candidates": "All candidates, best match first",
    "candidate": "Show candidate {place}: seed {seed}, {words}, energy {energy}",
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
    "see_through": "Transparent background",
    "example": "An example, made earlier; write a prompt to make your own",
    "exporting": "Writing the file",
    "exported": "Saved as {name}",
    "unreachable": "The server cannot be reached; try again in a moment",
    **WAITING,
    "coming_back": "The connection was lost; continuing in a moment",
    "welcome_back": "Your last run",
    "lost": "The server no longer has your run, or cannot be reached",
    "again": "Run it again",
    "alt_begin": "The starting picture",
    "running": "Step {step} of {total}",
    "choosing": "Finishing the {count} pictures and choosing the best match",
    "finished": "Finished in {seconds} s",
    "stopped": "Stopped at step {step} of {total}; the picture so far is kept",
    "from_history": "From your history",
    "kept": "From your history; run it again to see its steps",
    "place": "step {step} of {total}",
    "alt": 'Picture of "{prompt}", {place}',
    "tokens": "{fresh} new, {known} of {all} tokens known",
    "planned": "Planning: {known} of {all} plan tokens",
} | FITS

RECALL = {
    "from_picture": "Settings from a picture",
    "begin_with": "Start from a picture",
    "begun": "{name} is on the stage; paint over the part to redo",
    "copy_link": "Copy link",
    "filled": "The settings from {name} are filled in",
    "too_large": "{name} is larger than {most} MB",
    "link_copied": "A link with these settings has been copied",
    "link_in_address": "The page's address now contains these settings; copy it from the address bar",
    "link_opened": "The settings from the link are filled in; press Generate to run them",
    "link_partly": "These settings in the link were ignored: {names}",
    "unreachable": "The server cannot be reached; try again in a moment",
}

UNKNOWN = {
    "unknown": "Never seen in training: {words}",
    "read_as": "Read as: {caption}",
    "new_pair": "Never seen in this style: {thing}. Its shape comes from other styles.",
}

HISTORY = {
    "history": "Your latest pictures, kept only in this browser",
    "history_clear": "Clear",
    "history_item": 'Show "{prompt}", seed {seed}, and restore its settings',
}

COMPARE = AXES | {
    "empty": "Choose what changes from column to column and from row to row. "
    "All pictures share one seed unless an axis changes it, so they differ only in what you change.",
    "region": "Grid of pictures",
    "as_picture": "Download as picture",
    "as_csv": "Download as CSV",
    "making": "Making {count} pictures",
    "finished": "{count} pictures are finished",
    "stopped": "Stopped with {count} of {all} pictures finished",
    **WAITING,
    "axis_value": "{axis} {value}",
    "alt": 'Picture of "{prompt}", {changes}, step {step} of {total}',
    "comma": ", ",
}
LEARN = {
    "outline": "What the walkthrough shows",
    "outline_title": "One real run, opened up",
    "outline_text": "Your prompt becomes a picture here, and every number along the way is kept. In seven short "
    "stops you see what the model knew, what it expected and why. Nothing is staged: everything is computed from your "
    "prompt.",
    "progress_0": "Drawing the picture, step by step",
    "progress_1": "Drawing it again without guidance",
    "progress_2": "Predicting the finished picture at each step",
    "progress_3": "Reading each tile's expectations and attention",
    **WAITING,
    "progress": "Progress of the lesson",
    "progress_alt": "The picture so far",
    "ready": "The walkthrough is ready: {total} steps, {all} tiles",
    "of_run": '"{prompt}", seed {seed}',
    "controls": "Step and tile, for all stops",
    "step": "Step",
    "step_of": "Step {step} of {total}",
    "step_value": "step {step} of {total}: {known} of {all} tiles known",
    "earlier": "One step back",
    "later": "One step forward",
    "tile": "Row {row}, column {column}",
    "tile_alt": "The chosen tile, row {row}, column {column}",
    "tile_born": "Drawn in step {born}",
    "tile_value": "row {row}, column {column}, drawn in step {born}: {value}",
    "tile_plain": "row {row}, column {column}, drawn in step {born}",
    "to_birth": "Go to the step that draws this tile",
    "stops": "Stops",
    "choose": "Choose a tile here: {board}",
    "equation": "The equation",
    "title_tokens": "Tokens",
    "short_tokens": "A picture as a board of tiles, each a short list of numbers",
    "plain_tokens": "The picture is a board of tiles. The model never handles pixels, only one short list of "
    "numbers for each tile: its token.",
    "board_tokens": "Your finished picture",
    "hint_tokens": "Choose any tile, here or on any other board; all stops show it.",
    "numbers": "This tile as {count} numbers",
    "numbers_alt": "Bars of the {count} numbers, from {least} to {most}",
    "symbols_tokens": "xᵢ is the token of tile i: C numbers from image_tokenizer.encode; image_tokenizer.decode "
    "turns all of them back into pixels.",
    "title_context": "Context and mask",
    "short_context": "What is known, what is hidden, what is predicted next",
    "plain_context": "At each step, the tiles already drawn are the context and all others are masked. A few masked "
    "tiles, picked at random, are predicted next.",
    "plan_text": "Before any tile, the model draws a plan: {all} tokens of the whole picture at a very low resolution. "
    "The plan shows through wherever no tile is drawn yet.",
    "plan_step": "Step {step} belongs to the plan: {known} of {all} plan tokens are known after it.",
    "board_before": "Before step {step}: {known} known",
    "board_after": "After step {step}: {known} known",
    "key_asked": "predicted in this step",
    "key_masked": "masked",
    "key_given": "drawn before this step",
    "key_pale": "drawn in a later step",
    "counts": "Tiles predicted in each step: few at first, when little is known, and more towards the end.",
    "counts_alt": "Tiles predicted in each step, from the first to the last: {counts}",
    "symbols_context": "mₛ is the number of tiles still masked after s of the S steps that draw tiles (those of the "
    "plan do not count), and N is the number of all tiles; see cosine_schedule in masking.py. The order is a random "
    "permutation drawn from the seed.",
    "title_prediction": "Prediction",
    "short_prediction": "The whole picture the model would paint right now",
    "plain_prediction": "From the context alone, the model can already paint every masked tile. This is the picture "
    "it would end with if step {step} were the last.",
    "board_now": "If step {step} were the last",
    "board_end": "What it became",
    "prediction_note": "Everything else on the left is painted at once, from these tiles and your words. Change the "
    "step to see the guess come closer to the finished picture.",
    "symbols_prediction": "zᵢ is the condition of tile i: network.extend reads the known tokens, and network.predict "
    "answers for the position. x̂ᵢ is what the denoiser makes of that tile's own noise εᵢ. As in a last step, all "
    "masked tiles are predicted together.",
    "title_target": "The JEPA target",
    "short_target": "Features predicted before any pixel exists",
    "plain_target": "Besides its pixels, the model predicts how its own encoder will perceive a tile once the "
    "whole picture is there. The darker a tile, the closer the prediction.",
    "board_target": "Predicted features, step {step}",
    "early": "Small tiles were drawn earlier and keep the value from that step.",
    "likeness": "similarity of the chosen tile in step {step}",
    "likeness_kept": "similarity of the chosen tile when it was drawn, in step {step}",
    "chart_tile": "chosen tile",
    "chart_mean": "mean of all masked tiles",
    "chart_alt": "Similarity over the steps. Mean of the masked tiles: from {first} in the first step to {last} in "
    "the last. Chosen tile: {tile}.",
    "chart_steps": "step",
    "symbols_target": "h is prediction_head. f̄ is the target encoder, a moving average of the context encoder during "
    "training, applied to all tokens of the finished picture. Training lowers the smooth L1 distance Lₚ; the board "
    "shows the cosine similarity of the same two lists of numbers, which is 1 where they point the same way.",
    "title_denoising": "Denoising one token",
    "short_denoising": "From noise to a clean tile in a few corrections",
    "plain_denoising": "Every tile starts as pure noise. In {count} corrections, steered by what the tile should be, "
    "the noise flows into a clean token.",
    "board_denoising": "All tiles at {stage}",
    "states": "The chosen tile, from noise to clean",
    "guesses": "What the denoiser expects it to become",
    "stage_noise": "noise",
    "stage_clean": "clean",
    "stage_time": "t = {time}",
    "stage_label": "Show all tiles at {stage}",
    "states_alt": "The chosen tile at {stage}",
    "guesses_alt": "The clean tile that the denoiser expects at {stage}",
    "denoising_note": "Each tile is shown as it was denoised in its own step.",
    "symbols_denoising": "xₜ is the noisy token at time t, from 0 (noise) to 1 (clean). D is the denoiser, and zᵢ is "
    "the condition of the tile. FlowMatching.sample in flow.py follows the slope with the two-step Adams-Bashforth "
    "method, with one evaluation of D per correction.",
    "symbols_diffusion": "These weights denoise by Gaussian diffusion: D predicts the noise ε in xₜ, and "
    "GaussianDiffusion.sample in flow.py removes it bit by bit; ᾱ is the share of signal.",
    "title_fusion": "Fusion with your words",
    "short_fusion": "Which words each tile reads",
    "plain_fusion": "Before a tile is painted, it reads your words once more. Choose a word to see which tiles "
    "read it, or a tile to see which words it reads.",
    "board_fusion": "Tiles that read {word}",
    "words_of_tile": "What the chosen tile reads",
    "word_start": "start of prompt",
    "word_end": "end of prompt",
    "word_label": "{word}: {share} %. Show the tiles that read it",
    "reads_most": "In this step the tiles read {word} most: {share}\u00a0% on average.",
    "fusion_note": "Shares are means over {heads} attention heads and add up to 100 %. The start and the end of "
    "the prompt are special tokens of the text encoder; they carry the meaning of the prompt as a whole. Words reach "
    "the picture in two more ways: as part of the context, and as a mean added to every tile. A small share here "
    "therefore does not mean that a word is ignored.",
    "symbols_fusion": "qᵢ comes from the predictor's output for tile i, and kⱼ and vⱼ from the text features of word "
    "piece j. E is the width of a head. See network.fusion, a CrossAttention from models/blocks.py. The shares of a "
    "word's pieces are added up.",
    "title_guidance": "Guidance off and on",
    "short_guidance": "The same seed, with and without guidance",
    "plain_guidance": "With guidance, the denoiser predicts twice, once with your words and once without. The "
    "picture follows the difference between the two, exaggerated.",
    "board_off": "Off, after step {step}",
    "board_on": "On, after step {step}: scale {scale}",
    "guidance_same": "This run was made with guidance 1, which means off: both pictures are the same.",
    "guidance_note": "Order and noise are the same on both sides. Every step uses the guidance scale {full}.",
    "mixed_note": "“{thing}” was never shown in this style. What your words predict is therefore a mixture: the prompt "
    "without its style has a share of {plan} in the plan and of {picture} in the picture. Below zero means away from "
    "it, towards the style.",
    "symbols_guidance": "D is the denoiser's prediction under a condition: z from your words, or z⁰ from a learned "
    "null text (or from your negative prompt). w is the guidance scale you set. See conditioned in flow.py and "
    "Picture.scale in picture.py.",
}

RANKING = {
    "empty": "Add a picture and a few captions. The captions are ranked here by how well they fit.",
    "facts": "probability {percent} %  ·  energy {energy}",
    "facts_among": "probability {percent} %  ·  {share} % among these captions  ·  energy {energy}",
    "differs_colour": "close: the colour differs",
    "differs_side": "close: the sides differ",
    "differs_number": "close: the number differs",
    "closer": "“{caption}” fits better",
    "typical": "Better than {wrong} % of wrong pairs; about as good as a typical right pair",
    "strong": "Better than {wrong} % of wrong pairs and {right} % of right pairs",
    "weak": "Better than {wrong} % of wrong pairs; {others} % of right pairs fit better",
    "choose": "Choose a caption to see why.",
} | FITS

WHY = {
    "why": "Why this match: words and parts of the picture",
    "title": "What the words do for the picture",
    "asking": "Scoring the caption without each word",
    "unreachable": "The server cannot be reached; try again in a moment",
    "alt": "What the model sees of the picture",
    "patches": "Parts of the picture: arrow keys move, Enter chooses, Escape shows the whole caption",
    "chips": "Words of the caption",
    "whole": "Whole caption",
    "hinders": "misleads",
    "helps": "helps",
    "legend": "Colour shows how much of the error the words remove. Less error means lower energy, and lower is "
    "better. The deepest green stands for {percent} %.",
    "say_whole": "With the caption, {count} of {all} parts of the picture are easier to predict, above all {place}, "
    "where the error is {percent} % lower. The word that matters most is “{word}”.",
    "say_nothing": "No part of the picture is easier to predict with this caption than without. "
    "The word that matters most is “{word}”.",
    "say_word": "“{word}” helps most at {place}, where it removes {percent} % of the error.",
    "say_idle": "“{word}” makes no part of the picture easier to predict.",
    "say_match": "Without this word, the match would be {without} % probable instead of {percent} %.",
    "say_patch": "{place}: the caption removes {percent} % of the error. “{word}” helps most here.",
    "say_patch_worse": "{place}: the caption adds {percent} % to the error. “{word}” helps most here.",
    "place": "row {row}, column {column}",
    "place_first": "Row {row}, column {column}",
    "patch_less": "{place}: {percent} % less error with the caption, mostly because of “{word}”",
    "patch_more": "{place}: {percent} % more error with the caption",
    "list_match": "If a word is left out of the caption ({percent} % probable)",
    "list_patch": "What each word does at {place}",
    "worse": "{percent} % probable, energy {energy} higher: worse",
    "better": "{percent} % probable, energy {energy} lower: better",
    "takes": "removes {percent} % of the error: helps",
    "adds": "adds {percent} % to the error: misleads",
}

MANY = {
    "empty": "Add pictures and captions. Each picture is scored with each caption, and the table fills row by row.",
    "region": "Table of matches",
    "waiting": "Waiting: {ahead} ahead of you",
    "reading": "Reading file {done} of {total}",
    "scoring": "{done} of {total} pictures scored",
    "stopped": "Stopped: {done} of {total} pictures scored; these results are kept",
    "finished": "{pictures} pictures and {captions} captions scored",
    "progress": "Progress",
    "left_out": "{count} left out; the rest is scored",
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
    "quick": "Large table: a quick look chose the {best} best captions of each picture and the best pictures of each "
    "caption, and only these were scored in full. The others show a dot.",
    "legend": "Numbers are the probability in % that picture and caption belong together. "
    "A ring marks the pairs listed in your table.",
    "cell": "{caption}: probability {percent} %, energy {energy} (lower is better)",
}

# (lowest probability at which it applies, key of the words in FITS), highest first
VERDICTS = (
    (0.85, "fits_very_well"),
    (0.60, "fits_well"),
    (0.40, "may_fit"),
    (0.15, "probably_not"),
    (0.0, "does_not_fit"),
)


def verdict(probability: float) -> str:
    """Return a match probability in [0, 1] in plain English; the page chooses its words by the same thresholds."""
    return FITS[next(key for threshold, key in VERDICTS if probability >= threshold)]
