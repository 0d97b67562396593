"""Plurals of labels, for counting what they name: "cats with tears of joy"; None for what is better not counted."""

import re

MOST_WORDS = 4  # in what is counted; anything longer is a sentence

_IRREGULAR = {
    "man": "men",
    "woman": "women",
    "person": "people",
    "child": "children",
    "tooth": "teeth",
    "foot": "feet",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "leaf": "leaves",
    "loaf": "loaves",
    "knife": "knives",
    "wolf": "wolves",
    "elf": "elves",
    "scarf": "scarves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "mosquito": "mosquitoes",
    "hero": "heroes",
    "superhero": "superheroes",
    **{same: same for same in ("sheep", "fish", "blowfish", "jellyfish", "deer", "moose", "bison", "shrimp", "squid")},
}
_NEVER_COUNTED = re.compile(
    "men|women|people|children|rice|butter|garlic|ginger|sushi|salt|coral|confetti|information|evidence|money|luggage|"
    "baggage|food|salad|bread|bacon|lightning|fog|rain|water|weather|hockey|football|badminton|lacrosse|golf|polo|way|"
    "fuji|left|right|up|down|horizontally|vertically|curly|dizzy|multiply|wireless|foggy|struck|done|all|no"
)
_NOUNS_IN_ING = frozenset({"wing", "ring", "king", "building", "string", "dumpling"})
_ACTORS = frozenset({"man", "woman", "person", "face", "head", "cat", "chart"})  # "man frowning" are men frowning
_AFTER_THE_NOUN = re.compile(
    r" (?:with|without|of|in|on|at|behind|between|showing|over|from|for|to|inside|under|beside)\b.*"
)
_SIGNS = re.compile(r"[(!/“”’#0-9,]|-thirty|o’clock")
_NO_NOUN_PHRASE = frozenset({"and", "or", "is", "are", "a", "an", "the", "some", "one", "two", "three", "no"})


def plural(label: str) -> str | None:
    """The plural of what a label names; None for plurals, names, sentences and what is not counted."""
    rest = _AFTER_THE_NOUN.search(label)
    head, tail = (label[: rest.start()], rest.group()) if rest else (label, "")
    words = head.split()
    if not words or len(words) > MOST_WORDS or not head[0].islower() or ":" in label or _SIGNS.search(head):
        return None
    if not _NO_NOUN_PHRASE.isdisjoint(words):
        return None
    doing = words[0] in _ACTORS and any(word.endswith("ing") for word in words[1:2])
    many = _plural_noun(words[0] if doing else words[-1])
    if many is None:
        return None
    if doing:
        return " ".join([many, *words[1:]]) + tail
    first = [_IRREGULAR[word] if word in {"man", "woman"} else word for word in words[:-1]]  # "women pilots"
    return " ".join([*first, many]) + tail


def _plural_noun(noun: str) -> str | None:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if _NEVER_COUNTED.fullmatch(noun) or not noun[-1].islower():
        return None
    if (noun.endswith("ing") and noun not in _NOUNS_IN_ING) or (noun.endswith("ed") and len(noun) > len("sleds")):
        return None  # what somebody does or has done
    if noun.endswith(("man", "person")) and noun not in {"human", "talisman"}:
        return noun.removesuffix("man") + "men" if noun.endswith("man") else noun.removesuffix("person") + "people"
    if noun.endswith("s") and not noun.endswith(("ss", "us")):
        return None
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
