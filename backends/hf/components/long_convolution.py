"""Causal convolutions as long as the sequence, of each channel by itself."""

import torch


def long_convolution(inputs: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """The sum of taps[s] inputs[t - s] over s, by the Fourier transform: `inputs` are (..., length, channels).

    `taps` are (length, channels). Both are padded to twice the length, so that nothing comes back from the end.
    """
    length = inputs.shape[-2]
    spectrum = torch.fft.rfft(inputs.float(), n=2 * length, dim=-2)
    spectrum = spectrum * torch.fft.rfft(taps.float(), n=2 * length, dim=-2)
    return torch.fft.irfft(spectrum, n=2 * length, dim=-2)[..., :length, :]


def convolved_at(inputs: torch.Tensor, taps: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The same at the last positions, (new,), alone: a sum of products for one, the transform for more."""
    if positions.shape[0] == inputs.shape[-2]:
        return long_convolution(inputs, taps)
    if positions.shape[0] == 1:
        lags = positions - torch.arange(inputs.shape[-2], device=inputs.device)
        taps = taps.index_select(0, lags.clamp(min=0)).float() * (lags >= 0)[:, None]
        return (inputs.float() * taps).sum(dim=-2, keepdim=True)
    return long_convolution(inputs, taps).index_select(-2, positions)
