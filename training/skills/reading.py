"""Reasoning that reads a sum number by number: what stands there, and what it does.

"Grandma has 9 jars with 36 plums each, and 9 plums left over" becomes `Grandma has 9 jars with: start.
jars with 36 plums each: *. and 9 plums left over: +.` before the expression is written. So each
sign is decided beside the words that decide it, and no number of the text is forgotten.
"""

from __future__ import annotations

import re

NUMBER = re.compile(r"\d+(?:\.\d+)?")
END = re.compile(r"[.?!:;,\n]+(?=\s|$)|\n")
BEFORE, AFTER = 2, 3  # words around a number


def signs(code: str) -> list[tuple[str, str]]:
    """The expression's numbers in order, each with the sign before it."""
    if share := re.fullmatch(r"round\((\S+) ([+-]) \1 \* (\S+) / 100, 2\)", code):
        return [(share[1], ""), (share[3], share[2] + "%")]
    body = code.removeprefix("round(").removesuffix(", 2)") if code.startswith("round(") else code
    found, last = [], 0
    for match in re.finditer(r"\d+(?:\.\d+)?", body):
        between = re.sub(r"[()\s]", "", body[last : match.start()])
        found.append((match.group(), between))
        last = match.end()
    return found


def phrases(text: str) -> list[tuple[str, str]]:
    """Each number of a text, and the words around it (no further than the next comma or stop)."""
    spans = [m.span() for m in NUMBER.finditer(text)]
    result = []
    for i, (start, end) in enumerate(spans):
        low = spans[i - 1][1] if i else 0
        high = spans[i + 1][0] if i + 1 < len(spans) else len(text)
        left, right = text[low:start], text[end:high]
        left = END.split(left)[-1]
        right = END.split(right)[0]
        before = re.findall(r"\S+\s*", left)[-BEFORE:]
        after = re.findall(r"\s*\S+", right)[:AFTER]
        result.append((text[start:end], "".join((*before, text[start:end], *after)).strip(" ,")))
    return result


def read(text: str, code: str) -> str:
    """The numbers of the text that the code uses, in the text's order, and the sign of each."""
    left = signs(code)
    said = []
    for number, phrase in phrases(text):
        at = next((i for i, (n, _) in enumerate(left) if n == number), None)
        if at is None:
            continue
        sign = left.pop(at)[1]
        said.append(f"{phrase}: {sign or 'start'}.")
    return " ".join(said)
