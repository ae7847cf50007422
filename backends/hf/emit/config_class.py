"""The config class, printed with its fields, documentation, plans and checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eulerc.backends.hf.emit.emitter import Emitter, source_of
from eulerc.backends.hf.emit.facts import ABSOLUTE, Model
from eulerc.backends.hf.emit.handed import groups, sharing_modes
from eulerc.backends.hf.emit.lists import indices, listed
from eulerc.backends.hf.emit.phases import config_modes
from eulerc.backends.hf.emit.prediction import mtp_config_method, mtp_values
from eulerc.ir.core import Op
from eulerc.ir.definition import definition
from eulerc.ir.extensions import extension_field
from eulerc.ir.fields import Flag, Integer, Number
from eulerc.ir.layering import evaluations
from eulerc.ir.numbers import final_width
from eulerc.ir.ops.integrate import ADAPTIVE, STAGES, STEPPING
from eulerc.ir.prediction import predicting_template

DOCS: dict[str, tuple[str, str]] = {
    "vocab_size": ("int", "Rows of the token embedding."),
    "hidden_size": ("int", "Width of the residual stream."),
    "num_hidden_layers": ("int", "Number of decoder layers."),
    "max_position_embeddings": ("int", "Longest sequence the model is meant for."),
    "initializer_range": ("float", "Standard deviation of the initial weights."),
    "mup_base_width": ("int", "Width at which the deviation of the weights and the learning rate were chosen."),
    "num_attention_heads": ("int", "Query heads."),
    "num_key_value_heads": ("int", "Key/value heads."),
    "head_dim": ("int", "Width of a head, or of its rotating part."),
    "intermediate_size": ("int", "Width of the feed-forward hidden layer."),
    "hidden_act": ("str", "Activation of the feed-forward network."),
    "gate_multiplier": ("float", "Factor on the feed-forward gate before its activation."),
    "down_multiplier": ("float", "Factor on the feed-forward network's output."),
    "activation_sparsity": ("float", "Share of the feed-forward gate that becomes zero."),
    "swiglu_limit": ("float", "Largest gate, and largest size of what it multiplies."),
    "swiglu_alpha": ("float", "Factor on the gate inside its sigmoid."),
    "hc_mult": ("int", "Streams of the residual, between which layers have hyper-connections."),
    "hc_sinkhorn_iters": ("int", "Iterations that make the matrix between streams doubly stochastic."),
    "hc_rank": ("int", "Rank of what the matrix that mixes streams has besides the identity."),
    "hc_eps": ("float", "Added to the weights of hyper-connections and to the sums they are divided by."),
    "hc_norm_eps": ("float", "Added to the mean square in the norms of hyper-connections."),
    "inner_norm_eps": ("float", "Added to the variance in the norm before the feed-forward down projection."),
    "rms_norm_eps": ("float", "Added to the mean square in norms."),
    "layer_norm_eps": ("float", "Added to the variance in norms."),
    "final_norm_eps": ("float", "Added to the variance in the norm before the head."),
    "gate_rank": ("int", "Width between the two projections of a norm's gate."),
    "final_gate_rank": ("int", "Width between the two projections of the gate of the norm before the head."),
    "norm_groups": ("int", "Groups of channels in norms."),
    "final_norm_groups": ("int", "Groups of channels in the norm before the head."),
    "residual_norm_eps": ("float", "Added to the variance in the norms on outputs of sublayers."),
    "attention_norm_eps": ("float", "Added to the variance in the norms of the mixers."),
    "feedforward_norm_eps": ("float", "Added to the variance in the norms of the feed-forward networks."),
    "embedding_norm_eps": ("float", "Added to the variance in the norm on the embedding."),
    "qk_norm_eps": ("float", "Added to the variance in the norms of queries and keys."),
    "value_norm_eps": ("float", "Added to the variance in the norms of values."),
    "output_norm_eps": ("float", "Added to the variance in the norms before output projections."),
    "clip_qkv": ("float", "Magnitude that queries, keys and values are clamped to."),
    "key_multiplier": ("float", "Factor on the keys."),
    "value_multiplier": ("float", "Factor on the values."),
    "query_temperature_scale": ("float", "How fast the factor on queries grows with their position."),
    "query_temperature_length": ("float", "Length over which the factor on queries grows, in tokens."),
    "latent_norm_eps": ("float", "Added to the mean square in the norms of latents."),
    "attention_dropout": ("float", "Dropout on the attention weights."),
    "attention_multiplier": ("float", "Factor on the attention scores."),
    "alibi_bias_max": ("float", "The slopes of the biases on the scores fall to 2 to the power of minus this."),
    "attn_logit_softcapping": ("float", "Cap on the attention scores."),
    "sliding_window": ("int", "Tokens that a query of a windowed layer sees, itself included."),
    "window_dilation": ("int", "Every how many tokens a windowed layer sees one."),
    "prefix_lm": ("bool", "Whether the prefix sees itself in both directions."),
    "attention_chunk_size": ("int", "Length of the chunks that queries of a chunked layer do not see beyond."),
    "kv_lora_rank": ("int", "Rank of the latent of keys and values."),
    "q_lora_rank": ("int", "Rank of the latent of queries."),
    "qk_nope_head_dim": ("int", "Width of the part of a head that does not rotate."),
    "qk_rope_head_dim": ("int", "Width of the part of a head that rotates."),
    "v_head_dim": ("int", "Width of a value head."),
    "lambda_init": ("float", "Weight of the second half of the heads before training."),
    "lambda_std_dev": ("float", "Standard deviation of the vectors that move this weight."),
    "difference_norm_eps": ("float", "Added to the mean square in the norm of the heads' difference."),
    "compress_block_size": ("int", "Tokens of a block that becomes one key."),
    "compress_stride": ("int", "Tokens from the start of one such block to that of the next."),
    "select_block_size": ("int", "Tokens of a block that is read in full or not at all."),
    "sparse_window": ("int", "Tokens that a query sees beside blocks."),
    "output_groups": ("int", "Groups of heads, each projected by itself."),
    "output_rank": ("int", "Channels that a group of heads is projected to."),
    "keep_window_size": ("int", "Keys that a query attends to: those with the largest biases."),
    "depth_capacity": ("float", "Share of the tokens that go through a gated layer, in training."),
    "depth_loss_coef": ("float", "Weight of the loss that teaches gates which tokens are the best."),
    "index_n_heads": ("int", "Heads of the indexer."),
    "index_head_dim": ("int", "Width of a head of the indexer."),
    "index_topk": ("int", "Keys that a query attends to, as the indexer chooses them."),
    "linear_num_key_heads": ("int", "Heads of queries and keys of linear attention."),
    "linear_num_value_heads": ("int", "Heads of values of linear attention, each with a memory."),
    "linear_key_head_dim": ("int", "Width of a head of its queries and keys."),
    "linear_value_head_dim": ("int", "Width of a head of its values."),
    "linear_rank": ("int", "Rank of the projections to its decays and gates."),
    "linear_conv_kernel_dim": ("int", "Tokens that the convolutions before linear attention see."),
    "linear_chunk_size": ("int", "Tokens that linear attention works on together."),
    "linear_norm_eps": ("float", "Added to the mean square in the norms over heads of linear attention."),
    "num_attention_experts": ("int", "Experts that map to queries and back."),
    "num_attention_experts_per_tok": ("int", "Experts whose heads a token attends with."),
    "num_branches": ("int", "Mixers of a layer that has several."),
    "num_branches_per_tok": ("int", "Mixers whose output a token takes."),
    "memory_hidden_size": ("int", "Inner width of memories."),
    "memory_inner_lr": ("float", "Largest rate at which memories learn."),
    "memory_chunk_size": ("int", "Tokens that memories learn together."),
    "memory_norm_eps": ("float", "Added to the mean square in the norms of gates between mixers and memories."),
    "memory_slots": ("int", "Pairs of keys and values that memories hold."),
    "memory_top_k": ("int", "Pairs that a token reads."),
    "hyena_depth": ("int", "Long convolutions of a layer of Hyena, each with a gate behind."),
    "hyena_filter_size": ("int", "Width of the networks that give their taps."),
    "hyena_filter_layers": ("int", "Hidden layers of such a network."),
    "hyena_filter_features": ("int", "Waves over the longest sequence that it reads."),
    "hyena_filter_frequency": ("float", "Factor within its sines, before training."),
    "hyena_filter_decay": ("float", "Decay of the fastest taps over the longest sequence, as an exponent."),
    "hyena_d_conv": ("int", "Tokens that the convolutions of the projections of Hyena see."),
    "short_conv_kernel": ("int", "Tokens that short convolutions see."),
    "retention_chunk_size": ("int", "Tokens that retention works on together."),
    "retention_norm_eps": ("float", "Added to the variance in the norms over heads of retention."),
    "lru_width": ("int", "Channels of the linear recurrences."),
    "lru_num_blocks": ("int", "Blocks of these channels, whose gates are read off the block."),
    "lru_conv_kernel": ("int", "Tokens that the convolutions before the recurrences see."),
    "lru_act": ("str", "Activation of the gate on what the recurrences give."),
    "lightning_act": ("str", "Activation of queries, keys and values of lightning attention."),
    "lightning_chunk_size": ("int", "Tokens that lightning attention works on together."),
    "lightning_norm_eps": ("float", "Added to the mean square in the norms of lightning attention."),
    "rwkv_size": ("int", "Channels of the keys and values of RWKV."),
    "rwkv_chunk_size": ("int", "Tokens of the chunks that RWKV lets advance together."),
    "mlstm_qk_head_dim": ("int", "Width of the queries and keys of a head of mLSTM."),
    "mlstm_v_head_dim": ("int", "Width of the values of such a head."),
    "mlstm_gate_softcap": ("float", "Cap on what the gates of mLSTM read off the stream."),
    "mlstm_chunk_size": ("int", "Tokens that mLSTM works on together."),
    "mlstm_eps": ("float", "Added to what the output of mLSTM is divided by."),
    "mlstm_norm_eps": ("float", "Added to the variance in the norms over heads of mLSTM."),
    "ttt_inner_size": ("int", "Width between the two matrices of the MLPs that learn within a sequence."),
    "ttt_inner_lr": ("float", "The largest learning rate of models that learn within a sequence."),
    "ttt_inner_steps": ("int", "Steps that such a model takes for every token."),
    "ttt_mini_batch_size": ("int", "Tokens whose gradients are taken at the same weights."),
    "ttt_norm_eps": ("float", "Added to the variance in the norms inside such models."),
    "ttt_inner_beta_1": ("float", "How much of its first moment a step of such a model keeps."),
    "ttt_inner_beta_2": ("float", "How much of its second moment a step of such a model keeps."),
    "ttt_inner_eps": ("float", "Added to the root of this second moment."),
    "ttt_inner_weight_decay": ("float", "Decay of the weights of such a model, as a multiple of its learning rate."),
    "mamba_n_heads": ("int", "Heads of the state space mixers."),
    "mamba_d_head": ("int", "Width of such a head."),
    "mamba_n_groups": ("int", "Groups of heads that share what is written and read."),
    "mamba_d_state": ("int", "Size of the state of each channel."),
    "mamba_d_conv": ("int", "Tokens that the convolutions of the mixers see."),
    "mamba_chunk_size": ("int", "Tokens that the mixers work on together."),
    "mamba_gate_factor": ("float", "Factor on the gates of the state space mixers."),
    "mamba_input_factor": ("float", "Factor on what their convolutions read."),
    "mamba_b_factor": ("float", "Factor on how they write their states."),
    "mamba_c_factor": ("float", "Factor on how they read them."),
    "mamba_dt_factor": ("float", "Factor on what their steps are made of."),
    "mamba_norm_eps": ("float", "Added to the mean square in the norms of the mixers' output."),
    "mamba_d_ssm": ("int", "Channels of the state space mixers."),
    "mamba_dt_rank": ("int", "Rank of the projections to their steps."),
    "mamba_state_norm_eps": (
        "float",
        "Added to the mean square in the norms of steps, and of what is written and read.",
    ),
    "time_step_min": ("float", "Least step before training."),
    "time_step_max": ("float", "Largest step before training."),
    "time_step_lower": ("float", "Least step."),
    "time_step_upper": ("float", "Largest step."),
    "num_experts": ("int", "Routed experts."),
    "num_experts_per_tok": ("int", "Experts a token uses."),
    "num_identity_experts": ("int", "Experts that give back what they read."),
    "moe_intermediate_size": ("int", "Width of one expert."),
    "moe_latent_size": ("int", "Width that the routed experts read and write."),
    "shared_expert_intermediate_size": ("int", "Width of the shared experts together."),
    "routed_scaling_factor": ("float", "Factor on the routed weights."),
    "experts_scaling_factor": ("float", "Factor on the sum of the routed experts' outputs."),
    "router_input_norm_eps": ("float", "Added to the variance in the norms of what routers read."),
    "expert_input_norm_eps": ("float", "Added to the variance in the norms of what experts read."),
    "router_norm_eps": ("float", "Added to the sum of a token's routed weights, by which they are divided."),
    "router_norm_floor": ("float", "Least divisor of a token's routed weights."),
    "router_norm_power": ("float", "Power of the norm by which a token's routed weights are divided."),
    "router_logit_softcapping": ("float", "Cap on the routers' logits."),
    "n_group": ("int", "Groups that the experts are split into."),
    "topk_group": ("int", "Groups a token may choose experts from."),
    "router_aux_loss_coef": ("float", "Weight of the load-balancing loss."),
    "router_z_loss_coef": ("float", "Weight of the router z-loss."),
    "router_sequence_loss_coef": ("float", "Weight of the balance loss within sequences."),
    "sparse_mixer_threshold": (
        "float",
        "Half the relative distance from the best expert at which others have no weight.",
    ),
    "router_hash_salt": ("int", "Added to token ids before they are hashed to experts."),
    "expert_capacity_factor": ("float", "Tokens that an expert takes in training, over its even share."),
    "router_jitter_noise": ("float", "Noise on the router's input in training."),
    "output_router_logits": ("bool", "Return the routers' logits and their load-balancing loss without labels too."),
    "residual_multiplier": ("float", "Factor on the output of every sublayer."),
    "attention_residual_multiplier": ("float", "Factor on the output of every mixer."),
    "feedforward_residual_multiplier": ("float", "Factor on the output of every feed-forward network."),
    "skip_multiplier": ("float", "Factor on what the output of a sublayer is added to."),
    "attention_skip_multiplier": ("float", "Factor on what the output of a mixer is added to."),
    "feedforward_skip_multiplier": ("float", "Factor on what the output of a feed-forward network is added to."),
    "embedding_multiplier": ("float", "Factor on the embedding."),
    "embedding_size": ("int", "Width of the token embedding."),
    "per_layer_size": ("int", "Width of a token's embedding for a layer."),
    "per_layer_act": ("str", "Activation of the gate on a layer's embedding of a token."),
    "per_layer_norm_eps": ("float", "Added to the variance in the norms of layers' embeddings."),
    "stream_size": ("int", "Width of the residual stream that a layer reads."),
    "output_size": ("int", "Width of the residual stream behind a layer that changes it."),
    "unpadded_vocab_size": ("int", "Tokens that have logits."),
    "head_act": ("str", "Activation before the vocabulary."),
    "head_norm_eps": ("float", "Added to the variance in the norm before the vocabulary."),
    "hidden_divisor": ("float", "Divides the hidden states before the head."),
    "logit_divisor": ("float", "Divides the logits."),
    "logit_scale": ("float", "Factor on the logits."),
    "final_logit_softcapping": ("float", "Cap on the logits."),
    "hidden_dropout": ("float", "Dropout on the embedding and on every sublayer's output."),
    "rope_layers": ("dict", "For every rotary table, a layer that reads it."),
    "num_mtp_layers": ("int", "Modules, each of which predicts one token further ahead."),
    "num_mtp_block_layers": ("int", "Layers of such a module."),
    "mtp_loss_weight": ("float", "Weight of the modules' mean loss, in training."),
    "mtp_layer_types": ("list[str]", "Kinds of the modules' layers, as in `layer_types`."),
    "mtp_overrides": ("dict", "Numbers of the modules that are not those of the model."),
    "mtp_norm_eps": ("float", "Added to the variance in the modules' norms."),
    "mtp_gate_rank": ("int", "Width between the two projections of the gates of the modules' norms."),
    "mtp_norm_groups": ("int", "Groups of channels in the modules' norms."),
    "block_types": ("list[str]", "The template of every layer, by name."),
    "kv_groups": ("list[str]", "Layers of one name may share keys and values."),
    "number_of_conv_states": ("int", "States of one kind that a layer's cache holds."),
    "position_offset": ("int", "Added to every position."),
    "num_thought_tokens": ("int", "Tokens of the thought before every token."),
    "num_rationales": ("int", "Thoughts that are drawn before every token in training."),
    "rationale_loss_weight": ("float", "Weight of what teaches to think in the loss."),
    "execution_modes": ("list[dict]", "Phases of generation: name, budget in tokens, and what else tells them apart."),
    "transition_token_id": ("int", "Token that ends a phase which another one follows."),
    "module_indices": ("list[int]", "For every layer that runs, which of the modules in `layers` it is."),
    "shape_change_kernel": ("int", "Tokens that the convolutions see which change the width of the stream."),
    "shape_change_state": ("int", "Place of the inputs of these convolutions among the states of a layer's cache."),
    "merge_sizes": ("list[list[int]]", "Widths before and behind every matrix that joins streams of layers."),
    "integrator_steps": ("list[int]", "The steps of every integrator; of an adaptive one, the most."),
    "integrator_tolerances": ("list[float]", "The error that every adaptive integrator allows a step."),
}
COUNTING_WINDOW = 2
"""The window of a cache that counts tokens: any would do."""

STANDARD = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "max_position_embeddings",
        "initializer_range",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "hidden_act",
        "rms_norm_eps",
        "layer_norm_eps",
        "attention_dropout",
        "output_router_logits",
        "router_aux_loss_coef",
        "num_experts_per_tok",
    }
)
"""Fields that `auto_docstring` documents by itself."""


def documentation(name: str) -> tuple[str, str] | None:
    """Type and meaning of a field; those of branches go by the names of the branches.

    An extension documents its fields itself.
    """
    norm = name.removesuffix("_norm_eps")
    if norm != name and name not in DOCS:
        return ("float", f"Added to the variance in `{norm}_layernorm`.")
    for ending, what in (("_input_multiplier", "what `{}` reads"), ("_output_multiplier", "what `{}` gives")):
        if name.endswith(ending) and name not in DOCS:
            return ("float", f"Factor on {what.format(name.removesuffix(ending))}.")
    return DOCS.get(name) or _of_extension(name)


def _of_extension(name: str) -> tuple[str, str] | None:
    field = extension_field(name)
    if field is None:
        return None
    types = {Integer: "int", Number: "float", Flag: "bool"}
    return types.get(type(field.kind), "str"), field.doc


def config_values(model: Model, special_ids: dict[str, int | None]) -> dict[str, Any]:
    """The fields of the config class in order, with this model's values."""
    spec, fields = model.spec, model.numbers["fields"]
    values: dict[str, Any] = {"vocab_size": spec["vocab_size"], "hidden_size": final_width(model.module)}
    of_branches = sorted(name for name in fields if name not in DOCS and documentation(name) is not None)
    values |= {name: fields[name] for name in (*DOCS, *of_branches) if name in fields and name != "hidden_dropout"}
    values["num_hidden_layers"] = len(model.schedule)
    values["max_position_embeddings"] = spec["max_seq_len"]
    values["initializer_range"] = float(spec["init_std"])
    if spec["mup_base"] is not None:
        values["mup_base_width"] = spec["mup_base"]
    if "hidden_dropout" in fields:
        values["hidden_dropout"] = fields["hidden_dropout"]
    offset = next((op["offset"] for op in model.graph.ops if op.name in ABSOLUTE), 0)
    if offset:
        values["position_offset"] = offset
    if model.routed:
        values["output_router_logits"] = False
    if model.rope_parameters is not None:
        values["rope_parameters"] = model.rope_parameters
    if len(model.ropes) > 1 and model.tables_read_layers:
        values["rope_layers"] = _rope_layers(model)
    values |= _cache_values(model)
    values |= dict.fromkeys(_lists(model))
    values |= mtp_values(model)
    values["tie_word_embeddings"] = next(op["tied"] for op in model.graph.ops if op.name == "unembed")
    values["use_cache"] = not model.adaptive
    if model.phases is not None:
        values["execution_modes"] = config_modes(model)
        if model.phases.token is not None:
            values["transition_token_id"] = None
    return values | special_ids


