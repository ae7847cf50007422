"""The filters of Hyena: networks of the lag, so that their length costs no parameters."""

import torch
from torch import nn
from transformers import PreTrainedConfig


class Filter(nn.Module):
    """Taps of all long convolutions: Window(t) FFN(PositionalEncoding(t)), and D at lag 0 (Poli et al. 2023, eq. 7).

    It stays in float32: in 16 bits, neighbouring lags of a long sequence would be one.
    """

    def __init__(self, config: PreTrainedConfig, layer_idx: int) -> None:
        super().__init__()
        sizes = config.per_layer_config[layer_idx]
        self.config = config
        self.depth = sizes.hyena_depth
        self.num_features = sizes.hyena_filter_features
        self.max_positions = config.max_position_embeddings
        if config.hyena_window:
            self.decay = sizes.hyena_filter_decay
        self.layers = nn.ModuleList(
            nn.Linear(sizes.hyena_filter_size if layer else 2 * self.num_features + 1, sizes.hyena_filter_size)
            for layer in range(sizes.hyena_filter_layers)
        )
        self.initial_frequency = sizes.hyena_filter_frequency
        self.frequency = nn.Parameter(torch.full((sizes.hyena_filter_size,), self.initial_frequency))
        self.out_proj = nn.Linear(sizes.hyena_filter_size, self.depth * config.hidden_size, bias=False)
        self.skip = nn.Parameter(torch.randn(self.depth, config.hidden_size))

    def forward(self, lags: torch.Tensor) -> torch.Tensor:
        """The taps at `lags`, (taps,), in float32: (depth, taps, channels)."""
        times = lags.float()[:, None] / self.max_positions
        angles = 2 * torch.pi * times * torch.arange(self.num_features, device=lags.device)
        states = torch.cat([times, angles.cos(), angles.sin()], dim=-1).to(self.frequency.dtype)
        for layer in self.layers:
            states = torch.sin(self.frequency * layer(states))
        taps = self.out_proj(states).float().unflatten(-1, (self.depth, -1)).transpose(0, 1)
        if self.config.hyena_window:
            # The slowest channel decays a fifth as fast as the fastest
            rates = self.decay * torch.linspace(0.2, 1.0, taps.shape[-1], device=lags.device)
            taps = taps * torch.exp(-rates * times)
        return taps + self.skip[:, None] * (lags == 0)[:, None]
