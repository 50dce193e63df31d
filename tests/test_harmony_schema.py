"""JSON schema as TypeScript: equal to openai-harmony for every schema, readable where it matters.

The goldens `function_*.txt` (tests/test_harmony_render.py) show each trait as text.
"""

import json

import pytest
from harmony_oracle import harmony_oracle, oracle, to_oracle  # noqa: F401 - a fixture
from harmony_schemas import SCHEMAS
from harmony_strategies import function_lists, systems
from hypothesis import given, settings
from hypothesis import strategies as st

from labhelpers.harmony import (
    DeveloperContent,
    HarmonyError,
    Message,
    SystemContent,
    ToolDescription,
    ToolNamespace,
    render,
)
from labhelpers.harmony.render import content_text
from labhelpers.harmony.system_text import BUILTINS, developer_text, system_text
from labhelpers.harmony.typescript import schema_to_typescript, to_json
from labhelpers.tokenizer import o200k_harmony


def texts_of_both(message):
    """The text of a settings message, by us and by the library."""
    ids = oracle().render_conversation(to_oracle([message]))
    theirs = o200k_harmony().decode(ids).split("<|message|>", 1)[1].removesuffix("<|end|>")
    return content_text(message.content), theirs


# -- equal to openai-harmony --------------------------------------------------------------


@settings(max_examples=600, deadline=None)
@given(function_lists)
def test_functions_equal_openai_harmony(functions):
    ours, theirs = texts_of_both(Message("developer", DeveloperContent(None, functions)))
    assert ours == theirs


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_trait_equals_openai_harmony(name):
    function = ToolDescription("f", "", SCHEMAS[name])
    ours, theirs = texts_of_both(Message("developer", DeveloperContent(None, (function,))))
    assert ours == theirs


@settings(max_examples=100, deadline=None)
@given(systems, function_lists)
def test_namespaces_of_the_system_message_equal_openai_harmony(system, functions):
    spaces = (ToolNamespace("zeta", "Last.\n", functions), ToolNamespace("alpha", None))
    content = SystemContent(tools=(*spaces, *system.tools), valid_channels=system.valid_channels)
    ours, theirs = texts_of_both(Message("system", content))
    assert ours == theirs


def test_builtin_tools_equal_openai_harmony():
    """The library's own texts of the two tools, not ours handed to it."""
    import openai_harmony as library

    theirs = library.SystemContent.new().with_browser_tool().with_python_tool()
    message = library.Message.from_role_and_content(library.Role.SYSTEM, theirs)
    conversation = library.Conversation.from_messages([message])
    ids = oracle().render_conversation(conversation)
    assert ids == render([Message.system(tools=tuple(BUILTINS))], o200k_harmony())


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1))
def test_numbers_are_printed_so_that_they_read_back(value):
    assert json.loads(to_json(value)) == value


# -- what it looks like -------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema, typescript",
    [
        ({"type": "integer"}, "number"),
        ({"type": "string", "enum": ["a", "b"]}, '"a" | "b"'),
        ({"type": ["integer", "null"]}, "number | null"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array"}, "Array<any>"),
        ({"anyOf": [{"type": "string"}]}, "any"),
        ({"oneOf": [{"type": "string"}, {"type": "number"}]}, "\n | string\n | number"),
        ({"type": "object"}, "{\n}"),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_types(schema, typescript):
    assert schema_to_typescript(schema) == typescript


def test_developer_text_reads_like_typescript():
    weather = ToolDescription("get_weather", "Weather in a city.", SCHEMAS["required_and_optional"])
    assert developer_text(DeveloperContent("Be brief.", (weather,))) == (
        "# Instructions\n\nBe brief.\n\n"
        "# Tools\n\n## functions\n\nnamespace functions {\n\n"
        "// Weather in a city.\n"
        "type get_weather = (_: {\ncity: string,\ndays?: number,\n}) => any;\n\n"
        "} // namespace functions"
    )


def test_functions_add_their_line_to_the_system_text():
    line = "\nCalls to these tools must go to the commentary channel: 'functions'."
    content = SystemContent()
    assert system_text(content, True) == system_text(content, False) + line


def test_schema_is_not_changed():
    before = json.dumps(SCHEMAS)
    for schema in SCHEMAS.values():
        schema_to_typescript(schema)
    assert json.dumps(SCHEMAS) == before


@pytest.mark.parametrize("name", ["two words", "a\nb", "x<|end|>", "to=x", "zero\u200bwidth", ""])
def test_a_function_name_must_fit_into_a_header(name):
    with pytest.raises(HarmonyError, match="name"):
        ToolDescription(name)
    with pytest.raises(HarmonyError, match="name"):
        ToolNamespace(name)
