"""The words of the page: both languages say the same things, and Gradio's own components are found by theirs."""

import re

import pytest

from jepa_app.ui import texts, texts_zh
from jepa_app.ui.language import head, tables, translations

CHINESE = re.compile("[\u4e00-\u9fff]")
# Names, numbers and values that are the same in both
SHARED = {"TITLE", "EXAMPLES", "MATCH_EXAMPLES", "VALUES", "VERDICTS"}
ALIKE = {"HEADER.title", "COMPARE.axis_value", "COMPARE.comma"}


def spoken(module: object) -> dict[str, str]:
    """Everything a module says, by name; the entries of tables as NAME.key."""
    said = {}
    for name, words in vars(module).items():
        if name.isupper() and name not in SHARED:
            entries = words.items() if isinstance(words, dict) else [("", words)]
            said |= {f"{name}.{key}".rstrip("."): text for key, text in entries}
    return said


def test_both_languages_have_the_same_words() -> None:
    assert sorted(spoken(texts)) == sorted(spoken(texts_zh))
    tables_of = [[name for name, words in vars(module).items() if isinstance(words, dict) and name.isupper()]
                 for module in (texts, texts_zh)]  # fmt: skip
    assert set(tables_of[0]) - SHARED == set(tables_of[1])


@pytest.mark.parametrize("name", sorted(spoken(texts)))
def test_a_word_is_translated_with_its_placeholders(name: str) -> None:
    english, chinese = spoken(texts)[name], spoken(texts_zh)[name]
    assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese))
    assert not CHINESE.search(english)
    assert CHINESE.search(chinese) or name in ALIKE
    assert chinese == chinese.strip()


def test_one_english_word_has_one_translation() -> None:
    pairs = {(spoken(texts)[name], spoken(texts_zh)[name]) for name in spoken(texts) if "." not in name}
    assert len(pairs) == len({english for english, _ in pairs})
    told = translations()
    assert pairs <= set(told.items())
    assert (told["any"], told["prompt"]) == (texts_zh.STYLE_ANY, "提示词")


def test_the_head_is_one_script() -> None:
    assert head().count("<script>") == head().count("</script>") == 1
    assert head().count("<") == 2 + head().count("< ")
    assert tables("PLAYER")["zh"]["pause"] == "暂停"
