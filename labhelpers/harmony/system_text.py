"""The texts of the system and developer messages, and of the two built-in tools.

gpt-oss's choice: the system message holds identity, dates, effort, built-in tools and channels;
the developer message holds instructions and functions. The wording is part of the format: the
model was trained on these sentences, so they are kept to the letter.

Source: openai-harmony 0.0.8 and OpenAI's harmony format guide. Limits: the python tool's text
promises a stateful notebook and 120 seconds; the tool that answers must keep that promise.
"""

from __future__ import annotations

from .messages import DeveloperContent, SystemContent, ToolDescription, ToolNamespace
from .typescript import tools_section

FUNCTIONS_LINE = "Calls to these tools must go to the commentary channel: 'functions'."


def _integer(default: int) -> dict[str, object]:
    return {"type": "number", "default": default}


BROWSER = ToolNamespace(
    "browser",
    "Tool for browsing.\n"
    "The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n"
    "Cite information from the tool using the following format:\n"
    "`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n"
    "Do not quote more than 10 words directly from the tool output.\n"
    "sources=web (default: web)",
    (
        ToolDescription(
            "search",
            "Searches for information related to `query` and displays `topn` results.",
            {
                "type": "object",
                "properties": {
                    "query": {"type": "string"},
                    "topn": _integer(10),
                    "source": {"type": "string"},
                },
                "required": ["query"],
            },
        ),
        ToolDescription(
            "open",
            "Opens the link `id` from the page indicated by `cursor` starting at line number "
            "`loc`, showing `num_lines` lines.\n"
            "Valid link ids are displayed with the formatting: `【{id}†.*】`.\n"
            "If `cursor` is not provided, the most recent page is implied.\n"
            "If `id` is a string, it is treated as a fully qualified URL associated with "
            "`source`.\n"
            "If `loc` is not provided, the viewport will be positioned at the beginning of the "
            "document or centered on the most relevant passage, if available.\n"
            "Use this function without `id` to scroll to a new location of an opened page.",
            {
                "type": "object",
                "properties": {
                    "id": {"type": ["number", "string"], "default": -1},
                    "cursor": _integer(-1),
                    "loc": _integer(-1),
                    "num_lines": _integer(-1),
                    "view_source": {"type": "boolean", "default": False},
                    "source": {"type": "string"},
                },
            },
        ),
        ToolDescription(
            "find",
            "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.",
            {
                "type": "object",
                "properties": {"pattern": {"type": "string"}, "cursor": _integer(-1)},
                "required": ["pattern"],
            },
        ),
    ),
)

PYTHON = ToolNamespace(
    "python",
    "Use this tool to execute Python code in your chain of thought. The code will not be shown "
    "to the user. This tool should be used for internal reasoning, but not for code that is "
    "intended to be visible to the user (e.g. when creating plots, tables, or files).\n\n"
    "When you send a message containing Python code to python, it will be executed in a stateful "
    "Jupyter notebook environment. python will respond with the output of the execution or time "
    "out after 120.0 seconds. The drive at '/mnt/data' can be used to save and persist user "
    "files. Internet access for this session is UNKNOWN. Depends on the cluster.",
)

BUILTINS = {"browser": BROWSER, "python": PYTHON}


def system_text(content: SystemContent, has_functions: bool) -> str:
    """The system message's text; `has_functions` adds the line about the functions namespace."""
    top = []
    if content.model_identity is not None:
        top.append(content.model_identity)
    if content.knowledge_cutoff is not None:
        top.append(f"Knowledge cutoff: {content.knowledge_cutoff}")
    if content.conversation_start_date is not None:
        top.append(f"Current date: {content.conversation_start_date}")
    sections = ["\n".join(top)] if top else []
    if content.reasoning_effort:
        sections.append(f"Reasoning: {content.reasoning_effort}")
    if content.tools:
        sections.append(
            tools_section(tuple(BUILTINS[t] if isinstance(t, str) else t for t in content.tools))
        )
    if content.valid_channels:
        channels = f"# Valid channels: {', '.join(content.valid_channels)}."
        if content.channel_required:
            channels += " Channel must be included for every message."
        sections.append(channels + ("\n" + FUNCTIONS_LINE if has_functions else ""))
    return "\n\n".join(sections)


def developer_text(content: DeveloperContent) -> str:
    """The developer message's text: instructions, then the functions as TypeScript."""
    sections = []
    if content.instructions is not None:
        sections += ["# Instructions", content.instructions]
    if content.functions:
        sections.append(tools_section((ToolNamespace("functions", None, content.functions),)))
    return "\n\n".join(sections)