def _cache_values(model: Model) -> dict[str, int]:
    """What the library's caches ask a config of recurrent layers for."""
    values = {"sliding_window": COUNTING_WINDOW} if model.timeless else {}
    return values | ({"number_of_conv_states": model.number_of_states} if model.number_of_states > 1 else {})


def _lists(model: Model) -> list[str]:
    """The lists by layer or integrator, which `__post_init__` makes where they are left out."""
    present = {
        "integrator_steps": bool(model.integrator_steps),
        "integrator_tolerances": bool(model.integrator_tolerances),
        "merge_sizes": bool(model.merge_sizes),
        "module_indices": model.shares_modules,
        "block_types": model.has_block_types,
        "layer_types": model.has_layer_types,
    }
    return [*(name for name, is_present in present.items() if is_present), *groups(model)]


def _rope_layers(model: Model) -> dict[str, int]:
    first = {str(op.get("rope")): layer for layer, op in reversed(model.placed_mixers)}
    return {label: first[name] for label, name in model.rope_labels.items()}


def config_class(model: Model, special_ids: dict[str, int | None]) -> str:
    """The text of the config class."""
    emitter = Emitter()
    emitter.line(f'@auto_docstring(checkpoint="{model.stem}")')
    emitter.line("@strict")
    with emitter.indent(f"class {model.prefix}Config(PreTrainedConfig):"):
        if any(name not in STANDARD and documentation(name) for name in config_values(model, special_ids)):
            _docstring(emitter, model, special_ids)
            emitter.line()
        emitter.line(f'model_type = "{model.stem}"')
        ignored = ["past_key_values", *(["router_logits", "aux_loss"] if model.routed else [])]
        emitter.literal("keys_to_ignore_at_inference = ", ignored)
        _plans(emitter, model)
        if len(model.ropes) > 1:
            emitter.literal("_rope_type_labels = ", tuple(model.rope_labels))
        emitter.line()
        for name, value in config_values(model, special_ids).items():
            _field(emitter, name, value)
        _post_init(emitter, model)
        sharing_modes(emitter, model)
        _validation(emitter, model)
        mtp_config_method(emitter, model, _mtp_plans(model))
    return emitter.text()


