import pytest
import torch
from torch import nn

from triode.errors import UnsupportedError
from triode.models.layers.audio.conv import PaddedConv1d, PaddedConvTranspose1d
from triode.models.layers.audio.snake import ResidualUnit, Snake1d
from triode.models.layers.audio.streaming import StreamChain, stream


def chain():
    torch.manual_seed(0)
    return StreamChain(
        nn.ELU(),
        PaddedConv1d(2, 4, 5, 3, causal=True),
        Snake1d(4),
        PaddedConv1d(4, 4, 3, dilation=2, causal=True),
        PaddedConvTranspose1d(4, 3, 7, 4, causal=True),
        nn.Tanh(),
    ).double()


@pytest.mark.parametrize("sizes", [[1], [2], [3], [7], [50], [1, 0, 11, 2]])
@pytest.mark.parametrize("length", [1, 2, 6, 40, 41])
def test_a_chain_streams(assert_streams, length, sizes):
    y = assert_streams(chain(), torch.randn(2, 2, length).double(), sizes, 1e-12)
    assert y.shape == (2, 3, 4 * -(-length // 3))


def test_a_state_can_be_used_again():
    """What a decoder needs that goes back after a lost packet: steps change no state, only make new ones."""
    module = chain()
    x, lost, other = (torch.randn(1, 2, 30).double() for _ in range(3))
    _, state = module.step(x, module.stream_state())
    first, _ = module.step(other, state)
    module.step(lost, state)
    module.flush(state)
    again, _ = module.step(other, state)
    assert torch.equal(first, again)


def test_outputs_come_as_soon_as_they_can():
    module = chain()
    with torch.no_grad():
        sizes = [y.shape[-1] for y in stream(module, torch.randn(1, 2, 30).double().split(1, -1))]
    # Three samples make a frame, a frame four samples; mirrored padding waits for 2 + 1 samples and 4 + 1 frames.
    assert sizes[:15] == [0] * 14 + [20]
    assert sizes[15:30] == [0, 0, 4] * 5
    assert sizes[30:] == [0]


def test_streams_side_by_side_do_not_mix():
    module = chain()
    x = torch.randn(3, 2, 25).double()
    together = torch.cat(list(stream(module, x.split(6, -1))), -1)
    alone = [torch.cat(list(stream(module, x[i : i + 1].split(6, -1))), -1) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)


def test_what_looks_ahead_is_refused():
    with pytest.raises(UnsupportedError, match="PaddedConv1d is not causal"):
        StreamChain(PaddedConv1d(1, 1, 3)).stream_state()
    with pytest.raises(UnsupportedError, match="ResidualUnit cannot run on a stream"):
        StreamChain(ResidualUnit(4)).stream_state()
    with pytest.raises(UnsupportedError, match="nothing to flush"):
        StreamChain(nn.ELU()).flush(StreamChain(nn.ELU()).stream_state())


def test_no_pieces_no_outputs():
    assert list(stream(chain(), [])) == []
