"""Any model, unchanged: exported and cut, it gives the bits that it gave before, or says why it cannot."""

from __future__ import annotations

import pytest
import torch

from kvspark.infer.model import Model
from kvspark.model.candidates import Candidate, choose_cuts, find_candidates
from kvspark.model.cut import cut_graph
from kvspark.model.export import Exported, export_module
from kvspark.model.program import build_program, encode_program
from kvspark.spec import MicroBatch
from tests.model.architectures import ARCHITECTURES, Inputs
from tests.small_models import seeded

MOST_CUTS = 5
"""Cuts tried for one model: those that `auto` takes, and others spread over the rest."""


def exported_of(name: str) -> tuple[torch.nn.Module, Inputs, Exported]:
    row = ARCHITECTURES[name]
    module, inputs = seeded(row.make()), row.inputs()
    return module, inputs, export_module(module, inputs, row.variable_length)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def run(exported: Exported, cuts: list[str], inputs: Inputs) -> list[torch.Tensor]:
    """The outputs of the stages of `exported` cut at `cuts`, run one after the other."""
    results: dict[tuple[str, int], torch.Tensor] = {}
    made: tuple[torch.Tensor, ...] = ()
    names = [spec.name for spec in exported.inputs]
    for piece in cut_graph(exported, cuts):
        program, weights = encode_program(piece.part)
        arguments = [
            inputs[names[exported.placeholders.index(argument)]]
            if origin is None
            else results[origin]
            for argument, origin in zip(piece.part.arguments, piece.upstream, strict=True)
        ]
        with torch.inference_mode():
            made = build_program(program, weights, torch.device("cpu"))(*arguments)
        results.update({(piece.name, i): tensor.clone() for i, tensor in enumerate(made)})
    return list(made)


def tried(exported: Exported, candidates: tuple[Candidate, ...]) -> list[list[str]]:
    auto = choose_cuts(exported, candidates)
    step = max(1, len(candidates) // MOST_CUTS)
    return [auto, *([c.path] for c in candidates[::step])]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exported_and_cut_it_gives_the_bits_of_the_eager_model(name: str) -> None:
    module, inputs, exported = exported_of(name)
    with torch.inference_mode():
        eager = module(**inputs)
    eager = list(eager.values()) if isinstance(eager, dict) else [eager]
    whole = run(exported, [], inputs)
    assert [bits(tensor) for tensor in whole] == [bits(tensor) for tensor in eager]
    candidates = find_candidates(exported, inputs)
    assert candidates
    for cuts in tried(exported, candidates):
        made = run(exported, cuts, inputs)
        assert [bits(t) for t in made] == [bits(t) for t in whole], f"cut at {cuts}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual-cnn", "bert", "clip", "dlrm", "tabular", "llama-rope"])
def test_rows_keep_their_bits_in_any_company(name: str) -> None:
    row = ARCHITECTURES[name]
    module, inputs = seeded(row.make()), row.inputs()
    model = Model.from_torch(
        module,
        inputs,
        variable_length=row.variable_length,
        micro_batch=MicroBatch(),
    )
    again = Model.from_torch(module, inputs, variable_length=row.variable_length)
    assert [s.content for s in again.stages] == [s.content for s in model.stages]
    together = model.predict({name: tensor.numpy() for name, tensor in inputs.items()})
    for place in range(3):
        alone = model.predict(
            {k: tensor[place : place + 1].numpy() for k, tensor in inputs.items()}
        )
        for output, values in together.items():
            assert alone[output][0].tobytes() == values[place].tobytes()


def test_each_side_of_a_text_and_image_model_has_its_own_inputs() -> None:
    row = ARCHITECTURES["clip"]
    model = Model.from_torch(seeded(row.make()), row.inputs(), variable_length=row.variable_length)
    assert {stage.inputs for stage in model.stages[:-1]} == {
        ("input_ids", "attention_mask"),
        ("pixel_values",),
    }