def _docstring(emitter: Emitter, model: Model, special_ids: dict[str, int | None]) -> None:
    emitter.line('r"""')
    for name in config_values(model, special_ids):
        found = documentation(name)
        if found is not None and name not in STANDARD:
            kind, text = found
            emitter.line(f"{name} (`{kind}`, *optional*):")
            emitter.line(f"    {text}")
    emitter.line('"""')


def _field(emitter: Emitter, name: str, value: Any) -> None:
    kinds = {
        "rope_parameters": "RopeParameters | dict | None",
        "layer_types": "list[str] | None",
        "block_types": "list[str] | None",
        "module_indices": "list[int] | None",
        "integrator_steps": "list[int] | None",
        "integrator_tolerances": "list[float] | None",
        "merge_sizes": "list[list[int]] | None",
        "kv_groups": "list[str] | None",
        "execution_modes": "list[dict] | None",
        "transition_token_id": "int | None",
        "mtp_layer_types": "list[str] | None",
        "pad_token_id": "int | None",
        "bos_token_id": "int | None",
        "eos_token_id": "int | list[int] | None",
    }
    if name == "rope_parameters":
        emitter.line(f"{name}: {kinds[name]} = None")
        return
    kind = kinds.get(name) or {bool: "bool", int: "int", float: "float", str: "str", dict: "dict | None"}.get(
        type(value), "int"
    )
    if isinstance(value, dict) or name == "execution_modes":
        emitter.line(f"{name}: {kinds.get(name, 'dict | None')} = None")
        return
    emitter.line(f"{name}: {'float' if isinstance(value, float) else kind} = {source_of(value)}")


