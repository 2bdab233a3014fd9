"""Where the processor time of training goes, at width 64 on one thread: steps of `train` on random pictures."""

import time
from contextlib import contextmanager

import pytest
import torch

from fcx.core.recipes import RECIPES
from fcx.networks import training_loop
from fcx.networks.facechannel import Config, FaceChannel
from fcx.networks.training import using_threads
from fcx.studies import images_a_second

BATCHES = 40
pytestmark = pytest.mark.usefixtures("one_thread")


class Clock(dict):
    """Seconds of processor time, by what they were spent on, since the steps that warm up."""

    @contextmanager
    def counted(self, name):
        start = time.process_time()
        yield
        self[name] = self.get(name, 0) + time.process_time() - start

    def counts(self, name, function):
        def call(*args, **options):
            with self.counted(name):
                return function(*args, **options)

        return call

    def began(self):
        if "ended" not in self:
            self.clear()
        self["ended"] = time.process_time()
        return self["ended"]


def test_where_an_epoch_goes_and_how_fast_pictures_come(capsys, monkeypatch):
    recipe, clock = RECIPES["modern"], Clock()
    for where, name, what in ((FaceChannel, "forward", "forward"), (torch.Tensor, "backward", "backward"),
                              (training_loop, "augment", "augmentation"),
                              (training_loop, "random_changes", "augmentation"),
                              (torch.optim.AdamW, "step", "optimiser")):  # fmt: skip
        monkeypatch.setattr(where, name, clock.counts(what, getattr(where, name)))
    with using_threads(1):
        speed = images_a_second(Config(width=64, batch_norm=True, dropout=0.0), "scratch", recipe, "cpu", BATCHES,
                                clock.began)  # fmt: skip
        images = torch.randint(256, (28_000, 64, 64), dtype=torch.uint8)
        order, start = torch.randperm(len(images)).split(recipe.batch_size), time.process_time()
        for rows in order:
            images[rows][:, None].float() / 255
        loading = len(images) / (time.process_time() - start)
    total = BATCHES * recipe.batch_size / speed
    shares = {name: seconds / total for name, seconds in clock.items() if name != "ended"}
    assert set(shares) == {"forward", "backward", "augmentation", "optimiser"}
    assert 0.5 < sum(shares.values()) <= 1
    with capsys.disabled():
        print(f"\ntraining, width 64, batches of 32: {speed:.0f} faces/s; forward and backward "
              f"{100 * (shares['forward'] + shares['backward']):.1f} % (at least 85), "
              + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
              + f"; pictures are read {loading / speed:.0f} times as fast (at least 20)", end="")  # fmt: skip
