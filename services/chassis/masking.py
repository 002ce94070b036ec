"""Take secrets out of text that people are shown: lines of logs, the last words of programs. Standard library only.

A secret is known by the name before it, by its place in a URL, or by how keys of its kind begin. Text is masked before
it becomes part of a line of JSON: there quotes are escaped, and names are harder to find. Every pattern takes time in
proportion to the text, whatever somebody writes to a log.
"""

import re

_NAMES = (
    r"api[-_]?key|secret(?:[-_]?access)?(?:[-_]?key)?|(?:private|vault)[-_]?key|password|passwd|passphrase|signature"
    r"|(?:hf|access|auth|refresh|security|session)[-_]token|authorization|cookie"
)
_QUOTE = r"\\*[\"']"
# A value in quotes goes on to the same quote, any other one to where a value ends in JSON, headers, URLs and settings.
_NAMED = (
    rf"(?P<name>(?:{_NAMES})(?:{_QUOTE})?\s*(?:[:=]|(?<=[\"']),)\s*(?:(?:Bearer|Basic)\s+)?)"
    rf"(?:(?P<quote>{_QUOTE})(?:(?!(?P=quote)).)+|[^\s\"',}}&;)\\]+)"
)
_IN_URL = r"(?P<user>://[^\s/@:\"'?#]{0,100}:(?!\d+/))[^\s@\"']{1,300}(?=@)|(?P<query>[?&](?:sig|token)=)[^&\s\"']+"
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
_KEYS = (
    rf"(?P<head>{_START}(?:(?:mk|whsec)[-_]|Bearer\s+|eyJ))[A-Za-z0-9_\-.+/=]{{6,}}"
    rf"|(?P<hub>{_START}(?:hf_|sk-|gh[pousr]_|github_pat_))[A-Za-z0-9_\-]{{16,}}"
)
_SECRETS = re.compile("|".join((_NAMED, _IN_URL, _KEYS)), re.IGNORECASE)
_SHOWN = ("name", "user", "query", "head", "hub")


def mask(text: str) -> str:
    """Return the text with anything that looks like a secret replaced by asterisks."""
    return _SECRETS.sub(lambda found: "".join(found[group] or "" for group in (*_SHOWN, "quote")) + "***", text)
