"""Hyper-connections: a residual of several streams, which sublayers read from and write to by weights.

All streams are (batch, length, streams, width). Weights are found in float32.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig


class ConstrainedHyperConnection(nn.Module):
    """The weights of one sublayer, with a doubly stochastic matrix between streams.

    Xie et al. 2025, "mHC: Manifold-Constrained Hyper-Connections", eq. 7-9.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.num_streams = config.hc_mult
        self.sinkhorn_iters = sizes.hc_sinkhorn_iters
        self.eps = config.hc_eps
        self.norm_eps = config.hc_norm_eps
        num_weights = (2 + self.num_streams) * self.num_streams
        self.fn = nn.Parameter(torch.empty(num_weights, self.num_streams * config.hidden_size))
        self.base = nn.Parameter(torch.empty(num_weights))
        self.scale = nn.Parameter(torch.empty(3))

    def forward(self, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the sublayer reads, the weights of its output in each stream, and the matrix that mixes streams."""
        flat_streams = streams.flatten(2).float()
        flat_streams = flat_streams * torch.rsqrt(flat_streams.square().mean(-1, keepdim=True) + self.norm_eps)
        weights = nn.functional.linear(flat_streams, self.fn.float())
        sizes = [self.num_streams, self.num_streams, self.num_streams**2]
        pre, post, mixing = weights.split(sizes, dim=-1)
        pre_base, post_base, mixing_base = self.base.float().split(sizes)
        pre_scale, post_scale, mixing_scale = self.scale.float().unbind()
        pre = torch.sigmoid(pre * pre_scale + pre_base) + self.eps
        post = 2 * torch.sigmoid(post * post_scale + post_base)
        mixing = (mixing * mixing_scale + mixing_base).unflatten(-1, (self.num_streams, self.num_streams))
        mixing = torch.softmax(mixing, dim=-1) + self.eps
        for iteration in range(self.sinkhorn_iters):
            if iteration > 0:
                mixing = mixing / (mixing.sum(dim=-1, keepdim=True) + self.eps)
            mixing = mixing / (mixing.sum(dim=-2, keepdim=True) + self.eps)
        hidden_states = (pre.unsqueeze(-1) * streams).sum(dim=2).to(streams.dtype)
        return hidden_states, post, mixing


class HyperConnection(nn.Module):
    """The weights of one sublayer: for every stream what does not depend on the token, and what does.

    Zhu et al. 2024, "Hyper-Connections", eq. 10-13, with the start of eq. 14.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int, place: int) -> None:
        super().__init__()
        self.place = place
        self.norm_eps = config.hc_norm_eps
        self.fn = nn.Parameter(torch.empty(2 + config.hc_mult, config.hidden_size))
        self.scale = nn.Parameter(torch.empty(2))
        self.pre_base = nn.Parameter(torch.empty(config.hc_mult))
        self.post_base = nn.Parameter(torch.empty(config.hc_mult))
        self.mixing_base = nn.Parameter(torch.empty(config.hc_mult, config.hc_mult))

    def forward(self, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the sublayer reads, the weights of its output in each stream, and the matrix that mixes streams."""
        normed_streams = streams.float()
        normed_streams = normed_streams * torch.rsqrt(normed_streams.square().mean(-1, keepdim=True) + self.norm_eps)
        weights = torch.tanh(nn.functional.linear(normed_streams, self.fn.float()))
        read_scale, write_scale = self.scale.float().unbind()
        pre = weights[..., 0] * read_scale + self.pre_base.float()
        post = weights[..., 1] * write_scale + self.post_base.float()
        mixing = weights[..., 2:] * read_scale + self.mixing_base.float()
        hidden_states = (pre.unsqueeze(-1) * streams).sum(dim=2).to(streams.dtype)
        return hidden_states, post, mixing


class LowRankHyperConnection(nn.Module):
    """The weights of one sublayer, whose matrix between streams is the identity and a product of two narrow ones.

    As in Zhu et al. 2024, eq. 10-13, but for the matrix: both of its factors have a part that depends on the token.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int, place: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.place = place
        self.norm_eps = config.hc_norm_eps
        self.fn = nn.Parameter(torch.empty(2 + 2 * sizes.hc_rank, config.hidden_size))
        self.scale = nn.Parameter(torch.empty(2))
        self.pre_base = nn.Parameter(torch.empty(config.hc_mult))
        self.post_base = nn.Parameter(torch.empty(config.hc_mult))
        self.left_base = nn.Parameter(torch.empty(config.hc_mult, sizes.hc_rank))
        self.right_base = nn.Parameter(torch.empty(config.hc_mult, sizes.hc_rank))

    def forward(self, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the sublayer reads, the weights of its output in each stream, and the matrix that mixes streams."""
        normed_streams = streams.float()
        normed_streams = normed_streams * torch.rsqrt(normed_streams.square().mean(-1, keepdim=True) + self.norm_eps)
        weights = torch.tanh(nn.functional.linear(normed_streams, self.fn.float()))
        read_scale, write_scale = self.scale.float().unbind()
        pre = weights[..., 0] * read_scale + self.pre_base.float()
        post = weights[..., 1] * write_scale + self.post_base.float()
        left, right = (weights[..., 2:] * read_scale).chunk(2, dim=-1)
        left = left + self.left_base.float()
        right = right + self.right_base.float()
        identity = torch.eye(streams.shape[2], device=streams.device)
        mixing = identity + torch.matmul(left, right.transpose(-1, -2))
        hidden_states = (pre.unsqueeze(-1) * streams).sum(dim=2).to(streams.dtype)
        return hidden_states, post, mixing


class HyperHead(nn.Module):
    """One stream of several: a sum weighed by each token (DeepSeek-V4)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.eps = config.hc_eps
        self.norm_eps = config.hc_norm_eps
        self.hc_fn = nn.Parameter(torch.empty(config.hc_mult, config.hc_mult * config.hidden_size))
        self.hc_base = nn.Parameter(torch.empty(config.hc_mult))
        self.hc_scale = nn.Parameter(torch.empty(1))

    def forward(self, streams: torch.Tensor) -> torch.Tensor:
        flat_streams = streams.flatten(2).float()
        flat_streams = flat_streams * torch.rsqrt(flat_streams.square().mean(-1, keepdim=True) + self.norm_eps)
        weights = nn.functional.linear(flat_streams, self.hc_fn.float())
        weights = torch.sigmoid(weights * self.hc_scale.float() + self.hc_base.float()) + self.eps
        return (weights.unsqueeze(-1) * streams).sum(dim=2).to(streams.dtype)


def write_to_streams(
    streams: torch.Tensor, output: torch.Tensor, post: torch.Tensor, mixing: torch.Tensor
) -> torch.Tensor:
    """The streams, mixed, and to each the output (batch, length, width) of a sublayer times a weight.

    Zhu et al. 2024, eq. 5; Xie et al. 2025, eq. 3. A column of `mixing` says what goes into a stream.
    """
    mixed_streams = torch.matmul(mixing.to(streams.dtype).transpose(-1, -2), streams)
    return post.to(streams.dtype).unsqueeze(-1) * output.unsqueeze(-2) + mixed_streams
