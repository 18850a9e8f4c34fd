"""Small torch models over rows of varying length, one for each thing that padding could reach."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor
WIDTH = 4
IDS = 20
POSITIONS = 24


class Applied(nn.Module):
    """A function of x (batch, length, 4), with the layers that it uses."""

    def __init__(self, run: Callable[[nn.ModuleDict, Tensor], object], **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self._run = run

    def forward(self, x: Tensor) -> object:
        return self._run(self.layers, x)


class Masked(nn.Module):
    """A function of x (batch, length, 4) and mask (batch, length)."""

    def __init__(
        self, run: Callable[[nn.ModuleDict, Tensor, Tensor], object], **layers: nn.Module
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self._run = run

    def forward(self, x: Tensor, mask: Tensor) -> object:
        return self._run(self.layers, x, mask.unsqueeze(-1).to(x.dtype))


class OfIds(nn.Module):
    """A function of ids (batch, length) through a table."""

    def __init__(
        self, run: Callable[[nn.ModuleDict, Tensor], object], padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "table": nn.Embedding(IDS, WIDTH, padding_idx=padding_idx),
                "places": nn.Embedding(POSITIONS, WIDTH),
                "head": nn.Linear(WIDTH, 3),
            }
        )
        self._run = run

    def forward(self, ids: Tensor) -> object:
        return self._run(self.layers, ids)


class ClassToken(nn.Module):
    """A token of its own in front of each row, then attention without a mask."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self._pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        full = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        made, _ = self.attention(full, full, full, need_weights=False)
        return made[:, 0] if self._pooled else made


class Attended(nn.Module):
    """Self-attention written out: `mask` is none, causal, or that of the row."""

    def __init__(self, kind: str, *, pooled: bool) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, 3 * WIDTH)
        self._kind = kind
        self._pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.mix(x).chunk(3, dim=-1)
        made = F.scaled_dot_product_attention(query, key, value, is_causal=self._kind == "causal")
        return made[:, -1] if self._pooled else made


