"""Parameters of functions, one trait of JSON schema each: the goldens `function_*.txt`.

Each entry is the `properties` of one function, whose first property is required.
"""

POINT = {
    "type": "object",
    "properties": {"x": {"type": "number", "description": "Left to right"}},
    "required": ["x"],
}

PROPERTIES = {
    "required_and_optional": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "simple_types": {
        "text": {"type": "string"},
        "whole": {"type": "integer"},
        "real": {"type": "number"},
        "flag": {"type": "boolean"},
        "nothing": {"type": "null"},
    },
    "descriptions": {
        "city": {"type": "string", "description": "Name of the city"},
        "day": {"type": "string", "description": "First line\nsecond line stays bare"},
    },
    "defaults": {
        "text": {"type": "string", "default": 'a "b"'},
        "whole": {"type": "integer", "default": 3},
        "small": {"type": "number", "default": 0.00001},
        "flag": {"type": "boolean", "default": False},
        "none": {"type": "string", "default": None},
        "words": {"type": "array", "items": {"type": "string"}, "default": ["a", "é"]},
        "json": {"default": {"a": [1, 2.5, None], "é": "\n"}},
    },
    "enums": {
        "unit": {"type": "string", "enum": ["celsius", "kelvin"], "default": "celsius"},
        "whole": {"type": "integer", "enum": [1, 2], "default": 1},
        "mixed": {"type": "string", "enum": ["a", 2, None]},
        "none": {"type": "string", "enum": [2]},
        "untyped": {"enum": ["a", "b"]},
    },
    "nullable": {
        "text": {"type": "string", "nullable": True},
        "flag": {"type": "boolean", "nullable": True, "default": None},
        "unit": {"type": "string", "enum": ["a", "null"], "nullable": True},
        "never": {"type": "string", "nullable": False},
    },
    "type_lists": {
        "either": {"type": ["integer", "string"]},
        "or_null": {"type": ["number", "null"], "default": None},
        "empty": {"type": []},
    },
    "arrays": {
        "words": {"type": "array", "items": {"type": "string"}},
        "table": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "bare": {"type": "array"},
        "of_enum": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "points": {"type": "array", "description": "The corners", "items": POINT},
    },
    "nested_objects": {
        "box": {
            "type": "object",
            "description": "A box",
            "properties": {"from": POINT, "to": POINT | {"description": "Far corner"}},
            "required": ["from"],
        },
        "free": {"type": "object"},
    },
    "any_of_and_references": {
        "optional_of_pydantic": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "all": {"allOf": [{"type": "string"}]},
        "reference": {"$ref": "#/$defs/Point"},
        "constant": {"const": "a"},
    },
    "titles_and_examples": {
        "city": {
            "type": "string",
            "title": "City",
            "description": "Name of it",
            "examples": ["Lyon", "Oslo", 3],
        },
    },
    "one_of": {
        "place": {
            "description": "Where",
            "default": "here",
            "oneOf": [
                {"type": "string", "description": "a name", "default": "here"},
                {"type": "number", "description": "an id", "nullable": True},
                POINT,
            ],
        },
        "same_as_first": {
            "description": "d",
            "oneOf": [{"type": "string", "description": "d"}, {"type": "number"}],
        },
        "same_as_second": {
            "description": "d",
            "oneOf": [
                {"type": "string", "description": "first goes"},
                {"type": "number", "description": "d"},
                {"type": "boolean", "description": "third stays"},
            ],
        },
        "without": {
            "oneOf": [{"type": "string", "enum": ["a"], "default": "a", "description": "v"}]
        },
    },
    "one_of_in_arrays": {
        "list": {
            "type": "array",
            "items": {
                "oneOf": [
                    {"type": "string", "enum": ["a"], "default": "a", "description": "v"},
                    {"type": "string", "default": "b"},
                ]
            },
        },
    },
    "keywords_not_read": {
        "n": {"type": "integer", "minimum": 1, "maximum": 9, "format": "int32"},
        "open": {"type": "object", "additionalProperties": {"type": "string"}},
        "always": True,
    },
}

SCHEMAS = {
    name: {"type": "object", "properties": properties, "required": [next(iter(properties))]}
    for name, properties in PROPERTIES.items()
}
