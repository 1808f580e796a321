"""A tiny target, and text that it wrote, for the tests of distillation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from distiller import Distiller
from tiny_models import write_tiny_model

from outrider_cloud.loading import load_causal_lm
from outrider_cloud.torch_target import TorchTarget
from outrider_distill.assignments import Assignments
from outrider_distill.chat_format import ChatFormat, chat_format, load_tokenizer
from outrider_distill.samples import Sample
from outrider_distill.writing import Writer, WritingLimits

LIMITS = WritingLimits(max_tokens=48, num_texts=8, rows_per_pass=64, top_k=16)


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a target of four layers."""
    return write_tiny_model(tmp_path_factory.mktemp("distill") / "tiny", num_hidden_layers=4)


@pytest.fixture(scope="session")
def tiny_model(tiny_dir: Path) -> Any:
    """The target, as Transformers runs it."""
    return load_causal_lm(tiny_dir, lambda config: None)


@pytest.fixture(scope="session")
def tiny_chat(tiny_dir: Path) -> ChatFormat:
    """How its template frames a question."""
    return chat_format(load_tokenizer(tiny_dir))


@pytest.fixture(scope="session")
def tiny_writer(tiny_dir: Path, tiny_chat: ChatFormat) -> Writer:
    """Lets the target write."""
    torch.set_num_threads(1)
    return Writer(TorchTarget.load(tiny_dir, kv_cache_mib=16), tiny_chat, LIMITS)


@pytest.fixture(scope="session")
def tiny_assignments(tiny_chat: ChatFormat) -> Assignments:
    """Questions of its own and given ones, in turn."""
    return Assignments(tiny_chat, [[(70, 71, 72), (80, 81)]], (1.0, 0.6, 0.0), seed=5)


@pytest.fixture(scope="session")
def tiny_samples(tiny_writer: Writer, tiny_assignments: Assignments) -> Sequence[Sample]:
    """Text of the target."""
    return tiny_writer.write([tiny_assignments[number] for number in range(60)])


@pytest.fixture
def distiller(tiny_dir: Path, tmp_path: Path) -> Distiller:
    """Runs distillations of the target."""
    torch.set_num_threads(1)
    return Distiller(tiny_dir, tmp_path)