def _mtp_plans(model: Model) -> dict[str, dict[str, str]]:
    """The plans of the prediction modules, where the base model has such plans."""
    templates = tuple(op for op in (predicting_template(model.module),) if op is not None)
    experts = _expert_parallel_rules(model, templates)
    plans = {
        "base_model_tp_plan": (tensor_plan_rules(model), tensor_plan_rules(model, templates)),
        "base_model_ep_plan": (_expert_parallel_rules(model), {f"layers.*.{path}": experts[path] for path in experts}),
    }
    return {name: own for name, (base, own) in plans.items() if base or own}


def tensor_plan_rules(model: Model, templates: Iterable[Op] | None = None) -> dict[str, str]:
    """The tensor-parallel plan of the base model or of some `templates`, for the projections that can be split."""
    rules: dict[str, str] = {}
    for template in model.in_use if templates is None else templates:
        for op in template.ops:
            if op.get("module") is not None:
                path = f"layers.*.{op['module']}"
                rules.update({f"{path}.{name}": style for name, style in _styles(op.name, op)})
    return rules


def _spans_heads(op: Any) -> bool:
    """Whether attention holds tensors that reach over heads, or one number for each head beside its projections."""
    norm, gate = op.get("qk_norm"), op.get("output_gate")
    return (
        bool(op.get("alibi"))
        or (norm is not None and norm["over"] != "head")
        or op.get("out_norm") is not None
        or op.get("attention_sinks") is not None
        or (gate is not None and gate["bias"] == "head")
    )


