"""Linear layers by a kernel of our own (`few_rows.c`), compiled for this machine's processor.

Needs a C compiler, once: the result is kept in a directory and loaded from there afterwards. Other
layers of the verifier do not need it. Knows nothing of models.
"""

import ctypes
import os
import shutil
import subprocess
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import pad

from outrider_cloud.packed_linear import gains
from outrider_common.errors import UnsupportedError

FLAGS: Final = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class FewRowsKernel:
    """The compiled kernel.

    Args:
        library: the shared object.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        self.panel_width: Final = int(loaded.panel_width())
        self.multiply: Final[Any] = loaded.few_rows
        pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
        self.multiply.argtypes = (
            *(pointer, size, size, pointer, pointer, pointer, size),
            ctypes.c_int,
        )
        self.multiply.restype = None

    @classmethod
    def compiled(cls, directory: Path) -> "FewRowsKernel":
        """Load the kernel for this processor, and compile it first if that was never done.

        Args:
            directory: where compiled kernels are kept; made if it is missing. The name of a file
                says what it was made from: source, compiler, and what the processor can do.

        Raises:
            UnsupportedError: there is no C compiler, or it cannot compile the kernel.
        """
        compiler = _find_compiler()
        source = files("outrider_cloud").joinpath("few_rows.c").read_bytes()
        abilities = _run(compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull)
        digest = sha256(b"\0".join((source, *map(str.encode, FLAGS), abilities))).hexdigest()
        library = directory / f"few_rows-{digest[:16]}.so"
        if not library.exists():
            _compile(compiler, source, library)
        return cls(library)

    def pack(self, linear: nn.Linear) -> nn.Module:
        """A layer that computes the same with this kernel; the given one where it would not pay."""
        return CompiledLinear(linear, self) if gains(linear) else linear


class CompiledLinear(nn.Module):
    """`y = x W^T + b` whose answer for a row does not depend on the other rows, to the last bit.

    Args:
        linear: the layer that it replaces; fp32, on the CPU.
        kernel: that computes.
    """

    def __init__(self, linear: nn.Linear, kernel: FewRowsKernel) -> None:
        super().__init__()
        self.in_features: Final = linear.in_features
        self.out_features: Final = linear.out_features
        width = kernel.panel_width
        missing = -linear.out_features % width
        weight = pad(linear.weight.detach(), (0, 0, 0, missing))
        bias: torch.Tensor | None = linear.bias
        start = weight.new_zeros(linear.out_features) if bias is None else bias.detach()
        self._bias = pad(start, (0, missing)).contiguous()
        self._panels = weight.view(-1, width, linear.in_features).transpose(1, 2).contiguous()
        self._num_panels: Final = len(self._panels)
        self._padded: Final = linear.out_features + missing
        self._multiply: Final = kernel.multiply

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], self._padded))
        self._multiply(
            x.data_ptr(),
            x.numel() // self.in_features,
            self.in_features,
            self._panels.data_ptr(),
            self._bias.data_ptr(),
            y.data_ptr(),
            self._num_panels,
            torch.get_num_threads(),
        )
        return y if self._padded == self.out_features else y[..., : self.out_features]


def _find_compiler() -> str:
    name = os.environ.get("CC") or "cc"
    compiler = shutil.which(name)
    if compiler is None:
        raise UnsupportedError(
            f"Compiled passes need a C compiler, and there is no '{name}' here; install one, name "
            "it in CC, or do without compiled passes."
        )
    return compiler


def _compile(compiler: str, source: bytes, library: Path) -> None:
    """Made beside its place and then moved there: others never see half of it."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=library.parent) as workshop:
        text, made = Path(workshop, "few_rows.c"), Path(workshop, "few_rows.so")
        text.write_bytes(source)
        _run(compiler, *FLAGS, str(text), "-o", str(made))
        made.replace(library)


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()
        raise UnsupportedError(
            f"The C compiler '{command[0]}' cannot compile the kernel for linear layers; use "
            f"another one (CC), or do without compiled passes. It said: {complaint}"
        )
    return done.stdout
