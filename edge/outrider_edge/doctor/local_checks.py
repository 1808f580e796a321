"""Checks of what is on this machine: settings, model store, bundle, tokenizer, draft model."""

import os
import statistics
import time
from typing import Final

from outrider_common.config_loading import DEFAULT_ORIGIN
from outrider_common.errors import ConfigError
from outrider_edge.doctor.examination import Check, Verdict, in_thread
from outrider_edge.doctor.patient import Patient
from outrider_edge.execution_providers import AUTO
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.runtime import load_tokenizer
from outrider_models.bundle import Bundle, tokenizer_fingerprint
from outrider_models.store import Kind

_MS: Final = 1000
_MIB: Final = 1 << 20
_GRAPH_LIMIT_S: Final = 60.0
_CONTEXT_TOKENS: Final = 64
_NUM_STEPS: Final = 15


async def _settings(patient: Patient) -> Verdict:
    loaded = patient.loaded
    if isinstance(loaded, ConfigError):
        raise loaded
    changed = [name for name, origin in loaded.origin.items() if origin != DEFAULT_ORIGIN]
    where = f"Read from {loaded.file}" if loaded.file else "No settings file"
    changes = f"not at their defaults: {', '.join(changed)}" if changed else "all at their defaults"
    return Verdict.good(f"{where}; {changes}.")


async def _store(patient: Patient) -> Verdict:
    root = patient.store.root
    if not root.is_dir():
        return Verdict.doubtful(
            f"There is no model store at {root} yet; 'outrider models export MODEL' makes it, or "
            "name another with --cache-dir."
        )
    if not os.access(root, os.W_OK):
        return Verdict.doubtful(
            f"{root} cannot be written, so what is learnt of drafts is lost at every end; let this "
            "user write there, or name another with --cache-dir."
        )
    names = [entry.name for entry in patient.store.entries() if entry.kind is Kind.BUNDLE]
    return Verdict.good(f"{root}; drafter bundles: {', '.join(names) or 'none'}.")


async def _bundle(patient: Patient) -> Verdict:
    name = patient.settings.edge.bundle
    path = patient.store.resolve_bundle(name)
    patient.bundle = await in_thread(lambda: Bundle.load(path, verify=True))
    files = patient.bundle.manifest.files.values()
    size_mib = sum(file.size for file in files) / _MIB
    return Verdict.good(f"{name}: {len(files)} files, {size_mib:.0f} MiB, all as they were made.")


async def _tokenizer(patient: Patient) -> Verdict:
    assert patient.bundle is not None
    bundle = patient.bundle
    tokenizer = await in_thread(lambda: load_tokenizer(bundle))
    tokens = tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    fingerprint = tokenizer_fingerprint(tokenizer.vocabulary())
    if fingerprint != bundle.manifest.tokenizer_fingerprint:
        return Verdict.bad(
            f"The tokenizer in {bundle.path} is not the one that its manifest names; export the "
            "bundle again with 'outrider models export --force'."
        )
    patient.tokenizer, patient.fingerprint = tokenizer, fingerprint
    return Verdict.good(f"{tokenizer.vocab_size} tokens; the chat template made {len(tokens)}.")


async def _draft_model(patient: Patient) -> Verdict:
    assert patient.bundle is not None
    bundle, edge = patient.bundle, patient.settings.edge
    if "lm" not in edge.proposers:
        return Verdict.absent(f"No draft model runs with --proposers {','.join(edge.proposers)}.")
    model = await in_thread(
        lambda: OnnxModel(
            bundle,
            num_threads=edge.num_threads,
            allow_spinning=edge.allow_spinning,
            providers=edge.providers,
        )
    )
    patient.draft_s = await in_thread(lambda: _step_s(model))
    providers = model.session.get_providers()
    said = f"A step takes {patient.draft_s * _MS:.1f} ms, on {providers[0]}"
    absent = [name for name in edge.providers if name not in (AUTO, *providers)]
    if absent:
        return Verdict.doubtful(
            f"{said}; {', '.join(absent)} cannot be used: install an ONNX Runtime that has it, or "
            "leave it out of --providers.",
            draft_s=patient.draft_s,
        )
    return Verdict.good(f"{said}.", draft_s=patient.draft_s)


def _step_s(model: OnnxModel) -> float:
    """The median of some steps, after a text of some tokens."""
    sequence = model.new_sequence()
    text = [token % model.vocab_size for token in range(1, 1 + _CONTEXT_TOKENS)]
    sequence.forward(text, num_logits=1)
    seconds = []
    for _ in range(_NUM_STEPS):
        began = time.perf_counter()
        sequence.forward(text[-1:], num_logits=1)
        seconds.append(time.perf_counter() - began)
        sequence.truncate(len(text))
    return statistics.median(seconds)


LOCAL_CHECKS: Final = (
    Check("settings", _settings),
    Check("model store", _store, needs=("settings",)),
    Check("bundle", _bundle, needs=("settings",), limit_s=_GRAPH_LIMIT_S),
    Check("tokenizer", _tokenizer, needs=("bundle",)),
    Check("draft model", _draft_model, needs=("bundle",), limit_s=_GRAPH_LIMIT_S),
)
