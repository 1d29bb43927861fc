"""Cuts Rust source into code, comments and literals. Shared by the checks of this folder."""

import re
import sys

sys.dont_write_bytecode = True

_TOKEN = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*)
    |(?P<raw>\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes))
    |(?P<string>(?:\b[bc])?"(?:\\.|[^"\\])*")
    |(?P<char>(?:\bb)?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\\'\n])')
    """,
    re.X | re.S,
)


def parts(text):
    """Yields (kind, start, end) of each comment ("doc" or "comment"), "string" and "char", in order."""
    position = 0
    while match := _TOKEN.search(text, position):
        start, position = match.span()
        kind = match.lastgroup
        if match["comment"]:
            if match["comment"] == "/*":
                position = _end_of_block(text, start)
            doc = re.match(r"//[/!](?!/)|/\*[*!](?![*/])", text[start:position])
            kind = "doc" if doc else "comment"
        elif match["raw"]:
            kind = "string"
        yield kind, start, position


def _end_of_block(text, start):
    depth = 0
    for match in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return start + match.end()
    return len(text)


def blank(text, start, end):
    """The text with spaces from start to end, and the line breaks as they were."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def code(text):
    """The text with comments and literals blanked: every position stays the same."""
    pieces, last = [], 0
    for _, start, end in parts(text):
        pieces += [text[last:start], re.sub(r"[^\n]", " ", text[start:end])]
        last = end
    return "".join(pieces) + text[last:]


def end_of_item(text, start):
    """Where the item that starts there ends. The text is code without comments and literals."""
    is_use = re.match(r"\s*(pub(\s*\([^)]*\))?\s+)?use\b", text[start:])
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth < 0:
                return position
            if depth == 0 and text[position] == "}" and not is_use:
                return position + 1
        elif text[position] == ";" and depth == 0:
            return position + 1
    return len(text)


def matching(text, start):
    """Where the bracket that opens at start is closed, and one further."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in "([{") - (text[position] in ")]}")
        if depth == 0:
            return position + 1
    return len(text)