def _styles(name: str, op: Any) -> tuple[tuple[str, str], ...]:
    attention: tuple[tuple[str, str], ...] = (
        ("q_proj", "colwise"),
        ("k_proj", "colwise"),
        ("v_proj", "colwise"),
        ("o_proj", "rowwise"),
    )
    if op.get("output_gate") is not None and op["output_gate"]["source"] == "projection":
        attention = (*attention, ("gate_proj", "colwise"))
    if op.get("k_eq_v"):
        attention = tuple(pair for pair in attention if pair[0] != "v_proj")
    if op.get("kv") == "shared":
        attention = tuple(pair for pair in attention if pair[0] not in ("k_proj", "v_proj"))
    gated = (("gate_proj", "colwise"), ("up_proj", "colwise"), ("down_proj", "rowwise"))
    dense = gated if name == "ffn.gated" else gated[1:]
    table = {
        "mixer.attention": () if _spans_heads(op) else attention,
        "mixer.cross_attention": () if _spans_heads(op) else attention,
        # A norm over the hidden layer, or its mean, needs all of it
        "ffn.gated": () if op.get("inner_norm") or op.get("activation_sparsity") else dense,
        "ffn.mlp": () if op.get("inner_norm") else dense,
        "ffn.moe": _mixture_styles(op, gated),
    }
    return table.get(name, ())


