"""What the printers of one model share: names, fields, classes, kinds of masks and ropes."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from eulerc.backends.hf.component_file import component_file, forward_parameters
from eulerc.backends.hf.source_edit import parse
from eulerc.backends.hf.sources import component_source
from eulerc.backends.hf.specialise import PRESENT
from eulerc.ir.alibi import is_scaled
from eulerc.ir.cache_kinds import HYBRID, HYBRID_KINDS, attends_in, free_state, grows, layer_kind
from eulerc.ir.core import Module, Op, StateType, Symbol
from eulerc.ir.definition import Handed, definition, is_mixer
from eulerc.ir.extensions import extension_definition
from eulerc.ir.gating import gate_of
from eulerc.ir.layering import is_adaptive, layered
from eulerc.ir.memories import is_memory
from eulerc.ir.naming import class_prefix, stem
from eulerc.ir.numbers import (
    block_types,
    changes_width,
    config_fields,
    distinct_layers,
    layer_types,
    module_indices,
    schedule,
    shares_modules,
)
from eulerc.ir.ops.integrate import ADAPTIVE
from eulerc.ir.ops.merge import merge_shape
from eulerc.ir.phases import Phases, phases_of, rationale_of
from eulerc.ir.positions import rope_parameters
from eulerc.ir.prediction import predicting_template, prediction

OPTIONAL_SIZES = (
    "attention_multiplier",
    "clip_qkv",
    "key_multiplier",
    "value_multiplier",
    "v_head_dim",
    "sliding_window",
    "attn_logit_softcapping",
    "q_lora_rank",
    "lambda_init",
    "n_group",
    "routed_scaling_factor",
    "router_jitter_noise",
    "router_logit_softcapping",
    "experts_scaling_factor",
    "expert_capacity_factor",
    "num_identity_experts",
    "moe_latent_size",
    "swiglu_limit",
    "swiglu_alpha",
    "gate_multiplier",
    "down_multiplier",
    "activation_sparsity",
)
"""Facts that say only whether the config has a number."""

ABSOLUTE = ("embed_positions", "add_sinusoids")
"""Ops that read absolute positions."""

PARTS = ("Router", "Experts", "SharedMLP")
"""The slots of a mixture of experts that are classes."""

ROUTER_SIZES = {
    "num_experts",
    "num_identity_experts",
    "num_experts_per_tok",
    "num_attention_experts",
    "num_attention_experts_per_tok",
}
"""Numbers that routers of one model may differ in."""

SIZES = re.compile(r"\bsizes\.(\w+)")


def parameters_of(class_op: Op) -> dict[str, str]:
    """The parameters of a class's `forward` and their annotations, as its component declares them."""
    source = parse(component_source(class_op["component"]), class_op["component"])
    return forward_parameters(component_file(source), class_op["definition"])


def _takes(op: Op) -> tuple[Handed, ...]:
    return definition(op.name).takes(op)


