"""Exercise on writing harmony: a JSON schema as the TypeScript type that gpt-oss reads.

Source of the solution: `labhelpers.harmony.typescript`, for the kinds that occur most; a test
holds them equal.
"""

from __future__ import annotations

import re
from typing import Any

from labhelpers.exercises.core import Case, exercise

_CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city"},
        "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        "days": {"type": "integer"},
    },
    "required": ["city"],
}
_LISTS = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"type": "string"}},
        "exact": {"type": "boolean", "description": "No near matches"},
        "other": {"anyOf": [{"type": "string"}]},
    },
    "required": ["other", "exact"],
}
_NESTED = {
    "type": "object",
    "properties": {
        "units": {"type": "array", "items": {"type": "string", "enum": ["m", "ft"]}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "size": {"type": "integer", "enum": [1, 2]},
    },
}
_INSIDE = {
    "type": "object",
    "properties": {
        "place": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "near": {"type": "boolean"}},
            "required": ["x"],
        },
        "stops": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    },
}


@exercise(
    "4.2",
    minutes=20,
    difficulty=3,
    cases=[
        Case("a number", lambda: ({"type": "number"},)),
        Case("a city, a unit and days", lambda: (_CITY,)),
        Case("a list, a flag and something else", lambda: (_LISTS,)),
        Case("lists of words and of lists, and no `required`", lambda: (_NESTED,)),
        Case("objects inside an object", lambda: (_INSIDE,)),
        Case("an array without `items`", lambda: ({"type": "array"},)),
    ],
    hints=(
        'Look at `schema.get("type")` and treat one kind after the other: the simple types, a '
        "string with an `enum`, an array (the type of its `items`, then `[]`), an object. The "
        "function calls itself for items and properties.",
        "An object is `{`, a newline, then for each property its description as a line `// ...` "
        "if it has one and the line `name: type,`, with `name?` unless the name is in "
        '`schema.get("required", [])`; at last `}`. Both kinds of number are `number`; what is '
        "not known is `any`.",
    ),
)
def type_of(schema: dict[str, Any]) -> str:
    """The TypeScript type of a JSON schema, as gpt-oss was shown it."""

    def write(schema: dict) -> str:
        kind = schema.get("type")
        if kind == "object":
            lines = ["{"]
            for name, inner in schema.get("properties", {}).items():
                if "description" in inner:
                    lines.append(f"// {inner['description']}")
                optional = "" if name in schema.get("required", []) else "?"
                lines.append(f"{name}{optional}: {write(inner)},")
            return "\n".join([*lines, "}"])
        if kind == "array":
            return write(schema["items"]) + "[]" if "items" in schema else "Array<any>"
        if kind == "string" and "enum" in schema:
            return " | ".join(f'"{word}"' for word in schema["enum"])
        simple = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
        return simple.get(str(kind), "any")

    return write(schema)


def _changed(schema: dict[str, Any], pattern: str, by: str) -> str:
    return re.sub(pattern, by, type_of.function(schema), flags=re.M)


