"""Loads a real target as the settings say: device, number format, memory, threads, kernel.

Apart from the verifier's other parts because torch takes seconds to import, and a synthetic target
needs none.
"""

from pathlib import Path

from outrider_cloud.compiled_linear import FewRowsKernel
from outrider_cloud.packed_linear import Pack, pack
from outrider_cloud.starting import say
from outrider_cloud.torch_target import TorchTarget
from outrider_common.errors import UnsupportedError
from outrider_common.settings.verifier import VerifierSettings


def load_target(settings: VerifierSettings, directory: Path, kernels: Path) -> TorchTarget:
    """Load a model as the settings say.

    Args:
        settings: device, number format, memory, threads.
        directory: of the model.
        kernels: where compiled kernels are kept.
    """
    target = TorchTarget.load(
        directory,
        device=settings.device,
        dtype=settings.dtype,
        kv_cache_mib=settings.kv_cache_mib,
        num_threads=settings.num_threads,
        fixed_rows=settings.fixed_rows,
        pack=_linear_layers(settings, kernels),
    )
    if target.model.device.type == "cuda":
        say(f"Compiling and recording passes of up to {settings.rows_per_pass} rows for the GPU.")
        target.rehearse(settings.rows_per_pass)
    return target


def _linear_layers(settings: VerifierSettings, kernels: Path) -> Pack:
    """How linear layers are made fast on a CPU."""
    if settings.compile == "off":
        return pack
    try:
        kernel = FewRowsKernel.compiled(kernels)
    except UnsupportedError as error:
        if settings.compile == "on":
            raise
        say(f"Linear layers by oneDNN. {error}")
        return pack
    say(f"Linear layers by the kernel compiled in {kernels}.")
    return kernel.pack
