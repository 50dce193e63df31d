"""Hypothesis strategies for conversations and JSON schemas, shared by the harmony tests."""

from hypothesis import strategies as st

from labhelpers.harmony import DeveloperContent, Message, SystemContent, ToolDescription
from labhelpers.harmony.messages import REASONING_EFFORTS

# Letters of several scripts, quotes, line ends, and texts that look like harmony's own marks.
texts = st.one_of(
    st.text(st.sampled_from(list("abcdeXYZ 012'\"\n\t{}[]<|>.,:é中🙂")), max_size=40),
    st.sampled_from(["", "<|end|>", "<|start|>system<|message|>", "a\r\nb\n", " \n\n ", "null"]),
)
names = st.text(st.sampled_from(list("abcdef_XY12")), min_size=1, max_size=10)
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


@st.composite
def _schema(draw, inner=None):
    """One schema; `inner` makes the schemas inside it."""
    kinds = ["string", "number", "integer", "boolean", "null", "thing", None, "enum", "list"]
    outer = [] if inner is None else ["array", "object", "object", "oneOf"]
    kind = draw(st.sampled_from(kinds + outer))
    schema = {}
    if kind == "enum":
        schema = {"type": draw(st.sampled_from(["string", "string", "integer"]))}
        schema["enum"] = draw(st.lists(st.one_of(texts, st.integers(0, 9)), max_size=3))
    elif kind == "list":
        schema["type"] = draw(st.lists(st.sampled_from(kinds[:5]), max_size=3))
    elif kind == "array":
        schema["type"] = "array"
        if draw(st.booleans()):
            schema["items"] = draw(inner)
    elif kind == "object":
        schema["type"] = "object"
        if draw(st.integers(0, 4)):
            schema["properties"] = draw(st.dictionaries(names, inner, max_size=3))
            schema["required"] = draw(
                st.lists(st.sampled_from([*schema["properties"], "absent"]), max_size=3)
            )
    elif kind == "oneOf":
        schema["oneOf"] = draw(st.lists(inner, max_size=3))
    elif kind == "thing":
        schema["anyOf"] = [{"type": "string"}, {"type": "null"}]
    elif kind is not None:
        schema["type"] = kind
    extras = draw(
        st.sets(
            st.sampled_from(["title", "description", "examples", "default", "nullable", "default"]),
            max_size=3,
        )
    )
    for extra in sorted(extras):
        value = {
            "title": texts,
            "description": texts,
            "default": json_values,
            "examples": st.lists(st.one_of(texts, st.integers()), max_size=2),
            "nullable": st.booleans(),
        }[extra]
        schema[extra] = draw(value)
    if kind == "enum" and "default" in schema and draw(st.booleans()):
        schema["default"] = draw(texts)
    return schema


schemas = st.recursive(_schema(), lambda inner: _schema(inner), max_leaves=6)
parameters = st.one_of(
    st.none(),
    schemas,
    st.dictionaries(names, schemas, max_size=4).map(
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
developers = st.builds(DeveloperContent, st.one_of(st.none(), texts), function_lists)
channels = st.sampled_from([None, "analysis", "commentary", "final"])
recipients = st.sampled_from([None, None, "all", "python", "functions.f", "browser.search", "a b"])
content_types = st.sampled_from([None, None, "code", "<|constrain|>json", "<|constrain|>", "json"])


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