class Model:
    """A module at stage `module`, with the questions that several printers ask."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.spec = module.one("spec")
        self.prefix = class_prefix(self.spec["name"])
        self.stem = stem(self.spec["name"])

    @cached_property
    def templates(self) -> dict[str, Op]:
        return {str(op.symbol): op for op in self.module.all("template")}

    @cached_property
    def graph(self) -> Op:
        return self.module.one("graph")

    @cached_property
    def layers(self) -> tuple[Op, ...]:
        return self.module.all("layer")

    @cached_property
    def schedule(self) -> list[Op]:
        return schedule(self.module)

    @cached_property
    def phases(self) -> Phases | None:
        """The phases of generation, if it has any."""
        return phases_of(self.module)

    @cached_property
    def thinks(self) -> bool:
        """Whether it thinks before every token."""
        return rationale_of(self.module) is not None

    @cached_property
    def pieces(self) -> tuple[Op, ...]:
        """The ops of the graph that run layers: a single stack where nothing is integrated."""
        return layered(self.graph)

    @cached_property
    def integrates(self) -> bool:
        return any(op.name == "integrate" for op in self.pieces)

    @cached_property
    def merges(self) -> list[Op]:
        """The ops of the graph that join streams of layers, those aside that are layers."""
        return [op for op in self.graph.ops if op.name == "merge"]

    @cached_property
    def merge_sizes(self) -> list[list[int]]:
        """Inputs and outputs of the matrices that join streams, where the stream is not as wide everywhere."""
        matrices = [op for op in self.merges if op.get("class") is not None]
        return [list(merge_shape(op))[::-1] for op in matrices] if self.changes_width else []

    @cached_property
    def forks(self) -> bool:
        """Whether some layers stand beside others."""
        return bool(self.merges) or any(op.name == "cross" for op in self.pieces)

    @cached_property
    def in_pieces(self) -> bool:
        """Whether the model's forward pass is more than a loop over its layers."""
        return self.integrates or self.forks

    @cached_property
    def per_layer(self) -> bool:
        """Whether every layer has embeddings of its own."""
        return any(op.name == "per_layer_embedding" for op in self.graph.ops)

    @cached_property
    def adaptive(self) -> bool:
        """Whether a solver runs layers as often as it likes, so that there is no cache."""
        return is_adaptive(self.graph)

    @cached_property
    def integrator_tolerances(self) -> list[float]:
        """The tolerance of every adaptive integrator."""
        return [op["tolerance"] for op in self.pieces if op.get("method") == ADAPTIVE]

    @cached_property
    def integrator_steps(self) -> list[int]:
        """The steps of every integrator that has some."""
        return [op["steps"] for op in self.pieces if op.get("method", "discrete") != "discrete"]

    @cached_property
    def shares_modules(self) -> bool:
        """Whether a module runs several times: then every run is told its cache slot."""
        return shares_modules(self.module)

    @cached_property
    def module_indices(self) -> list[int]:
        return module_indices(self.module)

    @cached_property
    def distinct_layers(self) -> list[Op]:
        return distinct_layers(self.module)

    def by_module(self, values: list[str]) -> list[str]:
        """What holds for every layer that runs, for every module."""
        return [values[self.module_indices.index(module)] for module in range(len(self.distinct_layers))]

    @cached_property
    def in_use(self) -> list[Op]:
        """The templates of the layers, each once."""
        return list({str(template.symbol): template for template in self.schedule}.values())

    @cached_property
    def mtp(self) -> Op | None:
        """The modules that predict further tokens."""
        return prediction(self.module)

    @cached_property
    def mtp_mixers(self) -> list[Op]:
        """The ops with decode state of the prediction modules' layers."""
        template = predicting_template(self.module)
        return [] if template is None else [op for op in template.ops if op.carries]

    @cached_property
    def attending(self) -> list[Op]:
        """The ops with decode state of layers and prediction modules."""
        return [*self.mixers, *self.mtp_mixers]

    @cached_property
    def all_kinds(self) -> list[str]:
        """The cache kinds of layers and prediction modules."""
        return [*self.kinds, *(str(layer_kind(op)) for op in self.mtp_mixers)]

    @cached_property
    def mtp_rope_label(self) -> str | None:
        """With several ropes: the label of that of the prediction modules."""
        ropes = {str(op.get("rope")) for op in self.mtp_mixers}
        return next((label for label, name in self.rope_labels.items() if name in ropes), None)

    @cached_property
    def numbers(self) -> dict[str, Any]:
        return config_fields(self.module)

    @cached_property
    def differing(self) -> frozenset[str]:
        """Config fields that differ between layers."""
        return frozenset(self.numbers["per_layer"])

    @cached_property
    def kinds(self) -> list[str]:
        return layer_types(self.module)

    @cached_property
    def has_layer_types(self) -> bool:
        """Only a model with several kinds or windows lists them: the library infers a single one."""
        return len(set(self.all_kinds)) > 1 or self.masks_differ or self.indexed or self.chunked or self.recurrent

    @cached_property
    def recurrent(self) -> bool:
        """Whether some layer keeps a state that does not grow with the sequence."""
        return not all(map(grows, self.states))

    @cached_property
    def hybrid(self) -> bool:
        """Whether some layer has an attention, and beside it a mixer of the other kind or a memory."""
        several = set(HYBRID_KINDS.values()) & set(self.kinds)
        return not self.timeless and (bool(several) or any(not op.carries for op in self.memories))

    @cached_property
    def timeless(self) -> bool:
        """Whether no layer's cache has a length."""
        return not any(map(grows, self.states))

    @cached_property
    def states(self) -> list[StateType]:
        """The decode states of the layers."""
        return [state for template in self.schedule for op in template.ops for state in op.carries]

    @cached_property
    def memories(self) -> list[Op]:
        """The memories, layer by layer."""
        return [op for template in self.schedule for op in template.ops if is_memory(op)]

    @cached_property
    def reads_positions(self) -> bool:
        """Whether anything in the model asks where a token stands."""
        absolute = any(op.name in ABSOLUTE for op in self.graph.ops)
        return not self.timeless or absolute or bool(self.ropes) or self.counts_from_start

    @cached_property
    def number_of_states(self) -> int:
        """How many states of one kind a layer keeps at most, beside those that grow."""
        return max((free_state(template.ops) for template in self.schedule), default=0)

    @cached_property
    def gates(self) -> list[Op]:
        """The gates of layers that only some tokens go through."""
        return [gate for gate in map(gate_of, self.templates.values()) if gate is not None]

    @cached_property
    def indexed(self) -> bool:
        """Whether the cache keeps something of every token beside keys and values: for an indexer, or for a gate."""
        return "indexed_attention" in self.all_kinds

    @cached_property
    def handed(self) -> dict[str, str]:
        """The tensors that layers hand on beside the stream, by name: the key of the language that asks for each."""
        return {value.name: value.key for template in self.schedule for op in template.ops for value in _takes(op)}

    def class_of(self, op: Op) -> Op:
        """The class of an op's module."""
        return next(item for item in self.module.all("class") if item.symbol == op["class"])

    @cached_property
    def takers(self) -> dict[str, set[str]]:
        """By class: the values of earlier layers that its `forward` takes."""
        found: dict[str, set[str]] = {}
        for template in self.templates.values():
            for op in template.ops:
                found.setdefault(str(op.get("class")), set()).update(value.name for value in _takes(op))
        return found

    @cached_property
    def unmasked(self) -> list[str]:
        """The kinds of layers that read no mask of attention: without a mixer, or with one that keeps its inputs."""
        attends = any(attends_in(op, {*HYBRID_KINDS, *HYBRID_KINDS.values()}) for op in self.mixers)
        found = {"moe"} if attends else {"moe", HYBRID}
        return sorted(found & set(self.kinds))

    @cached_property
    def masks_differ(self) -> bool:
        """Whether layers of one kind need masks of their own: by their windows, gaps within them, prefixes, biases."""
        numbers = self.differing & {"sliding_window", "prefix_lm", *self.bias_numbers}
        # Of layers with two kinds of caches, the library's own masks do not know which to measure
        return bool(numbers) or self.dilated or self.hybrid

    @cached_property
    def has_prefix(self) -> bool:
        """Whether some tokens see ahead: those of a prefix."""
        return any(op.get("prefix_lm") for op in self.attending)

    @cached_property
    def chunked(self) -> bool:
        return "chunked_attention" in self.all_kinds

    @cached_property
    def dilated(self) -> bool:
        return any(op.get("window_dilation") is not None for op in self.attending)

    @cached_property
    def blocks(self) -> list[str]:
        """The block type of every layer: templates of one class share one, unless their ropes differ."""
        names = block_types(self.module)
        ropes: dict[str, set[str]] = {}
        for name, template in zip(names, self.schedule, strict=True):
            ropes.setdefault(name, set()).update(str(op.get("rope")) for op in template.ops if is_mixer(op))
        apart = any(len(found) > 1 for found in ropes.values()) and not self.kinds_tell_ropes
        return [str(template.symbol) for template in self.schedule] if apart else names

    @cached_property
    def kinds_tell_ropes(self) -> bool:
        """Whether layers of one cache kind have one rope."""
        found: dict[str, set[str]] = {}
        for layer, op in self.placed_mixers:
            found.setdefault(self.kinds[layer], set()).add(str(op.get("rope")))
        return all(len(names) == 1 for names in found.values())

    @cached_property
    def has_block_types(self) -> bool:
        """A model lists its blocks where they are of several classes, or tell its ropes apart."""
        several = len(self.layers) > 1 or self.several_slots
        return several or (len(self.ropes) > 1 and not set(self.rope_labels) <= set(self.kinds))

    @cached_property
    def several_slots(self) -> bool:
        """Whether some layer has several cache slots."""
        return any(op.get("slot") for template in self.templates.values() for op in template.ops)

    @cached_property
    def layer_classes(self) -> dict[str, str]:
        """The layer class of every block type."""
        classes = {str(template): str(op.symbol) for op in self.layers for template in op["templates"]}
        return {name: classes[name] for name in dict.fromkeys(self.blocks) if name in classes}

    @cached_property
    def mixers(self) -> list[Op]:
        """The mixers, layer by layer."""
        return [op for _, op in self.placed_mixers]

    @cached_property
    def placed_mixers(self) -> list[tuple[int, Op]]:
        """The mixers, each with its layer: a layer may have none."""
        return [(layer, op) for layer, template in enumerate(self.schedule) for op in template.ops if is_mixer(op)]

    @cached_property
    def has_extensions(self) -> bool:
        """Whether the model has mixers of extensions, of which nobody knows what kernels take them."""
        return any(extension_definition(op.name) is not None for op in self.mixers)

    @cached_property
    def alibi(self) -> bool:
        return any(op.get("alibi") for op in self.attending)

    @cached_property
    def bias_numbers(self) -> tuple[str, ...]:
        """The numbers that the biases on the scores are made of."""
        if not self.alibi:
            return ()
        return ("num_attention_heads", "head_dim") if any(map(is_scaled, self.attending)) else ("num_attention_heads",)

    @cached_property
    def softcapped(self) -> bool:
        return any(op.get("softcap") is not None for op in self.attending)

    @cached_property
    def has_value_dims(self) -> bool:
        """Whether values of plain attention have another width than keys, which few kernels take."""
        return any(
            op.name == "mixer.differential_attention"
            or (op.name == "mixer.attention" and op.get("v_head_dim") is not None)
            for op in self.attending
        )

    @cached_property
    def masks_by_head(self) -> bool:
        """Whether layers make masks of their own, one a head."""
        return self.has_blocks or any(op.get("dynamic_mask") is not None for op in self.attending)

    @cached_property
    def has_blocks(self) -> bool:
        """Whether some attention reads blocks of tokens, which begin where the sequence does."""
        return any(op.get("m_block") is not None for op in self.attending)

    @cached_property
    def tells_positions_apart(self) -> bool:
        """Whether scores depend on more than distances.

        Temperatures do, and norms after the rotation: weights or a mean are of channels, which the rotation mixes.
        """
        norms = [op["qk_norm"] for op in self.attending if op.get("qk_norm") is not None]
        mixed = any(
            norm.get("place") == "after_rope" and (norm["norm"] != "norm.rms" or norm.get("weight", True))
            for norm in norms
        )
        return mixed or self.has_temperatures

    @cached_property
    def has_absolute_positions(self) -> bool:
        """Whether it matters where a sequence begins."""
        absolute = any(op.name in ABSOLUTE for op in self.graph.ops)
        return absolute or self.tells_positions_apart or self.counts_from_start

    @cached_property
    def counts_from_start(self) -> bool:
        """Whether some mixer treats the first token of a sequence otherwise."""
        return any(definition(op.name).counts_from_start for op in self.mixers)

    @cached_property
    def has_temperatures(self) -> bool:
        return any(op.get("temperature") is not None for op in self.attending)

    @cached_property
    def has_sinks(self) -> bool:
        return any(op.get("attention_sinks") is not None for op in self.attending)

    @cached_property
    def moe(self) -> list[Op]:
        return [op for template in self.templates.values() for op in template.ops if op.name == "ffn.moe"]

    @cached_property
    def attention_mixtures(self) -> list[Op]:
        ops = [op for template in self.templates.values() for op in template.ops]
        return [op for op in ops if op.name == "mixer.mixture_attention"]

    @cached_property
    def routers(self) -> list[tuple[Op, str]]:
        """The ops with routers, and what these are called in their modules."""
        within = [*self.attention_mixtures, *self.gates]
        return [*((op, "gate") for op in self.moe), *((op, "router") for op in within)]

    @cached_property
    def routed(self) -> list[Op]:
        """The ops with routers whose logits a forward pass may return."""
        return [*self.moe, *(op for op in self.attention_mixtures if op["recorded"])]

    @cached_property
    def hashes(self) -> bool:
        """Whether token ids choose the experts of some layer."""
        return any(op["hash_salt"] is not None for op in self.moe)

    @cached_property
    def router_classes(self) -> list[str]:
        """The classes of the routers that learn to choose."""
        classes = self.module.all("class")
        mixtures = [op for op in classes if op["component"] == "sparse_moe" and not op["facts"]["hash_routing"]]
        return list(dict.fromkeys(str(op["slots"]["Router"]) for op in mixtures))

    @cached_property
    def attention_router_classes(self) -> list[str]:
        """The classes of the routers in attention, where their logits are recorded."""
        names = dict.fromkeys(str(op["class"]) for op in self.attention_mixtures if op["recorded"])
        classes = {str(op.symbol): op for op in self.module.all("class")}
        return [part_names(classes[name])["AttentionRouter"] for name in names]

    @cached_property
    def routers_differ(self) -> bool:
        """Whether routers differ in experts, or in how many of them a token uses."""
        return (
            bool(self.differing & ROUTER_SIZES)
            or len({op["identity_experts"] is None for op in self.moe}) > 1
            or len({(op["experts"] + (op.get("identity_experts") or 0), op["top_k"]) for op in self.routed}) > 1
        )

    @cached_property
    def ropes(self) -> tuple[Op, ...]:
        return self.module.all("rope")

    @cached_property
    def neighbour_tables(self) -> bool:
        """Whether the table may hold angles as interleaved rotations read them, which saves these a step.

        All that rotate read one table then: latent attention and indexers take its first half.
        """
        slots = [(str(op["component"]), op["slots"]) for op in self.module.all("class")]
        readers = {component for component, given in slots if "rotation" in given or "index_rotation" in given}
        return (
            len(self.ropes) == 1 and bool(self.ropes[0]["interleaved"]) and readers <= {"attention", "shared_attention"}
        )

    @cached_property
    def rope_labels(self) -> dict[str, str]:
        """With several ropes: the rope of every label. Labels are layer types where those tell the ropes apart."""
        labels = self.kinds if self.kinds_tell_ropes else self.blocks
        rotating = [(labels[layer], op) for layer, op in self.placed_mixers if isinstance(op.get("rope"), Symbol)]
        return {label: str(op["rope"]) for label, op in rotating}

    @cached_property
    def rope_label_list(self) -> str | None:
        """With several ropes: the list in the config that says which one a layer has."""
        if len(self.ropes) < 2:
            return None
        return "layer_types" if set(self.rope_labels) <= set(self.kinds) else "block_types"

    @cached_property
    def float32_labels(self) -> list[str]:
        """The labels of the tables that stay in float32, where others do not."""
        precise = {str(op.symbol) for op in self.ropes if op["precision"] == "float32"}
        return (
            [label for label, name in self.rope_labels.items() if name in precise]
            if len(self.ropes) > len(precise)
            else []
        )

    @cached_property
    def tables_read_layers(self) -> bool:
        """Whether a rotary table needs the numbers of a layer: scaled ones read the number of heads, all the width."""
        scaled = any(op["scaling"] is not None for op in self.ropes)
        return "head_dim" in self.differing or (scaled and "num_attention_heads" in self.differing)

    @cached_property
    def rope_parameters(self) -> dict[str, Any] | None:
        tables = {str(op.symbol): rope_parameters(dict(op.attributes)) for op in self.ropes}
        if not tables:
            return None
        if len(tables) == 1:
            return next(iter(tables.values()))
        return {label: tables[name] for label, name in self.rope_labels.items()}

    @cached_property
    def changes_width(self) -> bool:
        return changes_width(self.module)

    @cached_property
    def outer_classes(self) -> set[str]:
        """The classes of the modules outside the layers."""
        return {str(op.get("class")) for op in self.graph.ops}

    def keeps_layer_idx(self, class_op: Op) -> bool:
        """Whether a class reads a number that differs between layers, or is told its layer for the cache.

        A mixture of experts hands its layer on to the classes inside it, so that they agree.
        """
        if "self.layer_idx" in component_source(class_op["component"]):
            return True
        group = self.mixtures if str(class_op.symbol) in self.mixtures else {str(class_op.symbol): class_op}
        if self.changes_width and any(_reads_width(op["component"]) for op in group.values()):
            return True
        return any(self.differing.intersection(_sizes_read(op["component"])) for op in group.values())

    @cached_property
    def mixtures(self) -> dict[str, Op]:
        """The classes of mixtures of experts, and those inside them."""
        classes = {str(op.symbol): op for op in self.module.all("class")}
        found = {name: op for name, op in classes.items() if op["component"] == "sparse_moe"}
        parts = [str(op["slots"][name]) for op in found.values() for name in PARTS if name in op["slots"]]
        return found | {name: classes[name] for name in parts}


def part_names(op: Op) -> dict[str, str]:
    """The classes that come with a class: named after it."""
    own = str(op.symbol).removesuffix("Attention")
    return {part: f"{own}{part}" for part in op.get("parts", ())}


def _reads_width(component: str) -> bool:
    return re.search(r"\b(config|sizes)\.hidden_size\b", component_source(component)) is not None


def _sizes_read(component: str) -> frozenset[str]:
    return frozenset(SIZES.findall(component_source(component)))


def facts_of(class_op: Op) -> dict[str, Any]:
    """The facts of a class for the specialiser: presence becomes PRESENT or None."""
    facts = dict(class_op["facts"])
    for name in OPTIONAL_SIZES:
        if name in facts:
            facts[name] = PRESENT if facts[name] else None
    return facts
