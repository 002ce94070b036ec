"""README.zh-CN.md says what README.md says: the same sections, commands, examples and links."""

import re

import pytest

from deploy.tooling.sources import ROOT

pytestmark = pytest.mark.unit

ENGLISH = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text("utf-8")
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(text: str) -> list[str]:
    """The code of a page without its comments, which are in its language."""
    return ["\n".join(re.sub(r"\s+# .*", "", line) for line in block.splitlines()) for block in BLOCK.findall(text)]


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def test_both_have_the_same_examples() -> None:
    assert examples(CHINESE) == examples(ENGLISH)


def test_both_have_the_same_sections() -> None:
    levels = [re.findall(r"^#+(?= )", prose(text), re.MULTILINE) for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_every_section_names_the_same_commands_and_links() -> None:
    for english, chinese in zip(
        *(re.split(r"^## .*$", prose(t), flags=re.MULTILINE) for t in (ENGLISH, CHINESE)), strict=True
    ):
        links = [
            set(re.findall(r"\]\((.*?)\)", text)) - {"README.md", "README.zh-CN.md"} for text in (english, chinese)
        ]
        assert links[0] == links[1], english[:80]
        assert set(re.findall(r"`(make [\w-]+|MODELRY_\w+|/[\w./]+)`", english)) <= set(
            re.findall(r"`([^`]+)`", chinese)
        )


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    declared = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    documented = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert declared is not None
    assert documented == set(declared.group(1).split())
