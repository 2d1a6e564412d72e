"""A checkpoint's file: what is read is what was written, or nothing is read."""

import dataclasses
import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.training import checkpoint
from bench.training.checkpoint import DamagedError, ForeignError, Owner, RunState
from tests.bench.builders import CPU, Detonator, experiment, row

OWNER = Owner.of(experiment(), "0123", CPU)
TENSOR = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)


def made():
    return RunState(
        **{"started_at": "2026-01-02T03:04:05+00:00", "seconds": 3.5, "resumed_at": (1, 2)},
        **{"rows": [row(1), row(2, gradient_error=None)], "peak_bytes": 7, "epoch": 3, "steps": 4},
        **{"parts": ({"threads": 1}, {"threads": 2}), "optimizer": {"rate": 0.1}},
        network={"weight": TENSOR},
        random=torch.get_rng_state(),
    )


@pytest.fixture
def file(tmp_path):
    checkpoint.write(tmp_path / "run" / checkpoint.NAME, OWNER, made())
    return tmp_path / "run" / checkpoint.NAME


def with_a_right_checksum(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    head = f"anode-bench checkpoint, schema {checkpoint.SCHEMA}, sha256 {digest}\n"
    return head.encode() + stream.getvalue()


def test_state_is_read_as_it_was_written(file):
    found, expected = checkpoint.read(file, OWNER), made()
    weight = found.network["weight"]
    assert torch.equal(weight, TENSOR)
    assert weight.stride() == TENSOR.stride()
    assert torch.equal(found.random, expected.random)
    rest = {"network": None, "random": None}
    assert dataclasses.replace(found, **rest) == dataclasses.replace(expected, **rest)
    assert checkpoint.read(file.with_name("another"), OWNER) is None


@settings(max_examples=50)
@given(data=st.data())
def test_changed_file_is_refused(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / checkpoint.NAME
    checkpoint.write(file, OWNER, made())
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans(), label="truncated"):
        file.write_bytes(whole[:at])
    else:
        bit = data.draw(st.integers(0, 7))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    # ForeignError: the schema's number is not covered by the checksum.
    with pytest.raises((DamagedError, ForeignError)):
        checkpoint.read(file, OWNER)


@pytest.mark.fault("hostile")
def test_code_in_a_checkpoint_is_refused_and_not_run(file, tmp_path, injected):
    trace = tmp_path / "executed"
    file.write_bytes(with_a_right_checksum({"owner": Detonator(trace)}))
    with pytest.raises(DamagedError, match="it holds more than tensors and plain values"):
        checkpoint.read(file, OWNER)
    assert not trace.exists()
    injected(1, "refused in one line, nothing executed")
    torch.load(io.BytesIO(file.read_bytes().partition(b"\n")[2]), weights_only=False)
    assert trace.exists()  # the code works


@pytest.mark.parametrize("content", [[], {"owner": {}}, {"owner": dataclasses.asdict(OWNER)}])
def test_content_of_another_kind_is_refused(file, content):
    file.write_bytes(with_a_right_checksum(content))
    with pytest.raises(DamagedError, match="it does not hold what a checkpoint holds"):
        checkpoint.read(file, OWNER)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("experiment", dataclasses.asdict(experiment(lr=0.2))),
        *(("data", "4567"), ("device", "cuda"), ("pytorch", "1.0")),
    ],
)
def test_checkpoint_of_another_run_is_refused(file, part, change):
    other = dataclasses.replace(OWNER, **{part: change})
    with pytest.raises(ForeignError, match=f"its {part} is not this one's"):
        checkpoint.read(file, other)


def test_checkpoint_of_another_version_is_refused(file, monkeypatch):
    schema = checkpoint.SCHEMA
    monkeypatch.setattr(checkpoint, "SCHEMA", 99)
    with pytest.raises(ForeignError, match=f"schema {schema} and not 99"):
        checkpoint.read(file, OWNER)
