"""Shards of text on disk."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrider_common.errors import ModelFileError, UnavailableError
from outrider_distill.samples import Sample, read_shard, write_shard, write_whole


def test_a_shard_gives_back_what_was_written(
    tmp_path: Path, tiny_samples: Sequence[Sample]
) -> None:
    write_shard(tmp_path / "shard.npz", tiny_samples)
    found = read_shard(tmp_path / "shard.npz")
    assert len(found) == len(tiny_samples)
    for one, other in zip(found, tiny_samples, strict=True):
        assert one.begin == other.begin
        for name in ("tokens", "top_ids", "top_log_probs"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["shard.npz"]


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_shard_that_was_cut_off_is_named(
    tmp_path: Path, tiny_samples: Sequence[Sample], keep: int
) -> None:
    path = tmp_path / "shard.npz"
    write_shard(path, tiny_samples)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"shard\.npz' is damaged"):
        read_shard(path)


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: Any) -> None:
        file.write(b"new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UnavailableError, match="is full; free some room and give the same command"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
