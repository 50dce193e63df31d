"""Hypothesis strategies for conversations and JSON schemas, shared by the harmony tests."""

from harmony_schemas import SCHEMAS
from hypothesis import strategies as st

from labhelpers.harmony import DeveloperContent, Message, SystemContent, ToolDescription
from labhelpers.harmony.messages import REASONING_EFFORTS

# Letters of several scripts, quotes, line ends, and texts that look like harmony's own marks.
# Pieces and not letters: 2,000 conversations are drawn in CI, and every draw costs.
pieces = [
    *"aXY 012'\"\n\t{}[]<|>.,:é中🙂",
    "word",
    " the",
    "\n\n",
    "can't",
    "'S",
    "//",
    " 12345",
    "🙂🙂",
]
texts = st.one_of(
    st.lists(st.sampled_from(pieces), max_size=8).map("".join),
    st.sampled_from(["", "<|end|>", "<|start|>system<|message|>", "a\r\nb\n", " \n\n ", "null"]),
)
names = st.lists(
    st.sampled_from(["a", "f", "get", "_", "X", "12", "é"]), min_size=1, max_size=3
).map("".join)
# No integers beyond 64 bits and few digits: the oracle's JSON reader is not exact there.
numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.builds(lambda m, e: float(f"{m}e{e}"), st.integers(-99, 99), st.integers(-3, 6)),
    st.sampled_from([0.0, -0.0, 1e-5, -2.5e-5, 1e-6, 1e16, 1.5e30, 123456.75, 1e15]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=4,
)


property_names = st.one_of(
    names, names, st.sampled_from(["", "a-b", "two words", '"q"', "é中", "$ref"])
)
# What JSON schema allows and harmony does not read; it must change nothing.
unread = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just("date-time"),
        "pattern": st.just("^a|b$"),
        "minimum": st.integers(0, 9),
        "additionalProperties": st.booleans(),
        "uniqueItems": st.booleans(),
        "deprecated": st.booleans(),
        "$defs": st.just({"T": {"type": "string"}}),
    },
)
# Keywords whose value is of the wrong type: they are passed over, as if they were not there.
mistakes = st.sampled_from(
    [
        {"properties": ["a"]},
        {"required": "a"},
        {"required": [1, None]},
        {"items": True},
        {"items": [{"type": "string"}]},
        {"oneOf": {"type": "string"}},
        {"enum": "a"},
        {"enum": None},
        {"type": 3},
        {"type": ["null", 3, "integer"]},
        {"description": 3},
        {"title": ["t"]},
        {"examples": "a"},
        {"nullable": "yes"},
    ]
)
UNTYPED = [
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"anyOf": [{"type": "integer", "default": 3}], "type": "integer"},
    {"allOf": [{"type": "string"}]},
    {"$ref": "#/$defs/T"},
    {"const": "a"},
    {"enum": ["a", "b"]},
    {"not": {"type": "string"}},
]
PLAIN = ["string", "number", "integer", "boolean", "null", "thing", None]


@st.composite
def _schema(draw, inner=None):
    """One schema; `inner` makes the schemas inside it."""
    outer = [] if inner is None else ["array", "object", "object", "object", "oneOf", "oneOf"]
    kind = draw(st.sampled_from([*PLAIN, "enum", "enum", "list", "untyped", *outer]))
    schema = {}
    if kind == "enum":
        schema = {"type": draw(st.sampled_from(["string", "string", "integer"]))}
        values = st.one_of(texts, st.integers(0, 9), st.none())
        schema["enum"] = draw(st.lists(values, max_size=3))
    elif kind == "list":
        schema["type"] = draw(st.lists(st.sampled_from(PLAIN[:5]), max_size=3))
    elif kind == "array":
        schema["type"] = draw(st.sampled_from(["array", "array", ["array", "null"]]))
        if draw(st.booleans()):
            schema["items"] = draw(inner)
    elif kind == "object":
        schema["type"] = "object"
        if draw(st.integers(0, 4)):
            schema["properties"] = draw(st.dictionaries(property_names, inner, max_size=3))
            schema["required"] = draw(
                st.lists(st.sampled_from([*schema["properties"], "absent"]), max_size=3)
            )
    elif kind == "oneOf":
        schema["oneOf"] = draw(st.lists(inner, max_size=3))
        if draw(st.booleans()):
            schema["type"] = draw(st.sampled_from(["string", "object"]))
    elif kind == "untyped":
        schema |= draw(st.sampled_from(UNTYPED))
    elif kind is not None:
        schema["type"] = kind
    names_of_extras = ["title", "description", "description", "examples", "default", "nullable"]
    for extra in sorted(draw(st.sets(st.sampled_from(names_of_extras), max_size=4))):
        value = {
            "title": texts,
            "description": st.one_of(texts, st.sampled_from(["same", "two\nlines"])),
            "default": json_values,
            "examples": st.lists(st.one_of(texts, st.integers()), max_size=2),
            "nullable": st.booleans(),
        }[extra]
        schema[extra] = draw(value)
    if kind == "enum" and "default" in schema and draw(st.booleans()):
        schema["default"] = draw(texts)
    if not draw(st.integers(0, 5)):
        schema |= draw(unread)
    if not draw(st.integers(0, 11)):
        schema |= draw(mistakes)
    return schema


