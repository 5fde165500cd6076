"""What later frames inherit of the first: all of a still one, little of noise, in between what moves and changes."""

import pytest
import torch
from models.learned_video import tiny_light
from models.video.pictures import moved, picture

from triode.models.base import Yuv
from triode.models.video.lookahead import heirs, inherited


def noise(seed, height=96, width=160):
    return torch.rand((1, 1, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny_light(motion=True)


class TestInherited:
    def test_a_still_frame_has_all_of_the_one_before(self):
        assert inherited(picture(), picture()) == pytest.approx(1, abs=1e-3)

    def test_so_has_one_that_moved(self):
        frame = picture()
        # At the edges what comes in from the other side is new.
        assert inherited(moved(frame, 6, -4), frame) > 0.7
        assert inherited(picture(seed=1), frame) < 0.3

    def test_noise_has_little(self):
        assert 0 <= inherited(noise(1), noise(2)) < 0.2

    def test_the_more_is_new_the_less(self):
        frame = picture()
        shares = [inherited(frame + amount * noise(3), frame) for amount in (0, 0.02, 0.1, 0.5)]
        assert shares == sorted(shares, reverse=True)

    def test_black_frames(self):
        assert inherited(torch.zeros(1, 1, 96, 160), torch.zeros(1, 1, 96, 160)) == 1

    @pytest.mark.parametrize("shape", [(32, 32), (48, 80), (33, 95)])
    def test_sizes(self, shape):
        frame = noise(0, *shape)
        assert inherited(frame, frame) == pytest.approx(1, abs=1e-3)


class TestHeirs:
    @pytest.mark.parametrize("count", [1, 2, 9, 32])
    def test_of_a_still_clip_all(self, count):
        assert heirs(count, lambda _: picture()) == pytest.approx(count - 1, abs=0.01)

    def test_none_after_a_cut(self):
        assert heirs(2, noise) < 0.2

    def test_few_pairs_stand_for_all(self):
        asked = []
        heirs(96, lambda index: asked.append(index) or picture())
        assert 8 < len(set(asked)) <= 17
        assert 0 <= min(asked) <= max(asked) < 96

    def test_frames_too_small_to_search(self):
        assert heirs(5, lambda _: noise(0, 16, 64)) == 0


class TestPlan:
    def frame(self, luma):
        return Yuv(luma, torch.zeros(1, 2, luma.shape[2] // 2, luma.shape[3] // 2))

    def test_the_first_frame_of_a_still_clip_is_the_finest(self, model):
        still = model.plan(12, lambda _: self.frame(picture()), 20)
        new = model.plan(12, lambda index: self.frame(noise(index)), 20)
        assert 20 <= new[0].point <= 23 < still[0].point <= 52
        assert [step.kind for step in still] == [model.step(index, 20).kind for index in range(12)]
        assert still[1:] == new[1:] == tuple(model.step(index, 20) for index in range(1, 12))

    def test_of_one_frame(self, model):
        assert [step.point for step in model.plan(1, lambda _: self.frame(picture()), 33)] == [33]

    def test_no_finer_than_there_is(self, model):
        assert model.plan(12, lambda _: self.frame(picture()), 60)[0].point == 63

    def test_without_it_all_is_as_in_training(self, model, monkeypatch):
        monkeypatch.setattr(model, "lookahead", 0.0)
        plan = model.plan(5, lambda _: self.frame(picture()), 20)
        assert plan == tuple(model.step(index, 20) for index in range(5))
