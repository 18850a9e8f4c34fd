"""Small modules of many kinds in plain torch, for the table of architectures."""

from __future__ import annotations

import torch
from torch import nn


class ResidualCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = torch.relu(self.block(x) + x)
        return self.head(x.mean(dim=(2, 3)))


class DepthwiseCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.SiLU())
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.Sigmoid())
        self.head = nn.Linear(12, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.expand(image))
        x = x * self.squeeze(x)
        return self.head(x.flatten(2).amax(dim=2))


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        cell = nn.LSTM if kind == "lstm" else nn.GRU
        self.recurrent = cell(6, 12, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(series)[0][:, -1])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 6, 3, 2, 1)
        self.middle = nn.Conv2d(6, 6, 3, 1, 1)
        self.up = nn.ConvTranspose2d(6, 6, 2, 2)
        self.out = nn.Conv2d(7, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        low = torch.relu(self.down(image))
        high = self.up(torch.relu(self.middle(low)) + low)
        return self.out(torch.cat([image, high], dim=1))


class Dlrm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(30, 8) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(14, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, dense: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        base = self.bottom(dense)
        parts = [base, *(table(categories[:, i]) for i, table in enumerate(self.tables))]
        stacked = torch.stack(parts, dim=1)
        products = stacked @ stacked.transpose(1, 2)
        rows, columns = torch.tril_indices(4, 4, offset=-1)
        return self.top(torch.cat([base, products[:, rows, columns]], dim=1))


class GraphLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, nodes: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        degree = adjacency.sum(-1, keepdim=True).clamp(min=1)
        hidden = torch.relu((adjacency @ self.message(nodes)) / degree)
        return self.head(hidden.sum(1))


class Experts(nn.Module):
    """A mixture of experts in which every expert sees every row and a gate weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, places = self.gate(x).softmax(-1).topk(2)
        weights = torch.zeros(x.size(0), 3).scatter(1, places, values)
        mixed = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.head((weights.unsqueeze(-1) * mixed).sum(1))


class AttentionPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(3, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        queries = self.latents.expand(tokens.size(0), -1, -1)
        return self.head(self.attention(queries, tokens, tokens, need_weights=False)[0].flatten(1))


class Tabular(nn.Module):
    """Several inputs, several outputs, int and bool among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU())
        self.price = nn.Linear(8, 1)
        self.kind = nn.Linear(8, 3)

    def forward(
        self, numbers: torch.Tensor, shop: torch.Tensor, is_new: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        body = self.body(torch.cat([numbers, self.embed(shop), is_new.float().unsqueeze(1)], dim=1))
        return {"price": self.price(body).squeeze(1), "kind": self.kind(body).argmax(-1)}


class Regions(nn.Module):
    """A frozen trunk under no_grad, a part that must not be cast, and one in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True))
        self.exact = nn.Linear(8, 8)
        self.cheap = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = self.frozen(x)
        with torch.autocast("cpu", enabled=False), torch.enable_grad():
            x = torch.tanh(self.exact(x.float()))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.cheap(x)
        return self.head(x.float())


class Disabled(nn.Module):
    """A region under an autocast that is off, which keeps the paths of what is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            x = self.trunk(x).relu()
        return self.head(x)


class Tied(nn.Module):
    """An embedding that is the output layer too, and parametrised weights between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.mix = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.narrow = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
        self.out = nn.Linear(8, 40, bias=False)
        self.out.weight = self.embed.weight

    def forward(
        self, ids: torch.Tensor, scale: float = 2.0, *, squash: bool = True
    ) -> torch.Tensor:
        hidden = self.narrow(self.mix(self.embed(ids)).mean(1)) * scale
        return self.out(hidden.tanh() if squash else hidden)


class Positional(nn.Module):
    """Inputs by their order; an input is a result too, and results are nested."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, *rows: torch.Tensor) -> dict[str, object]:
        x, y = rows
        body = self.body(x + y)
        return {
            "given": x,
            "body": (body, {"wide": body * 2}),
            "nothing": None,
            "y": self.head(body),
        }


class Rotary(nn.Module):
    """Positions as complex rotations, a constant that forward makes, and a causal mask of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)
        turns = torch.outer(torch.arange(16.0), torch.tensor([1.0, 0.1, 0.01, 0.001]))
        self.turns: torch.Tensor
        self.register_buffer("turns", torch.polar(torch.ones_like(turns), turns), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.size(1)
        pairs = torch.view_as_complex(self.project(tokens).unflatten(-1, (4, 2)).contiguous())
        turned = torch.view_as_real(pairs * self.turns[:length]).flatten(2)
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mixed = nn.functional.scaled_dot_product_attention(turned, turned, tokens, attn_mask=mask)
        return self.head(mixed * torch.tensor([1.0, 2.0] * 4)).amax(1)


class States(nn.Module):
    """All that a recurrent layer returns: its states have the layers first."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(6, 4, batch_first=True)

    def forward(self, series: torch.Tensor) -> object:
        return self.recurrent(series)


class Trouble(nn.Module):
    """A body and a head, and between them one thing that cannot be kept."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)
        self.sequence = nn.Conv1d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(getattr(self, self.kind)(x))

    def statistics(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.body(x))

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).softmax(0)

    def time_first(self, x: torch.Tensor) -> torch.Tensor:
        return self.sequence(x.T.unsqueeze(0)).squeeze(0).T

    def pairs(self, x: torch.Tensor) -> torch.Tensor:
        body = self.body(x)
        return (body @ body.T).unsqueeze(-1).expand(-1, -1, 8)

    def selection(self, x: torch.Tensor) -> torch.Tensor:
        body = self.body(x)
        return body[body.sum(1) > 0]

    def counter(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.body(x) * self.calls

    def noise(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + torch.randn(8)

    def dropout(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.body(x))

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x if x.sum() > 0 else -x)

    def branches(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, self.body, lambda t: -self.body(t), (x,))

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).view(3, 8)

    def array(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.body(x).numpy())

    def fails(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x @ self.head.weight)