schemas = st.recursive(
    st.one_of(_schema(), _schema(), _schema(), st.booleans()),
    lambda inner: _schema(inner),
    max_leaves=10,
)
parameters = st.one_of(
    st.none(),
    _schema(schemas),
    st.dictionaries(property_names, schemas, max_size=4).map(
        lambda properties: {"type": "object", "properties": properties}
    ),
)
functions = st.builds(ToolDescription, names, texts, parameters)
function_lists = st.lists(functions, max_size=3).map(tuple)

systems = st.builds(
    SystemContent,
    model_identity=st.one_of(st.none(), texts),
    knowledge_cutoff=st.sampled_from([None, "2024-06"]),
    conversation_start_date=st.sampled_from([None, "2026-01-31"]),
    reasoning_effort=st.sampled_from([None, *REASONING_EFFORTS]),
    valid_channels=st.sampled_from([(), ("final",), ("analysis", "commentary", "final")]),
    channel_required=st.booleans(),
    tools=st.sampled_from([(), ("python",), ("browser",), ("python", "browser")]),
)
# In conversations mostly ready-made schemas; drawing random ones is tests/test_harmony_schema.py's.
ready_made = st.builds(ToolDescription, names, texts, st.sampled_from([None, *SCHEMAS.values()]))
developers = st.builds(
    DeveloperContent,
    st.one_of(st.none(), texts),
    st.one_of(*[st.lists(ready_made, max_size=2).map(tuple)] * 4, function_lists),
)
channels = st.sampled_from([None, "analysis", "commentary", "final"])
recipients = st.sampled_from([None, None, "all", "python", "functions.f", "browser.search", "é.中"])
content_types = st.sampled_from(
    [None, None, "code", "<|constrain|>json", "<|constrain|>中", "json"]
)


def _parts(strategy):
    return st.one_of(strategy, strategy, st.lists(st.one_of(strategy, texts), max_size=3))


@st.composite
def any_message(draw):
    """Any message that both libraries accept, sensible or not."""
    role = draw(
        st.sampled_from(
            ["system", "developer", "user", "assistant", "assistant", "assistant", "tool"]
        )
    )
    content = {"system": _parts(systems), "developer": _parts(developers)}.get(role, _parts(texts))
    name = names if role == "tool" else st.one_of(st.none(), st.none(), names)
    recipient = "assistant" if role == "tool" else draw(recipients)
    return Message(role, draw(content), draw(channels), recipient, draw(content_types), draw(name))


conversations = st.lists(any_message(), max_size=7).map(tuple)


@st.composite
def dialogues(draw, max_turns=4, calls=True, last_open=None):
    """Well-formed turns: a question, reasoning, calls with results, an answer."""
    out = []
    turns = draw(st.integers(1, max_turns))
    for turn in range(turns):
        out.append(Message.user("q"))
        end = draw(st.sampled_from(["asked", "called", "answered"])) if turn == turns - 1 else ""
        if last_open and turn == turns - 1 or end == "asked":
            break
        for _ in range(draw(st.integers(0, 2)) if calls else 0):
            name = draw(st.sampled_from(["functions.f", "python"]))
            thought = [Message.analysis("why")] * draw(st.integers(0, 1))
            spoken = [Message.preamble("wait")] * draw(st.integers(0, 1))
            out += [*thought, *spoken, Message.call(name, "{}"), Message.tool(name, "1")]
        if end == "called" and calls:
            out.append(Message.call("functions.f", "{}"))
            break
        out += [Message.analysis("so")] * draw(st.integers(0, 1)) + [Message.final("a")]
    return tuple(out)
