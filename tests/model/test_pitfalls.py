"""Ways in which a wrong row was once found under a right key: each of them is another fingerprint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kvspark.errors import CutError, ExportError
from kvspark.infer.model import Model
from kvspark.model.run.program import tensor_digest
from kvspark.model.torch.candidates import choose_cuts, find_candidates
from kvspark.model.torch.export import export_module
from kvspark.model.torch.work import works_of
from tests.model.architectures import TOKENS, tokens
from tests.small_models import Mlp, Skip, seeded

INPUTS = {"x": torch.zeros(3, 8)}
IMAGE = {"image": torch.zeros(3, 2, 8, 8)}


class Convolution(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 4, 3, **settings)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image).mean((2, 3))


class Normed(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8, **settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class Activated(nn.Module):
    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.activation = nn.GELU(approximate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(x)


class Batched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def assert_same_weights(one: nn.Module, two: nn.Module) -> None:
    assert list(one.state_dict()) == list(two.state_dict())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])


# ---------------------------------------------------------------- P2: not in the weights


@pytest.mark.parametrize(
    ("one", "two", "inputs"),
    [
        (Convolution(dilation=1, padding=1), Convolution(dilation=2, padding=2), IMAGE),
        (Convolution(padding=1), Convolution(padding=1, padding_mode="reflect"), IMAGE),
        (Convolution(stride=1), Convolution(stride=2), IMAGE),
        (Normed(eps=1e-5), Normed(eps=1e-6), INPUTS),
        (Activated("none"), Activated("tanh"), INPUTS),
    ],
    ids=["dilation", "padding-mode", "stride", "eps", "activation"],
)
def test_what_no_weight_says_is_in_the_fingerprint(
    one: nn.Module, two: nn.Module, inputs: dict[str, torch.Tensor]
) -> None:
    one, two = seeded(one), seeded(two)
    assert_same_weights(one, two)
    assert Model.from_torch(one, inputs).fingerprint != Model.from_torch(two, inputs).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("change", ["rope_theta", "rms_norm_eps", "attention_heads"])
def test_what_only_the_config_says_is_in_the_fingerprint(change: str) -> None:
    import transformers

    def llama(**changes: Any) -> nn.Module:
        settings: dict[str, Any] = {
            "vocab_size": 40,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 24,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        }
        return seeded(transformers.LlamaModel(transformers.LlamaConfig(**{**settings, **changes})))

    changes: dict[str, dict[str, Any]] = {
        "rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        "rms_norm_eps": {"rms_norm_eps": 1e-3},
        "attention_heads": {"num_attention_heads": 4, "num_key_value_heads": 4},
    }
    one, two = llama(), llama(**changes[change])
    assert_same_weights(one, two)
    prints = {Model.from_torch(m, tokens(), variable_length=TOKENS).fingerprint for m in (one, two)}
    assert len(prints) == 2


# ---------------------------------------------------------------- P6: batch norm in training


def test_one_module_in_training_mode_is_enough_to_be_refused() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).eval()
    module[1].train()
    with pytest.raises(ExportError, match=r"^1 is in training mode; call model\.eval\(\) first"):
        Model.from_torch(module, {"input": torch.randn(3, 8)})


def test_making_a_model_changes_no_buffer_of_the_module() -> None:
    module = Batched().eval()
    before = {name: tensor_digest(buffer) for name, buffer in module.named_buffers()}
    Model.from_torch(module, {"x": torch.randn(3, 8)}).predict({"x": torch.randn(5, 8)})
    assert {name: tensor_digest(buffer) for name, buffer in module.named_buffers()} == before


def test_a_buffer_that_no_result_needs_may_change_and_is_not_changed() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 2)
            self.calls: torch.Tensor
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.body(x)

    module = seeded(Counting())
    Model.from_torch(module, INPUTS).predict(INPUTS)
    assert not module.calls.any()


def test_statistics_that_moved_are_another_fingerprint() -> None:
    module = Batched().eval()
    before = Model.from_torch(module, INPUTS)
    module.train()
    module(torch.randn(16, 8))
    assert Model.from_torch(module.eval(), INPUTS).fingerprint != before.fingerprint


def test_making_a_model_leaves_the_example_inputs_alone() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1.0)

    inputs = {"x": torch.zeros(3, 8)}
    model = Model.from_torch(InPlace().eval(), inputs)
    assert not inputs["x"].any()
    assert (model.predict(inputs)["output"] == 1.0).all()


# ---------------------------------------------------------------- P7: random numbers


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x + torch.rand(8),
        torch.bernoulli,
        lambda x: nn.functional.dropout(x, 0.5),
        nn.functional.gumbel_softmax,
        lambda x: x[:, torch.randperm(8)],
    ],
    ids=["rand", "bernoulli", "dropout", "gumbel", "randperm"],
)
def test_a_random_operator_is_refused(draw: Any) -> None:
    class Drawing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return draw(x)

    with pytest.raises(ExportError, match=r"operator aten\.\w+.* draws random numbers"):
        Model.from_torch(Drawing().eval(), {"x": torch.full((3, 8), 0.5)})


# ---------------------------------------------------------------- P9: dtypes and ambient switches


def test_the_same_weights_in_another_dtype_are_another_fingerprint() -> None:
    prints = set()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        module, inputs = seeded(Mlp()).to(dtype), {"x": torch.zeros(3, 8, dtype=dtype)}
        prints |= {s.fingerprint for s in Model.from_torch(module, inputs, cuts=["trunk"]).stages}
    assert len(prints) == 6


def test_an_autocast_in_the_model_is_another_fingerprint() -> None:
    class Cast(nn.Module):
        def __init__(self, *, is_on: bool) -> None:
            super().__init__()
            self.body = nn.Linear(8, 4)
            self.is_on = is_on

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_on):
                return self.body(x)

    on, off = (Model.from_torch(seeded(Cast(is_on=flag)), INPUTS) for flag in (True, False))
    assert on.outputs[0].dtype == "bfloat16"
    assert on.fingerprint != off.fingerprint


def test_an_autocast_around_the_export_is_refused() -> None:
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ExportError, match="autocast is on around the export"),
    ):
        Model.from_torch(seeded(Mlp()), INPUTS)


# ---------------------------------------------------------------- P10: prefixes of wrappers


def test_a_parallel_wrapper_changes_neither_fingerprint_nor_paths() -> None:
    module = seeded(Mlp())
    wrapped = nn.DataParallel(module).eval()
    assert all(name.startswith("module.") for name, _ in wrapped.named_parameters())
    plain = Model.from_torch(module, INPUTS, cuts=["trunk"])
    made = Model.from_torch(wrapped, INPUTS, cuts=["trunk"])
    assert [s.fingerprint for s in made.stages] == [s.fingerprint for s in plain.stages]


# torch.compile itself calls torch.jit functions that torch has deprecated. Its wrapper is the same
# whatever it compiles with, and its own backend asks a C++ compiler for as long as all other tests here take.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_part_that_is_compiled_keeps_its_path_and_its_fingerprint() -> None:
    module = seeded(Mlp())
    plain = Model.from_torch(module, INPUTS, cuts=["trunk"])
    module.trunk = torch.compile(module.trunk, backend="eager")  # type: ignore[assignment]
    made = Model.from_torch(module, INPUTS, cuts=["trunk"])
    assert [s.fingerprint for s in made.stages] == [s.fingerprint for s in plain.stages]


# ---------------------------------------------------------------- P29: what crosses a cut


def test_a_cut_inside_a_skip_connection_takes_every_tensor_that_crosses() -> None:
    rows = {"x": torch.randn(9, 8, generator=torch.Generator().manual_seed(3))}
    whole = Model.from_torch(seeded(Skip()), INPUTS, cuts=None).predict(rows)["output"]
    model = Model.from_torch(seeded(Skip()), INPUTS, cuts=["middle"])
    assert [len(stage.outputs) for stage in model.stages] == [2, 1]
    assert model.predict(rows)["output"].tobytes() == whole.tobytes()


class Trim(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :-1]


class Sliced(nn.Module):
    """What leaves `trim` has holes between its rows; packed again, the mean adds in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(1, 6, 3, padding=2)
        self.trim = Trim()
        self.head = nn.Parameter(torch.zeros(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        trimmed = self.trim(self.body(x.unsqueeze(1)))
        return nn.functional.gelu(trimmed).mean(2) @ self.head


@pytest.mark.usefixtures("free_entries")
def test_a_cut_that_changes_a_bit_is_refused_and_auto_takes_another() -> None:
    inputs = {"x": torch.randn(16, 40, generator=torch.Generator().manual_seed(1))}
    module = seeded(Sliced())
    with pytest.raises(
        CutError, match="do not give the bits of the whole model in output 'output'"
    ):
        Model.from_torch(module, inputs, cuts=["trim"])
    exported = export_module(module, inputs, [])
    works = works_of(exported)
    assert choose_cuts(exported, find_candidates(exported, works), works) == ["trim"]
    made = Model.from_torch(module, inputs)
    assert [stage.name for stage in made.stages] == ["body", "output"]
    whole = Model.from_torch(module, inputs, cuts=None)
    assert made.predict(inputs)["output"].tobytes() == whole.predict(inputs)["output"].tobytes()
