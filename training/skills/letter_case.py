"""Instructions on capitals and small letters, put together from parts.

"No capitals" and "capitals only" share their words, and a small model that learns whole sentences
takes one for the other. Here what is named (capitals or small letters) and what is said of it
(wanted or forbidden) meet in every combination.
"""

from __future__ import annotations

from training.cases import Maker

CAPITALS = """capital letters|capitals|upper case|uppercase|uppercase letters|upper-case letters|caps|big letters|block letters
block capitals|upper-case characters|capitalised letters|all caps|letters in upper case""".replace("\n", "|").split("|")  # fmt: skip
SMALL = """small letters|lower case|lowercase|lowercase letters|lower-case letters|little letters|lower-case characters
letters in lower case|non-capital letters|uncapitalised letters|minuscules""".replace("\n", "|").split("|")  # fmt: skip
WANTED = """Use only {x}.|Write it all down in {x}.|Give answers in {x} only.|Stick to {x}.|Reply in nothing but {x}.|{x} only
Our display shows {x} only.|The reader sees {x} and nothing else.|Only {x} are allowed here.|{x}, please, from the first word to the last.
All of your answer has to be in {x}.|We publish in {x}.|Every answer is to be in {x}, always.|I want {x} throughout.|Keep to {x} whatever you say.
The ticker can only print {x}.|House style: {x}.|Please write with {x} and no others.|Format: {x}|Your replies go to a sign that needs {x}.
Whatever the question, {x}.|Make it all {x}.|Put each answer into {x}.|Our readers insist on {x}.|{x} are a must.|For this customer: {x} throughout.""".replace("\n", "|").split("|")  # fmt: skip
FORBIDDEN = """Never use {x}.|No {x}.|Avoid {x} altogether.|Do not write any {x}.|{x} are forbidden.|Our printer cannot print {x}.
I do not want to see {x}.|Write without {x}.|Leave out {x} entirely.|Our font has no {x}.|Do without {x}, also at the start of a sentence.
{x} are not allowed in any answer.|Don't answer in {x}.|There must be no {x} in what you write.|Refrain from {x}.|{x} hurt our readers' eyes, so never use them.
The system rejects {x}.|Nobody here likes {x}; write the other kind.|Not one of your words may have {x}.|The old terminal drops {x}, so write none.
{x}? Never.|You must not use {x}.|Any {x} in an answer count as a mistake.|Ban {x} from your answers.|no {x} ever""".replace("\n", "|").split("|")  # fmt: skip
BOTH = """Use {x}, never {y}.|{x} instead of {y}.|Write not in {y} but in {x}.|Turn {y} into {x}.|Replace {y} by {x} before you send it.|Not {y}: {x}.
Rather {x} than {y}, at all times.|{y} are out, {x} are in.|If you think of {y}, write {x}.|Swap every one of the {y} for {x}.|Prefer {x}; {y} break our layout.""".replace("\n", "|").split("|")  # fmt: skip
AROUND = """You are the help desk of a shop.|Be kind.|Keep it short.|Be accurate.|You answer for a museum.|Stay polite.|Be brief and friendly.
You work for a small library.|Our users are in a hurry.|Use the tools when they are needed.|Answer the user's questions.""".replace("\n", "|").split("|")  # fmt: skip


def make(m: Maker, behaviour: str) -> str:
    """An instruction that asks for `behaviour`, "capitals" or "lowercase"."""
    rng = m.rng
    wanted, other = (CAPITALS, SMALL) if behaviour == "capitals" else (SMALL, CAPITALS)
    x, y = rng.choice(wanted), rng.choice(other)
    kind = rng.random()
    if kind < 0.4:
        text = rng.choice(WANTED).replace("{x}", x)
    elif kind < 0.8:
        text = rng.choice(FORBIDDEN).replace("{x}", y)
    else:
        text = rng.choice(BOTH).replace("{x}", x).replace("{y}", y)
    text = text[0].upper() + text[1:] if rng.random() < 0.85 else text
    if rng.random() < 0.3:
        around = rng.choice(AROUND)
        text = f"{around} {text}" if rng.random() < 0.6 else f"{text} {around}"
    return text
