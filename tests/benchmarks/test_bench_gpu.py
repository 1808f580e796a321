"""The benchmark of a GPU, run small on the CPU."""

from pathlib import Path

import pytest
import torch
from bench_gpu import (
    SHAPES,
    TINY,
    TINY_SHAPES,
    EngineBench,
    Results,
    main,
    random_model,
    read_bytes,
)
from pydantic import TypeAdapter

from outrider_cloud.torch_target import TorchTarget

CPU = torch.device("cpu")


def test_a_small_run_on_the_cpu_has_a_figure_for_every_cell(tmp_path: Path) -> None:
    out, section = tmp_path / "gpu.json", tmp_path / "gpu.md"
    arguments = ["--device", "cpu", "--tiny", "--out", str(out), "--section", str(section)]
    assert main(arguments) == 0
    results = TypeAdapter(Results).validate_json(out.read_bytes())
    (shape,) = results.shapes
    assert [(cell.num_sessions, cell.num_nodes) for cell in shape.cells] == [
        (sessions, nodes) for sessions in TINY.sessions for nodes in TINY.nodes
    ]
    assert all(min(cell.pass_ms, cell.step_ms, cell.limit_ms) > 0 for cell in shape.cells)
    text = section.read_text(encoding="utf-8")
    assert results.device in text
    assert text.count("\n| ") == len(shape.cells) + 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "PyTorch finds no GPU here" in captured.err


def test_every_step_of_the_engine_computes_all_nodes_of_all_sessions() -> None:
    target = TorchTarget.around(random_model(TINY_SHAPES["tiny"], CPU, TINY), kv_cache_mib=8)
    bench = EngineBench(target, 3, 4, TINY)
    rows: list[int] = []
    target.model.register_forward_pre_hook(
        lambda *call: rows.append(call[2]["input_ids"].numel()), with_kwargs=True
    )
    for _ in range(TINY.num_rounds):
        bench.draft()
        bench.step()
    assert rows == [12] * TINY.num_rounds


def test_the_weights_of_an_embedding_of_its_own_are_not_read() -> None:
    shape = TINY_SHAPES["tiny"]
    tied = read_bytes(random_model(shape, CPU, TINY))
    untied = read_bytes(random_model({**shape, "tie_word_embeddings": False}, CPU, TINY))
    assert tied == untied > 0


def test_the_shapes_are_those_of_the_models() -> None:
    sizes = {
        name: read_bytes(random_model(SHAPES[name], torch.device("meta"), TINY)) for name in SHAPES
    }
    assert sizes["Llama-3.1-8B"] == 4 * (8_030_261_248 - 128_256 * 4096)
    assert sizes["SmolLM2-135M"] == 4 * 134_515_008
