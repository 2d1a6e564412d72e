"""A checkpoint's file: what is read is what was written, or it is not read at all."""

import dataclasses
import hashlib
import io
import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.training import checkpoint
from bench.training.checkpoint import Checkpoint, DamagedError, ForeignError, Owner
from tests.bench.builders import CPU, experiment, row

OWNER = Owner.of(experiment(), "0123", CPU)
TENSOR = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
MADE = Checkpoint(
    OWNER,
    {"weights": TENSOR, "rate": 0.1},
    (row(1), row(2, gradient_error=None)),
    7,
    2,
    3.5,
    (1, 2),
    "2026-01-02T03:04:05+00:00",
)


@pytest.fixture
def file(tmp_path):
    checkpoint.write(tmp_path / "run" / checkpoint.NAME, MADE)
    return tmp_path / "run" / checkpoint.NAME


def with_a_right_checksum(body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return f"anode-bench checkpoint, schema {checkpoint.SCHEMA}, sha256 {digest}\n".encode() + body


def test_checkpoint_is_read_as_it_was_written(file):
    found = checkpoint.read(file, OWNER)
    assert torch.equal(found.trainer["weights"], TENSOR)
    assert found.trainer["weights"].stride() == TENSOR.stride()
    same = {"trainer": MADE.trainer}
    assert dataclasses.replace(found, **same) == MADE


def test_where_there_is_none_nothing_is_read(tmp_path):
    assert checkpoint.read(tmp_path / "run" / checkpoint.NAME, OWNER) is None


@given(data=st.data())
def test_file_that_is_not_what_was_written_is_noticed(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / checkpoint.NAME
    checkpoint.write(file, MADE)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans(), label="truncated"):
        file.write_bytes(whole[:at])
    else:
        bit = data.draw(st.integers(0, 7))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    # The version is the only thing before the checksum that may be another one.
    with pytest.raises((DamagedError, ForeignError)):
        checkpoint.read(file, OWNER)


@dataclasses.dataclass
class Touches:
    """Code in a pickle."""

    place: str

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.mark.fault("hostile")
@pytest.mark.parametrize("as_torch", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(file, tmp_path, as_torch, injected):
    content = {"owner": Touches(str(tmp_path / "executed"))}
    stream = io.BytesIO()
    torch.save(content, stream) if as_torch else pickle.dump(content, stream, protocol=2)
    file.write_bytes(with_a_right_checksum(stream.getvalue()))
    with pytest.raises(DamagedError, match="it holds more than tensors and plain values"):
        checkpoint.read(file, OWNER)
    assert not (tmp_path / "executed").exists()
    injected(1, "refused in one line, nothing executed")
    pickle.loads(pickle.dumps(content))  # the code does what it is feared for
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [None, [], {}, {"owner": {}}, {"owner": {"experiment": 1}}])
def test_checksum_does_not_make_a_checkpoint_of_something_else(file, content):
    stream = io.BytesIO()
    torch.save(content, stream)
    file.write_bytes(with_a_right_checksum(stream.getvalue()))
    with pytest.raises(DamagedError, match="it does not hold what a checkpoint holds"):
        checkpoint.read(file, OWNER)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("experiment", dataclasses.asdict(experiment(lr=0.2))),
        ("data", "4567"),
        ("device", "cuda"),
        ("pytorch", "1.0"),
    ],
)
def test_checkpoint_of_another_run_is_refused(file, part, change):
    other = dataclasses.replace(OWNER, **{part: change})
    with pytest.raises(ForeignError, match=f"its {part} is not this one's"):
        checkpoint.read(file, other)


def test_checkpoint_of_another_version_is_refused(file, monkeypatch):
    monkeypatch.setattr(checkpoint, "SCHEMA", 99)
    with pytest.raises(ForeignError, match="schema 5 and not 99"):
        checkpoint.read(file, OWNER)
