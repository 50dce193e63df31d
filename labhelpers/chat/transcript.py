"""The chat as a page: each message in its colours, with what is to be said about it.

The idea   `labhelpers.viz.conversation` draws messages; here remarks of the harness stand below
           the message that they are about, in small print, so that nobody takes them for the
           model's words.
gpt-oss    reasoning is folded: it is not written for the reader.
Limits     the settings (system and developer) are left out unless asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labhelpers.viz.components import escape
from labhelpers.viz.conversation import ConversationView, MessageView

if TYPE_CHECKING:
    from labhelpers.chat.record import Entry
    from labhelpers.chat.session import Chat


class EntryView(MessageView):
    """A message and the remark below it."""

    def __init__(self, entry: Entry, folded: bool = True) -> None:
        reasoning = entry.message.channel == "analysis"
        super().__init__(entry.message, entry.tokens if reasoning else None, folded)
        self.note = entry.note

    def html(self) -> str:
        if not self.note:
            return super().html()
        # Into the message's own block, so that the remark has the bar on its left too.
        inner = super().html().removesuffix("</dd></div>")
        return f"{inner}<div><small><i>({escape(self.note)})</i></small></div></dd></div>"

    def plain(self) -> str:
        return super().plain() + (f"\n    ({self.note})" if self.note else "")


def transcript(chat: Chat, settings: bool = False, open_analysis: bool = False) -> ConversationView:
    """All that was said in a chat. settings: the system and developer messages too."""
    views: list[MessageView] = []
    if settings:
        views += [MessageView(m) for m in chat.conversation if m.role in ("system", "developer")]
    views += [EntryView(entry, folded=not open_analysis) for entry in chat.entries]
    return ConversationView(views)
