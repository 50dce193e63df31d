"""JSON schema of a function's parameters, written as the TypeScript type that gpt-oss reads.

gpt-oss's choice: tools are shown to the model as TypeScript declarations with comments, not as
JSON. `type get_weather = (_: {` newline `city: string,` newline `}) => any;`

Source: the text equals openai-harmony 0.0.8 (tests compare it on random schemas), its oddities
included, since this is what the model saw: `"a" | "b"[]` without brackets for an array of an
enum, `any` for anyOf, $ref, const and integer enums, only the first line of a property's
description commented. Limits: the schema is not validated; an unknown type becomes `any`.
"""

from __future__ import annotations

import json
from typing import Any

from .messages import ToolDescription, ToolNamespace


def schema_to_typescript(schema: Any, indent: str = "") -> str:
    """The TypeScript type of a JSON schema; `indent` stands before each inner line."""
    if not isinstance(schema, dict):
        return "any"  # JSON schema allows true and false; harmony sees nothing in them
    if isinstance(schema.get("oneOf"), list):
        return "".join(f"\n{indent} | {_variant(variant, indent)}" for variant in schema["oneOf"])
    kind = schema.get("type")
    if isinstance(kind, list):
        names = ["number" if k == "integer" else k for k in kind if isinstance(k, str)]
        return " | ".join(names) or "any"
    if kind == "object":
        return _object(schema, indent)
    if kind == "array":
        if "items" not in schema:
            return "Array<any>"
        return schema_to_typescript(schema["items"], indent) + "[]"
    if kind == "string":
        values = schema.get("enum")
        words = [v for v in values if isinstance(v, str)] if isinstance(values, list) else []
        return " | ".join(f'"{word}"' for word in words) or "string"
    return {"number": "number", "integer": "number", "boolean": "boolean"}.get(str(kind), "any")


def _object(schema: dict[str, Any], indent: str) -> str:
    """`{`, one property a line with its comments above, `}`."""
    out = []
    if isinstance(schema.get("description"), str):
        out.append(f"{indent}// {schema['description']}\n")
    out.append("{\n")
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    properties = schema.get("properties")
    for key, value in (properties if isinstance(properties, dict) else {}).items():
        name = key if key in required else key + "?"
        if not isinstance(value, dict):
            out.append(f"{indent}{name}: any,\n")
            continue
        out += _comments_above(value, indent)
        if isinstance(value.get("oneOf"), list):
            out += _one_of_property(name, value, indent)
        else:
            default = "" if "oneOf" in value else _default(value)
            comment = f" // {default}" if default else ""
            out.append(f"{indent}{name}: {_nullable(value, indent + '    ')},{comment}\n")
    return "".join(out) + indent + "}"


def _comments_above(value: dict[str, Any], indent: str) -> list[str]:
    """Title, description and examples of a property, as comment lines."""
    out = []
    if isinstance(value.get("title"), str):
        out.append(f"{indent}// {value['title']}\n{indent}//\n")
    if "oneOf" not in value and isinstance(value.get("description"), str):
        out.append(f"{indent}// {value['description']}\n")
    examples = value.get("examples")
    if isinstance(examples, list) and examples:
        out.append(f"{indent}// Examples:\n")
        out += [f'{indent}// - "{example}"\n' for example in examples if isinstance(example, str)]
    return out


def _one_of_property(name: str, value: dict[str, Any], indent: str) -> list[str]:
    """A property of several types: one variant a line, each with its comment behind it."""
    variants, about = value["oneOf"], value.get("description")
    first = variants[0].get("description") if variants and isinstance(variants[0], dict) else None
    # A description that repeats the first variant's is written once, above neither.
    above = isinstance(about, str) and about != first
    out = [f"{indent}// {about}\n"] if above else []
    if default := _default(value):
        out.append(f"{indent}// {default}\n")
    out.append(f"{indent}{name}:\n")
    for i, variant in enumerate(variants):
        comments = []
        if isinstance(variant, dict):
            note = variant.get("description")
            if isinstance(note, str) and note != about and not (i == 0 and above):
                comments.append(note)
            comments += [default] if (default := _default(variant)) else []
        comment = " // " + " ".join(comments) if comments else ""
        out.append(f"{indent} | {_nullable(variant, indent + '   ')}{comment}\n")
    return [*out, f"{indent},\n"]


def _variant(variant: Any, indent: str) -> str:
    """A variant of a oneOf that is not a property: its type, then its comment."""
    comments = []
    if isinstance(variant, dict):
        if isinstance(variant.get("description"), str):
            comments.append(variant["description"])
        if default := _default(variant, quote_enum=True):
            comments.append(default)
    comment = " // " + " ".join(comments) if comments else ""
    return _nullable(variant, indent + "   ") + comment


def _nullable(schema: Any, indent: str) -> str:
    """The type, with ` | null` if the schema says nullable (and no "null" stands in it yet)."""
    text = schema_to_typescript(schema, indent)
    nullable = isinstance(schema, dict) and schema.get("nullable") is True
    return f"{text} | null" if nullable and "null" not in text else text


def _default(schema: dict[str, Any], quote_enum: bool = False) -> str:
    """`default: ...`, or nothing. Words of an enum go unquoted, except inside a bare oneOf."""
    if "default" not in schema:
        return ""
    value = schema["default"]
    if not isinstance(value, str):
        return f"default: {to_json(value)}"
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return f"default: {to_json(value) if quote_enum else value}"
    return f'default: "{value}"'


def to_json(value: Any) -> str:
    """Compact JSON as Rust's serde_json prints it: no spaces, letters as they are."""
    if isinstance(value, dict):
        items = (f"{json.dumps(str(k), ensure_ascii=False)}:{to_json(v)}" for k, v in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(to_json(v) for v in value) + "]"
    if isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64
    ):
        return _float(float(value))
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    """A float in the shortest digits; exponents only below 1e-5 and from 1e16 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return "null"  # JSON has no word for them
    digits, exponent = f"{value!r}e0".split("e")[:2]  # Python: exponent below 1e-4, from 1e16
    if exponent == "0" or value == 0:
        return digits
    if exponent == "-05":
        sign, digits = ("-", digits[1:]) if digits[0] == "-" else ("", digits)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def lines(text: str) -> list[str]:
    """Lines without their ends, cut at newlines only (str.splitlines cuts at nine more marks)."""
    cut = text.split("\n")
    if cut[-1] == "":
        cut.pop()
    return [line.removesuffix("\r") for line in cut]


def function_declaration(function: ToolDescription) -> str:
    """A function's description as comments, then its type."""
    comments = "".join(f"// {line}\n" for line in lines(function.description))
    if function.parameters is None:
        return f"{comments}type {function.name} = () => any;\n"
    return (
        f"{comments}type {function.name} = "
        f"(_: {schema_to_typescript(function.parameters)}) => any;\n"
    )


def tools_section(namespaces: tuple[ToolNamespace, ...]) -> str:
    """The `# Tools` section: each namespace under its heading, in alphabetical order."""
    sections = ["# Tools"]
    for space in sorted(namespaces, key=lambda space: space.name):
        mark = "// " if space.functions else ""
        body = [f"## {space.name}\n"]
        body += [mark + line for line in lines(space.description or "")]
        if space.functions:
            body.append(f"namespace {space.name} {{\n")
            body += [function_declaration(function) for function in space.functions]
            body.append(f"}} // namespace {space.name}")
        sections.append("\n".join(body))
    return "\n\n".join(sections)