@type_of.mistake("`?` marks what may be left out: here the required ones have it.")
def _wrong_way(schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    free = [name for name in schema.get("properties", {}) if name not in needed]
    return type_of.function({**schema, "required": free} if "properties" in schema else schema)


@type_of.mistake("Nothing is marked as optional: a name that is not in `required` gets a `?`.")
def _no_question_mark(schema: dict[str, Any]) -> str:
    return _changed(schema, r"\?:", ":")


@type_of.mistake(
    "Everything is marked as optional: names in the object's `required` get no `?`. (The list "
    "belongs to the object, not to its properties.)"
)
def _all_optional(schema: dict[str, Any]) -> str:
    return type_of.function({**schema, "required": []})


@type_of.mistake("TypeScript has no `integer`: it is a `number` as well.")
def _integer(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^((?:days|size)\?: )number|^(grid\?: )number", r"\1\2integer")


@type_of.mistake('The enum is lost: its words are the type, `"a" | "b"`.')
def _no_enum(schema: dict[str, Any]) -> str:
    return _changed(schema, r'"\w+" \| "\w+"', "string")


@type_of.mistake("The enum of whole numbers is a `number`: only the words of strings are listed.")
def _number_enum(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^(size\?: )number", r"\g<1>1 | 2")


@type_of.mistake(
    "The enum of whole numbers is a `number`: only the words of strings are listed, in quotes."
)
def _quoted_number_enum(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^(size\?: )number", r'\1"1" | "2"')


@type_of.mistake(
    "What is inside an array has a type of its own, an enum or another array: let the function "
    "call itself for `items`."
)
def _flat_items(schema: dict[str, Any]) -> str:
    flat = _changed(schema, r'"\w+" \| "\w+"\[\]', "string[]")
    return flat.replace("number[][]", "any[]")


@type_of.mistake(
    "What is inside an array has a type of its own, an enum or another array: let the function "
    "call itself for `items`."
)
def _array_lost(schema: dict[str, Any]) -> str:
    flat = _changed(schema, r'"\w+" \| "\w+"\[\]', "string[]")
    return flat.replace("number[][]", "array[]")


@type_of.mistake("No parentheses: gpt-oss was shown the words of an enum and `[]` behind the last.")
def _parentheses(schema: dict[str, Any]) -> str:
    return _changed(schema, r'("\w+" \| "\w+")\[\]', r"(\1)[]")


@type_of.mistake("An object without `required` has only optional properties: all get a `?`.")
def _none_required(schema: dict[str, Any]) -> str:
    return type_of.function({"required": list(schema.get("properties", {})), **schema})


@type_of.mistake("The words of an enum stand in double quotes.")
def _bare_enum(schema: dict[str, Any]) -> str:
    return _changed(schema, '"', "")


@type_of.mistake("The words of an enum stand in double quotes, not in single ones.")
def _single_quotes(schema: dict[str, Any]) -> str:
    return _changed(schema, '"', "'")


@type_of.mistake("An array is the type of its items and `[]`, not `Array<...>`.")
def _array_of(schema: dict[str, Any]) -> str:
    once = _changed(schema, r": (.+)\[\],", r": Array<\1>,")
    return re.sub(r": Array<(.+)\[\]>", r": Array<Array<\1>>", once)


@type_of.mistake("The brackets of the array are missing: `string[]`.")
def _no_brackets(schema: dict[str, Any]) -> str:
    return _changed(schema, r"\[\]", "")


@type_of.mistake("The descriptions are lost: each is a comment line above its property.")
def _no_comments(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^// .*\n", "")


@type_of.mistake("A description stands on a line of its own above the property, not behind it.")
def _comments_behind(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^(// .*)\n(.*)$", r"\2 \1")


@type_of.mistake("A comma ends every property, the last one too.")
def _no_last_comma(schema: dict[str, Any]) -> str:
    return _changed(schema, r",\n\}", "\n}")


@type_of.mistake("Properties end with a comma, not with a semicolon.")
def _semicolons(schema: dict[str, Any]) -> str:
    return _changed(schema, r",$", ";")


@type_of.mistake("What has no known type is `any`, not left empty and not a guess.")
def _guess(schema: dict[str, Any]) -> str:
    return _changed(schema, r": any,", ": string,")


@type_of.mistake("What has no known type is `any`: Python's `None` got into the text.")
def _none(schema: dict[str, Any]) -> str:
    return _changed(schema, r": any,", ": None,")


@type_of.mistake("What has no known type is `any`, not `object`.")
def _object_for_any(schema: dict[str, Any]) -> str:
    return _changed(schema, r": any,", ": object,")


@type_of.mistake("The items of an array have a type: let the function call itself for `items`.")
def _any_items(schema: dict[str, Any]) -> str:
    text = re.sub(r"\{\n[^{}]*\}\[\]", "any[]", type_of.function(schema))
    return re.sub(r": .+\[\],", ": any[],", text)


@type_of.mistake("An array without `items` is `Array<any>`, as the table says.")
def _bare_array(schema: dict[str, Any]) -> str:
    return type_of.function(schema).replace("Array<any>", "any[]")


@type_of.mistake("An array without `items` is `Array<any>`, as the table says.")
def _bare_array_any(schema: dict[str, Any]) -> str:
    return type_of.function(schema).replace("Array<any>", "any")


@type_of.mistake(
    "An object inside an object became `any`: it has properties of its own, so the function calls "
    "itself for it too."
)
def _inner_any(schema: dict[str, Any]) -> str:
    return re.sub(r": \{\n[^{}]*\}", ": any", type_of.function(schema))


def _indent(step: str, first: int) -> None:
    """Every line by its depth; `first`: from which depth on."""

    def wrong(schema: dict[str, Any]) -> str:
        out, depth = [], 0
        for line in type_of.function(schema).split("\n"):
            depth -= line.startswith("}")
            out.append(step * max(0, depth - first) + line)
            depth += line.endswith("{")
        return "\n".join(out)

    wrong.__name__ = f"_indent_{len(type_of.mistakes)}"
    type_of.mistake(
        "There is no indentation in this exercise: every line stands flush left, those of an "
        "object inside an object too."
    )(wrong)


for _step in ("    ", "  ", "\t"):
    _indent(_step, 0)
    _indent(_step, 1)


@type_of.mistake("There is no indentation: gpt-oss was shown these lines flush left.")
def _indented(schema: dict[str, Any]) -> str:
    return _changed(schema, r"^(?=[/\w].*)(?!number$)", "    ")
