"""Word problems put together from parts: a scene, what happens in it, and a question.

The bank's problems are whole sentences, and a small model learns them whole: "left over" after a
division that it has seen becomes a subtraction everywhere. Here each part has one meaning and
meets many others, so that the sum must be read from the parts. Numbers stand in the code in the
order of the text, as in the bank, unless the text says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from training.cases import Maker

THINGS = """apples pears plums cherries eggs rolls cakes biscuits sweets nuts bottles jars cups plates books
letters stamps coins tickets cards photos pencils pens keys buttons nails screws bricks tiles boards chairs
tables lamps candles flowers roses bulbs seeds trees plants hens sheep cows fish birds bees cars bikes
buses seats rooms beds guests players children pupils workers visitors tourists runners files messages
photos songs points steps pages words lines parcels boxes crates balls toys dolls shirts socks hats""".split()
BOXES = """boxes bags crates jars trays shelves rows baskets cartons packs drawers tables teams groups rooms
carts vans buckets racks tins nets sacks stacks piles albums folders chapters classes stalls pens""".split()
WHO = """she he mum dad grandma grandpa uncle aunt my-sister my-brother my-neighbour our-teacher the-baker
the-farmer the-shop the-club the-school the-library a-friend a-gardener the-coach the-cook the-museum
the-team Ada Omar Lena Piet Mia Juan Ines Tom Noor Kofi Yuki Sven""".split()

GROUPS = [
    "{who} has {a} {boxes} with {b} {things} each", "{a} {boxes} hold {b} {things} each",
    "there are {a} {boxes} of {b} {things}", "each of {a} {boxes} holds {b} {things}",
    "{a} {boxes}, {b} {things} in every one", "{who} fills {a} {boxes} with {b} {things} apiece",
    "{who} buys {a} {boxes}, each with {b} {things}", "in the hall stand {a} {boxes} of {b} {things}",
    "{a} {boxes} came, {b} {things} in each", "{a} times {who} brings {b} {things}",
    "{who} makes {a} {things} a day for {b} days", "{who} gets {a} {things} a week, {b} weeks long",
    "{a} {things} at {b} euros each", "{a} {things} cost {b} euros apiece", "{who} works {a} hours for {b} euros an hour",
    "for {a} days {who} sells {b} {things} a day", "{a} {boxes} and in each of them {b} {things}",
]  # fmt: skip
SINGLE = [
    "{who} has {a} {things}", "there are {a} {things}", "{a} {things} lie on the table", "{who} starts with {a} {things}",
    "in the morning there were {a} {things}", "{who} picked {a} {things}", "{who} ordered {a} {things}",
    "{a} {things} are in the store", "we had {a} {things}", "{who} counted {a} {things}", "a shop has {a} {things}",
]  # fmt: skip
PAIRS = [
    "{a} {things} here and {b} there", "{who} has {a} {things} and {other} has {b}", "{a} {things} on Monday and {b} on Tuesday",
    "{a} red {things} and {b} blue ones", "{a} {things} upstairs, {b} downstairs", "{a} old {things} and {b} new ones",
    "{a} {things} from {who} and {b} from {other}", "{a} big {things} together with {b} small ones",
]  # fmt: skip
MORE = [
    "gets {c} more", "buys another {c}", "finds {c} more", "then {c} more come", "{other} brings {c}", "{c} come on top",
    "with {c} extra", "and {c} loose ones", "and {c} single ones besides", "plus {c} spare ones", "and there are {c} left over on the side",
    "{c} are added", "and {c} others lie beside them", "as well as {c} more", "{c} more are delivered", "adds {c}",
    "and {c} left over", "and has {c} over", "{other} gives {c} more", "and {c} that did not fit in", "later {c} are found",
    "and {c} without a place", "along with {c} odd ones", "then another {c} arrive",
]  # fmt: skip
LESS = [
    "gives {c} away", "gives {c} to {other}", "sells {c}", "loses {c}", "uses {c}", "{c} of them break", "{c} are bad", "{c} are sold",
    "{c} go missing", "{other} takes {c}", "{c} are taken away", "minus {c} that are broken", "but {c} are missing", "eats {c}",
    "throws {c} out", "{c} leave", "{c} are gone by noon", "but {c} of them are spoilt", "puts {c} aside", "lends {c} to {other}",
    "{c} fall down", "without {c} that nobody wants", "less {c} returned", "sends {c} back", "except for {c}", "but {c} were lost",
]  # fmt: skip
TIMES = [
    "each costs {c} euros", "every one weighs {c} grams", "this happens on {c} days", "and all of that {c} times", "each needs {c} minutes",
    "one costs {c} cents", "and that in each of {c} towns", "everything is multiplied by {c}", "each of them earns {c} points",
]  # fmt: skip
SPLIT = [
    "shared among {c} people", "split equally between {c} friends", "divided over {c} {boxes}", "put into {c} {boxes}, the same in each",
    "shared fairly by {c} families", "handed out to {c} children, all alike", "spread over {c} days",
]  # fmt: skip
PACKED = ["packed in {boxes} of {c}", "put into {boxes} of {c}", "tied up in bundles of {c}", "laid in rows of {c}", "grouped by {c}"]  # fmt: skip
ASK = {
    "+": ["how many in all?", "how many {things} in all?", "how many are there now?", "what is the total?", "how many altogether?",
          "how many {things} does that make?", "how many has {who} now?", "what do we have then?", "total?", "so how many {things}?"],
    "-": ["how many are left?", "how many {things} remain?", "how many {things} are there still?", "what is left?", "how many now?",
          "how many has {who} still?", "how many {things} stay?", "remaining?", "so how many {things} are there?", "how many in all?"],
    "*": ["how much is that in all?", "what is the total?", "how much altogether?", "what does that come to?", "in total?", "so how much?"],
    "//": ["how many does each get, whole ones only?", "how many whole {things} for each?", "how many full ones each, none cut?",
           "how many each, rounded down?"],
    "/": ["how much is that for each, to two decimals?", "how much per head, exactly?", "what is each share, with two decimals?",
          "how much for one, to the cent?"],
    "%": ["how many are left over?", "how many stay over?", "how many do not fit?", "what is the rest?", "how many remain outside?"],
    "full": ["how many full ones?", "how many are filled?", "how many full {boxes}?", "how many complete ones come out?"],
}  # fmt: skip
PERCENT = {
    "round({a} * {b} / 100, 2)": ["{b2} percent of {a2}", "{b2}% of {a2}", "how much is {b2} percent of {a2}?", "from {a2} take the {b2} percent share: how big is it?",
        "of {a2} {things}, {b2} percent are red. how many is that?"],
    "round({a} + {a} * {b} / 100, 2)": ["{a2} euros and {b2} percent on top", "{a2} plus {b2} percent", "the bill is {a2}, the tip {b2} percent. all together?",
        "{a2} euros without tax, tax is {b2} percent. what do i pay?", "raise {a2} by {b2} percent", "rent of {a2} goes up by {b2}%. the new rent?"],
    "round({a} - {a} * {b} / 100, 2)": ["{a2} euros with {b2} percent off", "{a2} minus {b2} percent", "price {a2}, discount {b2} percent. what is left to pay?",
        "lower {a2} by {b2} percent", "{a2} in the sale, {b2}% cheaper. the new price?", "it loses {b2} percent of its {a2}. what stays?"],
}  # fmt: skip
ORDINALS = ["first", "second", "third"]
VERBS = {
    "+": ["add {x} and {y}", "take the sum of {x} and {y}", "put {x} and {y} together"],
    "-": ["subtract {y} from {x}", "take {y} away from {x}", "{x} minus {y}"],
    "*": ["multiply {x} by {y}", "take {x} times {y}", "the product of {x} and {y}"],
}
THEN = {
    "+": ["add {z}", "then add {z}", "plus {z}", "and {z} more"],
    "-": ["subtract {z}", "then take away {z}", "minus {z}", "less {z}"],
    "*": ["multiply that by {z}", "all of it times {z}", "then times {z}"],
    "//": ["divide by {z} and keep the whole part", "then divide by {z}, whole part only"],
    "%": ["and give the remainder by {z}", "then the rest when divided by {z}"],
}


@dataclass
class Story:
    """Parts said so far, and the code of what they amount to."""

    m: Maker
    parts: list[str] = field(default_factory=list)
    code: str = ""
    last: str = "+"

    def __post_init__(self) -> None:
        rng, v = self.m.rng, self.m.v
        self.words = {
            "things": rng.choice(THINGS) if rng.random() < 0.75 else v.word() + "s",
            "boxes": rng.choice(BOXES) if rng.random() < 0.75 else v.word() + "s",
            "who": rng.choice(WHO).replace("-", " ") if rng.random() < 0.8 else v.word().capitalize(),
            "other": rng.choice(WHO[2:]).replace("-", " "),
        }  # fmt: skip

    def say(self, texts: list[str], **numbers: int) -> None:
        self.parts.append(self.m.rng.choice(texts).format(**self.words, **numbers))

    def then(self, op: str, c: int) -> None:
        loose = op not in "+-" and any(f" {o} " in self.code for o in "+-")
        self.code = f"({self.code}) {op} {c}" if loose else f"{self.code} {op} {c}"
        self.last = op


def told(m: Maker) -> tuple[str, str]:
    """A story and its code."""
    rng, story = m.rng, Story(m)
    kind = rng.random()
    a, b = rng.randint(2, 99), rng.randint(2, 60)
    if kind < 0.5:
        story.say(GROUPS, a=a, b=b)
        story.code, size, story.last = f"{a} * {b}", a * b, "*"
    elif kind < 0.75:
        a = rng.randint(5, 999)
        story.say(SINGLE, a=a)
        story.code, size = f"{a}", a
    else:
        story.say(PAIRS, a=a, b=b)
        story.code, size = f"{a} + {b}", a + b
    for _ in range(rng.choices([0, 1, 2], [8, 62, 30])[0] or int(" " not in story.code)):
        if rng.random() < 0.5:
            c = rng.randint(2, 99)
            story.say(MORE, c=c)
            story.then("+", c)
            size += c
        elif size > 5:
            c = rng.randint(2, max(2, min(size - 2, 99)))
            story.say(LESS, c=c)
            story.then("-", c)
            size -= c
    ask = story.last
    end = rng.random()
    c = rng.randint(2, 20)
    if end < 0.12:
        story.say(TIMES, c=c)
        story.then("*", c)
        ask = "*"
    elif end < 0.24:
        story.say(SPLIT, c=c)
        if rng.random() < 0.5:
            story.then("//", c)
            ask = "//"
        else:
            story.then("/", c)
            story.code, ask = f"round({story.code}, 2)", "/"
    elif end < 0.34:
        story.say(PACKED, c=c)
        ask = rng.choice(["%", "full"])
        story.then("%" if ask == "%" else "//", c)
    question = rng.choice(ASK[ask]).format(**story.words)
    return assemble(m, story.parts, question), story.code


def assemble(m: Maker, parts: list[str], question: str) -> str:
    """Sentences in one of a few layouts."""
    rng = m.rng
    joint = rng.choice([", ", ". ", ", ", ". ", " and ", ". Then "])
    body = parts[0]
    for part in parts[1:]:
        glue = joint if not part.startswith(("and ", "with ", "plus ", "but ", "minus ", "as ", "less ", "along ", "without ", "except ")) else rng.choice([", ", " "])  # fmt: skip
        body += glue + (
            part[0].upper() + part[1:] if glue.startswith(". ") and glue == ". " else part
        )
    lay = rng.random()
    if lay < 0.12:
        text = f"{question.rstrip('?')}: {body}?"
    elif lay < 0.2:
        text = f"{question} {body[0].upper() + body[1:]}."
    else:
        text = f"{body}{rng.choice(['. ', '. ', ', ', ' - ', ': '])}{question}"
    if rng.random() < 0.8:
        text = text[0].upper() + text[1:]
        at = text.find(". ")
        if at > 0:
            text = text[: at + 2] + text[at + 2].upper() + text[at + 3 :]
    return text


def percent(m: Maker) -> tuple[str, str]:
    """A share, a rise or a discount."""
    rng = m.rng
    code = rng.choice(list(PERCENT))
    a = rng.randint(10, 2000) if rng.random() < 0.7 else round(rng.uniform(2, 500), 2)
    b = rng.randint(2, 60)
    words = {"things": rng.choice(THINGS)}
    return rng.choice(PERCENT[code]).format(a2=a, b2=b, **words), code.format(a=a, b=b)


def ordered(m: Maker) -> tuple[str, str]:
    """Orders about numbers that are named in a list, or in place."""
    rng = m.rng
    n = [rng.randint(2, 99) for _ in range(3)]
    op, op2 = rng.choice("+-*"), rng.choice(["+", "-", "*", "//", "%"])
    if rng.random() < 0.5:
        x, y, z = n
        text = rng.choice(VERBS[op]).format(x=x, y=y) + rng.choice([", ", " and ", ", then "])
        text += rng.choice(THEN[op2]).format(z=z)
        order = (0, 1, 2)
    else:
        order = tuple(rng.sample(range(3), 3))
        names = [f"the {ORDINALS[i]}" if i < 2 or rng.random() < 0.6 else "the last" for i in order]
        shown = ", ".join(map(str, n))
        verb = rng.choice(VERBS[op]).format(x=names[0], y=names[1])
        rest = rng.choice(THEN[op2]).format(z=names[2])
        text = rng.choice(["Numbers: {n}. {v}, {r}", "I have {n}. {v}, {r}.", "From {n}: {v}, {r}", "{v}, {r}: {n}", "Given {n}, {v} and {r}"])  # fmt: skip
        text = text.format(n=shown, v=verb, r=rest)
    for twice, once in (("then then", "then"), ("and and", "and"), ("and then", "then"), ("then and", "and"), (", plus", " plus"), ("and plus", "plus"), ("and minus", "minus")):  # fmt: skip
        text = text.replace(twice, once)
    left = f"{n[order[0]]} {op} {n[order[1]]}"
    if op2 in ("*", "//", "%") and op in "+-":
        left = f"({left})"
    return (
        text[0].upper() + text[1:] if rng.random() < 0.6 else text
    ), f"{left} {op2} {n[order[2]]}"


def deciding_words() -> frozenset[str]:
    """Words of the parts above, which decide a sum: elsewhere too they must not be exchanged."""
    texts = [*MORE, *LESS, *TIMES, *SPLIT, *PACKED, *sum([*ASK.values(), *PERCENT.values()], [])]
    return frozenset(w.strip(",.?:%") for text in texts for w in text.lower().split())


def make(m: Maker) -> tuple[str, str]:
    """A request and its expression."""
    return m.rng.choices([told, percent, ordered], [70, 12, 18])[0](m)