def _mixture_styles(op: Any, gated: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """How the matrices of experts are split; biases of theirs are not, and so their experts stay whole."""
    shared = gated if op.get("gated_experts") else gated[1:]
    shared = tuple((f"shared_experts.{part}", style) for part, style in shared) if op.get("shared_size") else ()
    if op.get("expert_bias"):
        return shared
    first = ("gate_up_proj", "packed_colwise") if op.get("gated_experts") else ("up_proj", "colwise")
    inner = tuple((f"experts.{part}", style) for part, style in (first, ("down_proj", "rowwise")))
    return (*inner, ("experts", "moe_tp_experts"), *shared)


def _plans(emitter: Emitter, model: Model) -> None:
    rules = tensor_plan_rules(model)
    if rules:
        with emitter.indent("base_model_tp_plan = {"):
            for path, style in rules.items():
                emitter.line(f'"{path}": "{style}",')
        emitter.line("}")
    # A module that runs at several depths belongs to no one rank, and from rank to rank goes the stream alone
    if not model.shares_modules and not model.handed and not model.forks:
        _pipeline_plan(emitter, model)
    rules = _expert_parallel_rules(model)
    if rules:
        with emitter.indent("base_model_ep_plan = {"):
            for path, style in rules.items():
                emitter.line(f'"layers.*.{path}": "{style}",')
        emitter.line("}")


def _pipeline_plan(emitter: Emitter, model: Model) -> None:
    with emitter.indent("base_model_pp_plan = {"):
        emitter.line('"embed_tokens": (["input_ids"], ["inputs_embeds"]),')
        for op in model.graph.ops:
            if op is model.pieces[0]:
                emitter.line('"layers": (["hidden_states", "attention_mask"], ["hidden_states"]),')
            elif definition(op.name).axis == "norm":
                emitter.line(f'"{op["module"]}": (["hidden_states"], ["hidden_states"]),')
    emitter.line("}")


def _changes_routes(op: Any) -> bool:
    names = ("identity_experts", "weigh_input", "capacity_factor", "expert_gain")
    return any(op[name] for name in names) or op["hash_salt"] is not None


def _expert_parallel_rules(model: Model, templates: Iterable[Op] | None = None) -> dict[str, str]:
    """How experts are dealt to ranks; none where what a router gives is changed before the experts see it."""
    used = model.in_use if templates is None else templates
    mixtures = [op for template in used for op in template.ops if op.name == "ffn.moe"]
    if not mixtures or any(map(_changes_routes, model.moe)):
        return {}
    rules: dict[str, str] = {}
    for op in mixtures:
        suffixes = ("", "_bias") if op["expert_bias"] else ("",)
        names = (f"{'gate_up_proj' if op['gated_experts'] else 'up_proj'}", "down_proj")
        rules[f"{op['module']}.gate"] = "ep_router"
        rules |= {f"{op['module']}.experts.{name}{suffix}": "grouped_gemm" for name in names for suffix in suffixes}
        rules[f"{op['module']}.experts"] = "moe_tp_experts"
    return rules


def _post_init(emitter: Emitter, model: Model) -> None:
    values = config_values(model, {})
    literals = {
        "rope_parameters": model.rope_parameters,
        "rope_layers": values.get("rope_layers"),
        "mtp_overrides": values.get("mtp_overrides"),
        "integrator_steps": model.integrator_steps or None,
        "integrator_tolerances": model.integrator_tolerances or None,
        "merge_sizes": model.merge_sizes or None,
        "execution_modes": values.get("execution_modes"),
    }
    literals = {name: value for name, value in literals.items() if value is not None}
    lists = {"block_types": model.blocks, "layer_types": model.kinds, **groups(model)}
    lists = {name: names for name, names in lists.items() if name in values}
    latent = any(op.name == "mixer.latent_attention" for op in model.mixers)
    if not literals and not lists and not latent and not model.shares_modules:
        return
    emitter.line()
    with emitter.indent("def __post_init__(self, **kwargs) -> None:"):
        for name, value in literals.items():
            with emitter.indent(f"if self.{name} is None:"):
                emitter.literal(f"self.{name} = ", value)
        if model.shares_modules:
            _module_indices(emitter, model)
        for name, names in lists.items():
            with emitter.indent(f"if self.{name} is None:"):
                if model.shares_modules:
                    listed(emitter, "modules = ", model.by_module(names))
                    emitter.line(f"self.{name} = [modules[module_idx] for module_idx in self.module_indices]")
                else:
                    listed(emitter, "schedule = ", names)
                    _cycled(emitter, name)
        if "mtp_layer_types" in values:
            with emitter.indent("if self.mtp_layer_types is None:"):
                kind = model.all_kinds[-1]
                emitter.line(f'self.mtp_layer_types = ["{kind}"] * self.num_mtp_layers')
        if latent and not model.differing & {"qk_nope_head_dim", "qk_rope_head_dim"}:
            emitter.line("self.qk_head_dim = self.qk_nope_head_dim + self.qk_rope_head_dim")
        emitter.line("super().__post_init__(**kwargs)")


def _cycled(emitter: Emitter, name: str) -> None:
    emitter.line(f"self.{name} = [schedule[i % len(schedule)] for i in range(self.num_hidden_layers)]")


def _module_indices(emitter: Emitter, model: Model) -> None:
    """The list of modules: with integrators, as long as their steps make it."""
    with emitter.indent("if self.module_indices is None:"):
        if not model.in_pieces:
            indices(emitter, "schedule = ", model.module_indices)
            _cycled(emitter, "module_indices")
            return
        emitter.line("self.module_indices = []")
        start = integrators = 0
        for op in model.pieces:
            count = evaluations(op) * len(op["schedule"])
            if op.get("method") == ADAPTIVE:
                integrators += 1
            if _has_steps(op):
                rounds = STAGES[op["method"]]
                body = model.module_indices[start : start + len(op["schedule"])]
                indices(emitter, "body = ", body)
                steps = f"self.integrator_steps[{integrators}]"
                steps = f"({rounds} * {steps})" if rounds > 1 else steps
                emitter.line(f"self.module_indices += body * {steps}")
                integrators += 1
            else:
                indices(emitter, "self.module_indices += ", model.module_indices[start : start + count])
            start += count


def _has_steps(op: Op) -> bool:
    """Whether the number of a piece's runs follows from its steps."""
    return op.get("method") in STEPPING


def _layer_count(model: Model) -> str:
    """How many layers run, as an expression in the integrators' steps."""
    plain = str(sum(len(op["schedule"]) for op in model.pieces if not _has_steps(op)))
    # An adaptive integrator has steps, and none of its runs counts
    stepping = [op for op in model.pieces if op.get("method", "discrete") != "discrete"]
    a_step = [STAGES[op["method"]] * len(op["schedule"]) if _has_steps(op) else 0 for op in stepping]
    if not any(a_step):
        return plain
    return f"{plain} + sum(runs * steps for runs, steps in zip({a_step}, self.integrator_steps))"


def _validation(emitter: Emitter, model: Model) -> None:
    checks: list[tuple[str, str]] = []
    values = config_values(model, {})
    if {"num_attention_heads", "num_key_value_heads"} <= values.keys() and not model.differing & {
        "num_attention_heads",
        "num_key_value_heads",
    }:
        checks.append(
            (
                "self.num_attention_heads % self.num_key_value_heads != 0",
                'f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key/value heads"',
            )
        )
    if model.in_pieces:
        checks.append(
            (
                "self.num_hidden_layers != layers_run",
                'f"num_hidden_layers is {self.num_hidden_layers}, but {layers_run} layers run"',
            )
        )
    if "module_indices" in values:
        checks.append(
            (
                "len(self.module_indices) != self.num_hidden_layers",
                'f"{len(self.module_indices)} runs of modules for {self.num_hidden_layers} layers: see module_indices"',
            )
        )
    if "block_types" in values:
        checks.append(
            (
                "len(self.block_types) != self.num_hidden_layers",
                'f"block_types has {len(self.block_types)} entries, not {self.num_hidden_layers}; it may be left out"',
            )
        )
    if not checks:
        return
    emitter.line()
    with emitter.indent("def validate_architecture(self) -> None:"):
        emitter.line('"""Part of `@strict`-powered validation. Validates the architecture of the config."""')
        if model.in_pieces:
            emitter.line(f"layers_run = {_layer_count(model)}")
        for test, message in checks:
            with emitter.indent(f"if {test}:"):
                emitter.call("raise ValueError", [message])
