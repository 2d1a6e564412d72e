"""Right-hand sides with what makes exactness hard."""

import torch
from torch import nn


class Tricky(nn.Module):
    """f(t, z) on (batch, 4, h, w): convolutions, and on demand BatchNorm, dropout, dependence on
    t, a frozen parameter and one that is never used."""

    def __init__(
        self, *, norm=True, dropout=True, time=True, frozen=True, unused=True, activation=nn.ReLU
    ):
        super().__init__()
        layers = [nn.Conv2d(4, 6, 3, padding=1)]
        layers += [nn.BatchNorm2d(6)] if norm else []
        layers += [activation()]
        layers += [nn.Dropout(0.4)] if dropout else []
        layers += [nn.Conv2d(6, 4, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        self.time = nn.Parameter(torch.randn(4, 1, 1)) if time else None
        if frozen:
            self.layers[0].bias.requires_grad_(False)
        if unused:
            self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, t, z):
        slope = self.layers(z)
        return slope if self.time is None else slope + t * self.time


class Linear(nn.Module):
    """f(t, z) = z Aᵀ + sin(t), smooth, without any layer's state."""

    def __init__(self, dimension=3, dtype=torch.float64):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dimension, dimension, dtype=dtype) / dimension)

    def forward(self, t, z):
        return z @ self.matrix.T + torch.sin(t)


class Tanh(nn.Module):
    """f(t, z) = tanh(z Aᵀ), smooth and not linear."""

    def __init__(self, dimension=3, dtype=torch.float64):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dimension, dimension, dtype=dtype))

    def forward(self, t, z):
        return torch.tanh(z @ self.matrix.T)


class Counting(nn.Module):
    """Another right-hand side, with the times and states of its evaluations kept."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.times, self.states = [], []

    def forward(self, t, z):
        self.times.append(float(t.detach()))
        self.states.append(z.detach().clone())
        return self.inner(t, z)


class Holding(nn.Module):
    """f(t, z) = evaluate(held, z), where `held` is any object."""

    def __init__(self, held, evaluate):
        super().__init__()
        self.held, self.evaluate = held, evaluate

    def forward(self, t, z):
        return self.evaluate(self.held, z)
