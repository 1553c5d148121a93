"""Random streams: the same for the same name and step, and no two alike."""

import itertools

import torch

from threestudio_ssd.seeds import Stream, generator


def test_no_two_streams_steps_or_seeds_share_numbers():
    names = itertools.product(range(3), range(4), Stream)
    seeds = [generator(seed, step, stream).initial_seed() for seed, step, stream in names]
    assert len(set(seeds)) == len(seeds)


def test_neighbouring_seeds_do_not_meet_further_on():
    """A seed times a million plus the step, as one might write it, lets long runs of two seeds overlap."""
    ours = {generator(0, step, Stream.DIFFUSION).initial_seed() for step in range(2000)}
    theirs = {generator(1, step, Stream.DIFFUSION).initial_seed() for step in range(2000)}
    assert not ours & theirs


def test_the_numbers_stay_what_they_are():
    """A resumed run, another version and another machine draw the same."""
    draw = torch.randint(1_000_000, (3,), generator=generator(7, 11, Stream.GROWTH))
    assert draw.tolist() == torch.randint(1_000_000, (3,), generator=generator(7, 11, "growth")).tolist()
    assert generator(7, 11, Stream.GROWTH).initial_seed() == 5105822507143229793
