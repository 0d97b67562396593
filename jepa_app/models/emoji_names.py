"""What emoji are called: the names of Unicode's CLDR, as the captions of the corpus use them.

The table `emoji.json` (sequence without variation selectors -> name) is made from emojibase-data 17.0.0 (MIT).
"""

import functools
import json
import re
from pathlib import Path

TABLE = Path(__file__).with_name("emoji.json")
_MARKS = re.compile("[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")  # how an emoji is drawn, and skin tones


def name_emoji(text: str) -> str:
    """Replace every emoji with its name: "❤️" is a red heart, "🇯🇵" the flag of Japan, "1️⃣" a keycap.

    The longest sequence with a name counts. Skin tones are left out.
    """
    table, pattern = _table()
    return pattern.sub(lambda found: f" {table[found[0]]} ", _MARKS.sub("", text))


@functools.cache
def _table() -> tuple[dict[str, str], re.Pattern[str]]:
    table = dict[str, str](json.loads(TABLE.read_text(encoding="utf-8")))
    longest_first = sorted(table, key=len, reverse=True)
    return table, re.compile("|".join(map(re.escape, longest_first)))
