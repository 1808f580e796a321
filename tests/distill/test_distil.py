"""A distillation from a target to a bundle, with a target small enough for a test."""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from distiller import Distiller, StoppedError, Watcher, are_equal
from safetensors.torch import load_file
from tiny_models import train_tokenizer, write_tiny_model

from outrider_cloud.loading import load_causal_lm
from outrider_common.errors import (
    InvalidInputError,
    MismatchError,
    ModelFileError,
    UnavailableError,
    UnsupportedError,
)
from outrider_distill.assembling import assemble
from outrider_distill.chat_format import chat_format, load_tokenizer
from outrider_distill.corpus import Corpus
from outrider_distill.distil import (
    BUNDLE_FOLDER,
    CHECKPOINT_FILE,
    TRAINED_FILE,
    split,
)
from outrider_distill.samples import Sample
from outrider_distill.student import build_student, read_trained, trained_state
from outrider_distill.training import Trainer
from outrider_edge.onnx_model import OnnxModel
from outrider_models.bundle import Bundle
from outrider_models.progress import SilentProgress


def test_the_bundle_computes_what_the_trained_layers_compute(
    distiller: Distiller, tiny_model: Any
) -> None:
    bundle = Bundle.load(distiller.run("run"), verify=True)
    state = load_file(distiller.root / "run" / TRAINED_FILE)
    assert bundle.manifest.kv.num_layers == 2
    assert {weight.dtype for weight in state.values() if weight.dim() == 2} >= {torch.int8}
    student: Any = build_student(tiny_model, [0, 3]).eval()
    read_trained(student, distiller.root / "run" / TRAINED_FILE)
    tokens = list(range(3, 30))
    with torch.no_grad():
        expected = student(torch.tensor([tokens])).logits[0].numpy()
    found = OnnxModel(bundle).new_sequence().forward(tokens)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_drafter_has_learned(distiller: Distiller) -> None:
    distiller.train("run")
    curve = json.loads((distiller.root / "run" / "curve.json").read_text())
    assert curve[-1]["estimate"]["kl"] < 0.8 * curve[0]["estimate"]["kl"]


@pytest.mark.parametrize(
    "watcher",
    [Watcher(stop_after_tokens=500), Watcher(stop_after_steps=11)],
    ids=["in-the-text", "in-training"],
)
def test_an_interrupted_run_ends_with_the_same_layers(
    distiller: Distiller, watcher: Watcher
) -> None:
    straight = distiller.train("straight")
    with pytest.raises(StoppedError):
        distiller.train("stopped", watcher)
    assert are_equal(distiller.train("stopped"), straight)


def test_a_drafter_can_be_taken_from_the_last_checkpoint_without_disturbing_the_training(
    distiller: Distiller,
) -> None:
    with pytest.raises(InvalidInputError, match="has no checkpoint yet"):
        distiller.start("run").trained_so_far()
    trained = distiller.train("run")
    checkpoint = distiller.root / "run" / CHECKPOINT_FILE
    before = checkpoint.read_bytes()
    assert are_equal(trained_state(distiller.start("run").trained_so_far()), trained)
    assert checkpoint.read_bytes() == before


