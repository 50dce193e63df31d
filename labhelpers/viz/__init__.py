"""Pictures, HTML views and widgets of the course; all colours come from `look`.

Importing it loads no matplotlib and no torch: the functions do when they draw. Some functions
bear the name of their module (`viz.parity`, `viz.conversation`): `from labhelpers.viz.parity
import Parity` reaches the module.
"""

from labhelpers.viz import look
from labhelpers.viz.attention import attention_row
from labhelpers.viz.conversation import conversation, tokens
from labhelpers.viz.curves import swiglu_curve
from labhelpers.viz.dropping import drop_rules, effort_lengths
from labhelpers.viz.harmony import anatomy, harmony_tokens
from labhelpers.viz.heads import head_map
from labhelpers.viz.lens import lens_table, logit_lens
from labhelpers.viz.look import Picture, use
from labhelpers.viz.parameters import active_bars, byte_bars, parameter_bars
from labhelpers.viz.parity import parity
from labhelpers.viz.rope import rope_angles, rope_dials
from labhelpers.viz.routing import (
    Routings,
    expert_bars,
    expert_load,
    expert_pairs,
    record_routing,
    token_experts,
    token_routing,
)
from labhelpers.viz.side_by_side import side_by_side
from labhelpers.viz.stream import Completion, stream
from labhelpers.viz.table import table
from labhelpers.viz.widgets import Explorer, routing_widget, sentence_routing, show

__all__ = [
    "Completion",
    "Explorer",
    "Picture",
    "Routings",
    "active_bars",
    "anatomy",
    "attention_row",
    "byte_bars",
    "conversation",
    "drop_rules",
    "effort_lengths",
    "expert_bars",
    "expert_load",
    "expert_pairs",
    "harmony_tokens",
    "head_map",
    "lens_table",
    "logit_lens",
    "look",
    "parameter_bars",
    "parity",
    "record_routing",
    "rope_angles",
    "rope_dials",
    "routing_widget",
    "sentence_routing",
    "show",
    "side_by_side",
    "stream",
    "swiglu_curve",
    "table",
    "token_experts",
    "token_routing",
    "tokens",
    "use",
]