class AttendedMasked(nn.Module):
    """Self-attention that looks at the mask, then a mean over what the mask has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        made = self.layer(x, src_key_padding_mask=mask == 0)
        keep = mask.unsqueeze(-1).to(x.dtype)
        return (made * keep).sum(1) / keep.sum(1).clamp(min=1e-9)


def _conv(size: int, **options: object) -> nn.Module:
    return nn.Conv1d(WIDTH, 5, size, **options)  # type: ignore[arg-type]


def _over_time(layer: nn.Module, x: Tensor) -> Tensor:
    made: Tensor = layer(x.transpose(1, 2)).transpose(1, 2)
    return made


def _recurrent(kind: str, take: str) -> nn.Module:
    bidirectional = take == "both"
    layer = getattr(nn, kind)(WIDTH, 5, batch_first=True, bidirectional=bidirectional)

    def run(layers: nn.ModuleDict, x: Tensor) -> object:
        made, state = layers["r"](x)
        if take == "state":
            return (state[0] if kind == "LSTM" else state)[-1]
        return {"last": made[:, -1], "both": made[:, -1], "mean": made.mean(1), "all": made}[take]

    return Applied(run, r=layer)


def _places(n: nn.ModuleDict, ids: Tensor) -> Tensor:
    hidden: Tensor = n["table"](ids) + n["places"](torch.arange(ids.shape[1]))
    return hidden.mean(dim=1)


def _table(n: nn.ModuleDict) -> Tensor:
    weight = n["table"].weight
    assert isinstance(weight, Tensor)
    return weight


LINEAR = lambda: nn.Linear(WIDTH, 3)  # noqa: E731 - a factory, once a model

TORCH: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: Applied(lambda n, x: n["head"](x.mean(1)), head=LINEAR()),
    "max": lambda: Applied(lambda n, x: n["head"](x.amax(1)), head=LINEAR()),
    "sum": lambda: Applied(lambda n, x: n["head"](x.sum(1)), head=LINEAR()),
    "last": lambda: Applied(lambda n, x: n["head"](x[:, -1]), head=LINEAR()),
    "first": lambda: Applied(lambda n, x: n["head"](x[:, 0]), head=LINEAR()),
    "std": lambda: Applied(lambda n, x: n["head"](x).std(1), head=LINEAR()),
    "logsumexp": lambda: Applied(lambda n, x: n["head"](x).logsumexp(1), head=LINEAR()),
    "root_of_length": lambda: Applied(lambda n, x: x.sum(1) / x.shape[1] ** 0.5),
    "attention_pooling": lambda: Applied(
        lambda n, x: (n["gate"](x).softmax(dim=1) * x).sum(1), gate=nn.Linear(WIDTH, 1)
    ),
    "softmax_over_tokens": lambda: Applied(lambda n, x: n["head"](x).softmax(dim=1), head=LINEAR()),
    "argmax": lambda: Applied(lambda n, x: n["head"](x).argmax(dim=1), head=LINEAR()),
    "per_token": lambda: Applied(lambda n, x: n["head"](x).relu(), head=LINEAR()),
    "cumsum": lambda: Applied(lambda n, x: x.cumsum(1)),
    "flip": lambda: Applied(lambda n, x: n["head"](x.flip(1)), head=LINEAR()),
    "roll": lambda: Applied(lambda n, x: torch.roll(x, 1, dims=1)),
    "differences": lambda: Applied(lambda n, x: x[:, 1:] - x[:, :-1]),
    "centred": lambda: Applied(lambda n, x: x - x.mean(1, keepdim=True)),
    "two_outputs": lambda: Applied(
        lambda n, x: {"token": n["head"](x), "row": x.amax(1)}, head=LINEAR()
    ),
    "masked_mean": lambda: Masked(lambda n, x, m: (x * m).sum(1) / m.sum(1).clamp(min=1e-9)),
    "masked_sum": lambda: Masked(lambda n, x, m: n["head"]((x * m).sum(1)), head=LINEAR()),
    "masked_max": lambda: Masked(lambda n, x, m: x.masked_fill(m == 0, -1e9).amax(1)),
    "masked_attention_pooling": lambda: Masked(
        lambda n, x, m: (n["gate"](x).masked_fill(m == 0, -1e9).softmax(dim=1) * x).sum(1),
        gate=nn.Linear(WIDTH, 1),
    ),
    "mask_that_is_not_used": lambda: Masked(lambda n, x, m: x.mean(1) + 0 * m.sum(1)),
    "conv_same": lambda: Applied(lambda n, x: _over_time(n["c"], x), c=_conv(3, padding=1)),
    "conv_same_max": lambda: Applied(
        lambda n, x: _over_time(n["c"], x).amax(1), c=_conv(3, padding=1)
    ),
    "conv_valid": lambda: Applied(lambda n, x: _over_time(n["c"], x), c=_conv(3)),
    "conv_valid_mean": lambda: Applied(lambda n, x: _over_time(n["c"], x).mean(1), c=_conv(2)),
    "conv_stride": lambda: Applied(
        lambda n, x: _over_time(n["c"], x), c=_conv(3, padding=1, stride=2)
    ),
    "conv_causal": lambda: Applied(
        lambda n, x: _over_time(n["c"], F.pad(x, (0, 0, 2, 0))), c=_conv(3)
    ),
    "conv_causal_last": lambda: Applied(
        lambda n, x: _over_time(n["c"], F.pad(x, (0, 0, 2, 0)))[:, -1], c=_conv(3)
    ),
    "average_pool": lambda: Applied(lambda n, x: _over_time(n["p"], x), p=nn.AvgPool1d(2)),
    "lstm_last": lambda: _recurrent("LSTM", "last"),
    "lstm_state": lambda: _recurrent("LSTM", "state"),
    "lstm_both": lambda: _recurrent("LSTM", "both"),
    "gru_mean": lambda: _recurrent("GRU", "mean"),
    "gru_state": lambda: _recurrent("GRU", "state"),
    "rnn_all": lambda: _recurrent("RNN", "all"),
    "attention": lambda: Attended("none", pooled=False),
    "attention_last": lambda: Attended("none", pooled=True),
    "attention_causal": lambda: Attended("causal", pooled=False),
    "attention_causal_last": lambda: Attended("causal", pooled=True),
    "attention_masked": AttendedMasked,
    "class_token": lambda: ClassToken(pooled=False),
    "class_token_pooled": lambda: ClassToken(pooled=True),
    "ids_mean": lambda: OfIds(lambda n, i: n["head"](n["table"](i).mean(1))),
    "ids_sum_of_nothing_at_0": lambda: OfIds(lambda n, i: n["table"](i).sum(1), padding_idx=0),
    "embedding_bag": lambda: OfIds(lambda n, i: F.embedding_bag(i, _table(n), mode="mean")),
    "ids_count_of_0": lambda: OfIds(lambda n, i: (i == 0).sum(1)),
    "positions": lambda: OfIds(_places),
    "ids_per_token": lambda: OfIds(lambda n, i: n["head"](n["table"](i))),
}
"""By name, what makes one."""