def test_a_directory_of_another_request_is_not_gone_on_with(distiller: Distiller) -> None:
    distiller.start("run")
    distiller.start("run")
    with pytest.raises(InvalidInputError, match=r"begun with layers = \[0, 3\], not \[0, 1\]"):
        distiller.start("run", replace(distiller.request, layers=(0, 1)))
    distiller.request.prompts[0].write_text('{"prompt": "Who?"}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match="begun with prompts"):
        distiller.start("run")


def test_a_directory_with_other_things_is_left_alone(distiller: Distiller) -> None:
    (distiller.root / "run").mkdir()
    (distiller.root / "run" / "diary.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not the work of a distillation"):
        distiller.start("run")


def test_prompts_of_another_vocabulary_are_refused_before_anything_is_made(
    distiller: Distiller,
) -> None:
    distiller.request.prompts[0].write_text('{"tokens": [5, 99999]}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match="token 99999, but the target's vocabulary has 300"):
        distiller.start("run")
    assert not (distiller.root / "run").exists()


def test_prompts_that_leave_no_room_for_an_answer_are_refused(distiller: Distiller) -> None:
    distiller.request.prompts[0].write_text(json.dumps({"prompt": "why " * 99}), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="longer than 24 tokens, half of a text"):
        distiller.start("run")


def test_an_encoder_decoder_is_refused(distiller: Distiller, tmp_path: Path) -> None:
    source = tmp_path / "t5"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UnsupportedError, match="'t5' is an encoder and a decoder"):
        distiller.start("run", replace(distiller.request, target=str(source)))


def test_a_family_that_cannot_be_exported_is_refused_before_training(
    distiller: Distiller, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "gemma", "gemma3")
    with pytest.raises(UnsupportedError, match="gemma3_text"):
        distiller.start("run", replace(distiller.request, target=str(source)))


def test_a_target_without_a_chat_template_is_refused(distiller: Distiller, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "base")
    (source / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedError, match="no chat template"):
        distiller.start("run", replace(distiller.request, target=str(source)))


@pytest.mark.parametrize("part", ["text", "training"])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    distiller: Distiller, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def full(file: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    straight = distiller.train("straight")
    with monkeypatch.context() as patched:
        if part == "text":
            patched.setattr(np, "savez", full)
        else:
            patched.setattr(torch, "save", lambda state, file: _fill(file))
            patched.setattr("outrider_distill.training.write_whole", _write_to_a_full_disk)
        with pytest.raises(UnavailableError, match="is full; free some room"):
            distiller.train("full")
    assert are_equal(distiller.train("full"), straight)


def test_a_disk_that_is_full_when_the_bundle_is_written_is_named_and_nothing_is_left(
    distiller: Distiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, directory: Path, request: Any) -> None:
        (directory / "model.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("outrider_distill.assembling.write_bundle", full)
        with pytest.raises(UnavailableError, match="is full; free some room and give the same"):
            distiller.run("run")
    assert not list((distiller.root / "run").glob("*bundle*"))
    Bundle.load(distiller.run("run"), verify=True)


def _fill(file: BinaryIO) -> None:
    file.write(b"\0" * 100)


def _write_to_a_full_disk(path: Path, write: Any) -> None:
    from outrider_distill.samples import write_whole

    def fail(file: BinaryIO) -> None:
        write(file)
        raise OSError(errno.ENOSPC, "No space left on device")

    write_whole(path, fail)


def test_training_goes_on_from_layers_of_another_run(distiller: Distiller) -> None:
    distiller.run("first")
    trained = distiller.root / "first" / TRAINED_FILE
    second = distiller.start("second", replace(distiller.request, start_from=trained))
    second.write_text()
    second.train()
    curves = [
        json.loads((distiller.root / name / "curve.json").read_text())
        for name in ("first", "second")
    ]
    assert curves[1][0]["estimate"]["kl"] == pytest.approx(
        curves[0][-1]["estimate"]["kl"], rel=0.02
    )


def test_text_of_another_run_is_learned_from_and_what_it_held_out_is_held_out(
    distiller: Distiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[list[int]]] = []
    plain = Trainer.__init__

    def watched(self: Trainer, student: Any, *texts: Any) -> None:
        shown.extend(plain_tokens(text) for text in texts[:2])
        plain(self, student, *texts)

    monkeypatch.setattr(Trainer, "__init__", watched)
    distiller.train("first")
    asking = replace(distiller.request, seed=7, text_of=(distiller.root / "first",))
    second = distiller.start("second", asking)
    second.write_text()
    second.train()
    own_held_out, own_rest = split(list(Corpus(distiller.root / "second" / "text").samples(3000)))
    first_rest, first_held_out, rest, held_out = shown
    assert rest == plain_tokens(own_rest) + first_rest
    assert held_out == plain_tokens(own_held_out) + first_held_out


def plain_tokens(samples: Sequence[Sample]) -> list[list[int]]:
    return [sample.tokens.tolist() for sample in samples]


def test_text_of_another_run_has_to_be_there_and_of_the_same_target(
    distiller: Distiller, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    asking = replace(distiller.request, text_of=(other,))
    with pytest.raises(InvalidInputError, match="other' is not the work of a distillation"):
        distiller.start("run", asking)
    distiller.start("first")
    with pytest.raises(InvalidInputError, match="still lacks 3000 of its 3000 tokens of text"):
        distiller.start("run", replace(asking, text_of=(distiller.root / "first",)))
    record = json.loads((distiller.root / "first" / "request.json").read_text())
    (other / "request.json").write_text(json.dumps(record | {"target": "f00d"}))
    with pytest.raises(InvalidInputError, match="other' was written by another target"):
        distiller.start("run", asking)
    assert not (distiller.root / "run").exists()


def test_openings_are_part_of_the_request_and_begin_the_target_s_questions(
    distiller: Distiller, tmp_path: Path
) -> None:
    openings = tmp_path / "openings.jsonl"
    openings.write_text('{"prompt": "Why does"}\n', encoding="utf-8")
    asking = replace(distiller.request, prompts=(), openings=openings)
    run = distiller.start("run", asking)
    run.write_text()
    tokenizer = load_tokenizer(Path(asking.target))
    chat = chat_format(tokenizer)
    begins = [*chat.before, *tokenizer.encode("Why does", add_special_tokens=False)]
    samples = list(Corpus(distiller.root / "run" / "text").samples(3000))
    assert [s.tokens[: len(begins)].tolist() == begins for s in samples[1::2]] == [True] * (
        len(samples) // 2
    )
    openings.write_text('{"prompt": "Why do"}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match="begun with openings"):
        distiller.start("run", asking)


def test_what_text_and_training_took_is_told_again_when_all_is_there(
    distiller: Distiller,
) -> None:
    first, again = Watcher(), Watcher()
    distiller.train("run", first)
    distiller.train("run", again)
    assert first.costs is not None
    assert again.costs is not None
    samples = list(Corpus(distiller.root / "run" / "text").samples(10**9))
    curve = json.loads((distiller.root / "run" / "curve.json").read_text())
    for writing, training in (first.costs, again.costs):
        assert writing.num_tokens == sum(sample.num_rows for sample in samples)
        assert training.num_tokens == curve[-1]["num_rows"]
        assert str(training).endswith(f", {training.num_tokens / training.seconds:.0f} tokens/s")
    assert again.costs[0] == first.costs[0]
    assert first.costs[0].seconds > 0
    assert again.costs[1].seconds >= first.costs[1].seconds > curve[1]["seconds"] > 0


def test_assembled_layers_are_the_bundle_that_the_run_made(distiller: Distiller) -> None:
    bundle = Bundle.load(distiller.run("run"))
    trained = distiller.root / "run" / TRAINED_FILE
    path = assemble(trained, distiller.store, SilentProgress(), quantisation="none", name="mine")
    assembled = Bundle.load(path, verify=True)
    assert path == distiller.store.resolve_bundle("mine")
    assert assembled.manifest.files == bundle.manifest.files
    assert not list(path.parent.glob(".assembling*"))


def test_an_assembled_drafter_can_draft_from_the_frequent_tokens_alone(
    distiller: Distiller,
) -> None:
    whole = OnnxModel(Bundle.load(distiller.run("run")))
    trained = distiller.root / "run" / TRAINED_FILE
    path = assemble(
        trained, distiller.store, SilentProgress(), quantisation="none", draft_vocabulary=64
    )
    assert path.name == "tiny-2-layers-none-top64"
    cut = OnnxModel(Bundle.load(path, verify=True))
    assert cut.num_logits == 64
    tokens = list(range(3, 30))
    np.testing.assert_allclose(
        cut.new_sequence().forward(tokens),
        whole.new_sequence().forward(tokens)[:, cut.token_ids],
        atol=1e-3,
    )


def test_layers_are_not_put_into_a_target_with_another_tokenizer(
    distiller: Distiller, tmp_path: Path
) -> None:
    distiller.run("run")
    source = write_tiny_model(tmp_path / "other", num_hidden_layers=4)
    train_tokenizer(290).save_pretrained(source)
    with pytest.raises(MismatchError, match="has another tokenizer"):
        assemble(
            distiller.root / "run" / TRAINED_FILE,
            distiller.store,
            SilentProgress(),
            target=str(source),
        )


def test_a_damaged_record_is_named(distiller: Distiller) -> None:
    distiller.start("run")
    (distiller.root / "run" / "request.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"request\.json' is damaged"):
        distiller.start("run")


def test_text_that_is_held_out_is_not_learned_from(tiny_samples: Sequence[Sample]) -> None:
    held_out, rest = split(tiny_samples)
    assert {id(one) for one in held_out} & {id(one) for one in rest} == set()
    assert len(held_out) + len(rest) == len(tiny_samples)
    assert len(held_out) == 2


def test_all_files_of_a_run_are_known(distiller: Distiller) -> None:
    distiller.run("run")
    names = {path.name for path in (distiller.root / "run").iterdir()}
    known = {"request.json", "number_format", "text", "curve.json"}
    assert names == known | {CHECKPOINT_FILE, TRAINED_FILE, BUNDLE_FOLDER}


def test_the_target_is_left_as_it_was(distiller: Distiller, tiny_dir: Path) -> None:
    before = load_causal_lm(tiny_dir, lambda config: None).state_dict()
    distiller.train("run")
    after = load_causal_lm(tiny_dir, lambda config: None).state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
