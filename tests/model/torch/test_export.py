"""What is refused before anything is computed, with the operator or the module that is the reason."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from kvspark.errors import ExportError, UsageError
from kvspark.infer.model import Model
from tests.small_models import Mlp, seeded

INPUTS = {"x": torch.zeros(3, 8)}


class Noisy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.nn.RReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Summed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=0)


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"inner": {"x": x}}


def refusal(module: torch.nn.Module, inputs: dict[str, torch.Tensor] | None = None) -> str:
    with pytest.raises(ExportError) as caught:
        Model.from_torch(module, inputs or INPUTS)
    assert caught.value.exit_code == 65
    assert "\n" not in caught.value.line()
    return str(caught.value)


def test_training_mode_is_refused_with_the_module_named() -> None:
    module = seeded(Mlp())
    module.get_submodule("trunk").train()
    assert re.match(r"trunk is in training mode .*call model.eval\(\)", refusal(module))


def test_a_random_operator_is_refused_with_its_name() -> None:
    assert "rand_like" in refusal(Noisy().eval())


def test_data_dependent_control_flow_is_refused() -> None:
    assert "cannot capture Branching" in refusal(Branching().eval())


def test_an_output_without_the_batch_is_refused() -> None:
    assert "first dimension is not the batch" in refusal(Summed().eval())


def test_a_nested_output_has_the_names_on_its_way() -> None:
    assert [spec.name for spec in Model.from_torch(Nested().eval(), INPUTS).outputs] == ["inner_x"]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"x": torch.zeros(())}, "must be a tensor with the batch first"),
        ({"x": torch.zeros(3, 8), "y": torch.zeros(2, 8)}, "different batch sizes"),
        ({"x": torch.zeros(3, 8, dtype=torch.complex64)}, "which no column can hold"),
    ],
    ids=["scalar", "batch-sizes", "dtype"],
)
def test_bad_examples_are_refused(inputs: dict[str, torch.Tensor], reason: str) -> None:
    assert reason in refusal(seeded(Mlp()), inputs)


def test_missing_examples_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="example_inputs is missing"):
        Model.from_torch(seeded(Mlp()))


def test_an_in_place_operator_is_made_pure_and_keeps_its_bits() -> None:
    class InPlace(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            doubled = x * 2
            doubled.add_(1).relu_()
            return doubled

    rows = torch.randn(40, 8)
    module = InPlace().eval()
    made = Model.from_torch(module, INPUTS).predict({"x": rows})["output"]
    assert made.tobytes() == module(rows).numpy().tobytes()


def test_an_example_of_one_row_leaves_the_batch_free() -> None:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(1, 8)})
    assert model.predict({"x": torch.zeros(70, 8)})["scores"].shape == (70, 3)


def test_tuple_outputs_are_numbered() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x.to(torch.bfloat16)

    model = Model.from_torch(Two().eval(), INPUTS)
    assert [(spec.name, spec.dtype) for spec in model.outputs] == [
        ("output_0", "float32"),
        ("output_1", "bfloat16"),
    ]
    made = model.predict({"x": torch.full((3, 8), 1.5)})
    assert (made["output_1"] == 1.5).all()


class Listing(torch.nn.Module):
    """Takes any number of rows, and makes a list of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([row * 2 for row in x])


class OfThree(torch.nn.Module):
    """Takes three rows and no others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(3, 8) * 2


def test_a_size_in_the_graph_is_told_from_one_in_the_model() -> None:
    listing = refusal(Listing().eval())
    assert "Listing takes any size, but torch.export writes 3 rows of input 'x' into" in listing
    assert "operators on the whole tensor" in listing
    assert "OfThree works with 3 rows of input 'x' only" in refusal(OfThree().eval())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_eager_quantisation_is_refused_once_with_what_to_do_instead() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    quantised = torch.ao.quantization.quantize_dynamic(
        module.eval(), {torch.nn.Linear}, dtype=torch.qint8
    )
    examples = {"input": torch.zeros(3, 8)}
    for again in (quantised, quantised.eval()):
        said = refusal(again, examples)
        assert "0 is a module of torch's eager quantisation" in said
        assert "training" not in said


def test_a_weight_that_lies_transposed_does_not_hinder() -> None:
    module = seeded(torch.nn.Linear(8, 8))
    module.weight = torch.nn.Parameter(module.weight.detach().t().contiguous().t())
    rows = torch.randn(40, 8)
    made = Model.from_torch(module, {"input": torch.zeros(3, 8)}).predict({"input": rows})["output"]
    np.testing.assert_allclose(made, module(rows).detach().numpy(), rtol=0, atol=1e-6)


class SumBranching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum().item() > 0 else x * 3


class Encoded(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot((x > 0).long())


@pytest.mark.parametrize("module", [SumBranching(), Encoded()])
def test_a_refusal_is_all_that_is_said(
    module: torch.nn.Module, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """torch.export writes the graph as far as it came, and hints to its own code."""
    with pytest.raises(ExportError, match="cannot capture"):
        Model.from_torch(module.eval(), {"x": torch.zeros(2, 4)})
    assert capfd.readouterr() == ("", "")
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
