"""Any model, unchanged: exported and cut, it gives the bits that it gave before, or says why it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.errors import CutError, ExportError
from kvspark.infer.model import Model
from kvspark.model.run.outputs import Named
from kvspark.model.run.program import build_program, encode_program, tensor_digest
from kvspark.model.torch.candidates import choose_cuts, find_candidates
from kvspark.model.torch.cut import cut_graph
from kvspark.model.torch.export import Exported, export_module
from kvspark.model.torch.source import bundle_from_exported
from kvspark.model.torch.work import works_of
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch
from tests.model.architectures import ARCHITECTURES, REFUSED, Architecture, Inputs
from tests.small_models import seeded

MOST_CUTS = 5
"""Cuts tried for one model besides those that `auto` takes, spread over all that are offered."""

CPU = torch.device("cpu")
NAMES = count()


def program_of(exported: Exported) -> tuple[bytes, list[bytes]]:
    (uncut,) = cut_graph(exported, [])
    program, weights = encode_program(uncut.part)
    return program, [tensor_digest(weight) for weight in weights]


def bits(values: Sequence[torch.Tensor]) -> list[bytes]:
    return [t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for t in values]


def exported_outputs(exported: Exported, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    (uncut,) = cut_graph(exported, [])
    program, weights = encode_program(uncut.part)
    names = [exported.inputs[exported.placeholders.index(a)].name for a in uncut.part.arguments]
    with torch.inference_mode():
        return build_program(program, weights, CPU)(*(inputs[name] for name in names))


def eager_outputs(module: torch.nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    with torch.inference_mode():
        return list(Named(module, tuple(inputs))(*inputs.values()).values())


def model_of(exported: Exported, inputs: Inputs, cuts: Sequence[str] | None) -> Model:
    shape = MicroBatch(rows=32, tokens=512)
    return Model(
        bundle_from_exported(
            exported, inputs, features=None, cuts=cuts, name="tried", micro_batch=shape
        )
    )


def cut_or_refused(exported: Exported, inputs: Inputs, path: str) -> Model | None:
    try:
        return model_of(exported, inputs, [path])
    except CutError as error:
        assert "do not give the bits of the whole model" in str(error)  # noqa: PT017
        return None


def rows_of(made: dict[str, object]) -> dict[str, list[bytes]]:
    return {name: [row.tobytes() for row in values] for name, values in made.items()}  # type: ignore[attr-defined]


def assert_cut_keeps_every_bit(model: Model, whole: Model, inputs: Inputs) -> None:
    """The first stages of one row come from the cache, where that row had other companions."""
    cache = Cache.connect(f"memory://cut-{next(NAMES)}", namespace="tests")
    last = model.stages[-1].name
    plan = Plan({stage.name: StagePlan(stage.name != last) for stage in model.stages})
    expected = rows_of(whole.predict(inputs))
    one = {name: tensor[1:2] for name, tensor in inputs.items()}
    for rows in (one, inputs):
        made = rows_of(model.predict(rows, cache=cache, plan=plan))
        assert made == {
            name: values[1:2] if rows is one else values for name, values in expected.items()
        }


def exported_of(row: Architecture) -> tuple[torch.nn.Module, Inputs, Exported]:
    module, inputs = seeded(row.make()), row.inputs()
    return module, inputs, export_module(module, inputs, row.variable_length)


@pytest.mark.slow
@pytest.mark.usefixtures("free_entries")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exported_and_cut_it_gives_the_bits_of_the_eager_model(name: str) -> None:
    row = ARCHITECTURES[name]
    module, inputs, exported = exported_of(row)
    eager = eager_outputs(module, inputs)
    made = exported_outputs(exported, inputs)
    assert bits(made) == bits(eager) or row.bound
    for got, expected in zip(made, eager, strict=True):
        torch.testing.assert_close(got, expected, rtol=row.bound, atol=row.bound, equal_nan=True)

    assert program_of(export_module(module, inputs, row.variable_length)) == program_of(exported)

    whole = model_of(exported, inputs, [])
    works = works_of(exported)
    candidates = find_candidates(exported, works)
    assert candidates
    auto = model_of(exported, inputs, None)
    assert len(auto.stages) - 1 == len(choose_cuts(exported, candidates, works))
    assert_cut_keeps_every_bit(auto, whole, inputs)
    for candidate in candidates[:: max(1, len(candidates) // MOST_CUTS)]:
        model = cut_or_refused(exported, inputs, candidate.path)
        if model is not None:
            assert_cut_keeps_every_bit(model, whole, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_with_its_reason(name: str) -> None:
    row = REFUSED[name]
    module = seeded(row.make())
    before = bits(list(module.buffers()))
    with pytest.raises(ExportError, match=row.refused) as caught:
        Model.from_torch(module, row.inputs(), variable_length=row.variable_length)
    assert "\n" not in caught.value.line()
    assert bits(list(module.buffers())) == before


def test_each_bound_has_its_operator_to_blame() -> None:
    row = ARCHITECTURES["torch-encoder"]
    module, inputs, exported = exported_of(row)
    with torch.profiler.profile() as profiled:
        eager_outputs(module, inputs)
    assert row.culprit.replace(".", "::") in {event.key for event in profiled.key_averages()}
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert bits(eager_outputs(module, inputs)) == bits(exported_outputs(exported, inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.slow
@pytest.mark.usefixtures("free_entries")
@pytest.mark.parametrize("name", ["residual-cnn", "bert", "clip-pairs", "dlrm", "tabular", "llama"])
def test_rows_keep_their_bits_in_any_company(name: str) -> None:
    row = ARCHITECTURES[name]
    module, inputs = seeded(row.make()), row.inputs()
    model = Model.from_torch(
        module,
        inputs,
        variable_length=row.variable_length,
        micro_batch=MicroBatch(),
    )
    together = model.predict({name: tensor.numpy() for name, tensor in inputs.items()})
    for place in range(3):
        alone = model.predict(
            {k: tensor[place : place + 1].numpy() for k, tensor in inputs.items()}
        )
        for output, values in together.items():
            assert alone[output][0].tobytes() == values[place].tobytes()


def test_each_side_of_a_text_and_image_model_has_its_own_inputs() -> None:
    row = ARCHITECTURES["clip-pairs"]
    model = Model.from_torch(seeded(row.make()), row.inputs(), variable_length=row.variable_length)
    assert {stage.inputs for stage in model.stages[:-1]} == {
        ("input_ids", "attention_mask"),
        ("pixel_values",),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["TorchScript", "quantized"])
def test_what_is_no_plain_module_any_more_is_refused(kind: str) -> None:
    module: torch.nn.Module = torch.nn.Sequential(torch.nn.Linear(4, 4)).eval()
    if kind == "quantized":
        module = torch.ao.quantization.quantize_dynamic(module).eval()
    else:
        module = torch.jit.script(module)
    with pytest.raises(ExportError, match=r"a RecursiveScriptModule|torch.export cannot capture"):
        Model.from_torch(module, {"input": torch.zeros(3, 4)})


def test_what_is_inside_a_region_keeps_its_path() -> None:
    row = ARCHITECTURES["autocast-off"]
    model = Model.from_torch(seeded(row.make()), row.inputs(), cuts=["trunk"])
    assert [stage.name for stage in model.stages] == ["trunk", "output"]
