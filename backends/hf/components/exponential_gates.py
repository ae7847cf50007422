"""The gates of mLSTM: what they read off the stream is the logarithm of one, and the logit of the other."""

from torch import nn


class InputGate(nn.Linear):
    """How much each head writes: all but closed before training, so that nothing is exponentially large."""


class ForgetGate(nn.Linear):
    """How much each head keeps: before training nearly all, and differently much by head."""
