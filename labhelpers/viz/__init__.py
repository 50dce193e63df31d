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
from labhelpers.viz.memory import byte_shares, fits, hardware_paths, memory_table
from labhelpers.viz.mxfp4 import nibble_orders, one_block, scheme_errors, weight_histogram
from labhelpers.viz.mxfp4_bits import bits_of_one_number, number_line, one_number
from labhelpers.viz.mxfp4_training import recovery, staircase
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
from labhelpers.viz.token_profile import kernel_limits, token_limits, token_profile, two_ways
from labhelpers.viz.widgets import Explorer, routing_widget, sentence_routing, show

__all__ = [
    "Completion",
    "Explorer",
    "Picture",
    "Routings",
    "active_bars",
    "anatomy",
    "attention_row",
    "bits_of_one_number",
    "byte_bars",
    "byte_shares",
    "conversation",
    "drop_rules",
    "effort_lengths",
    "expert_bars",
    "expert_load",
    "expert_pairs",
    "fits",
    "hardware_paths",
    "harmony_tokens",
    "head_map",
    "kernel_limits",
    "lens_table",
    "logit_lens",
    "look",
    "memory_table",
    "nibble_orders",
    "number_line",
    "one_block",
    "one_number",
    "parameter_bars",
    "parity",
    "record_routing",
    "recovery",
    "rope_angles",
    "rope_dials",
    "routing_widget",
    "scheme_errors",
    "sentence_routing",
    "show",
    "side_by_side",
    "staircase",
    "stream",
    "swiglu_curve",
    "table",
    "token_experts",
    "token_limits",
    "token_profile",
    "token_routing",
    "tokens",
    "two_ways",
    "use",
    "weight_histogram",
]
