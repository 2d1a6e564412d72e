"""Short names of runs for a terminal: what differs between them. What they share is said once."""

from collections.abc import Iterable, Mapping

from bench.experiment import Experiment
from bench.reporting.terminal import count


def short_names(experiments: Iterable[Experiment]) -> dict[Experiment, str]:
    """The facts of each experiment that others do not share, as in "resnet4 node seed 1"."""
    facts = {experiment: _facts(experiment) for experiment in experiments}
    common = _common(facts.values())
    return {
        experiment: " ".join(own[fact] for fact in own if fact not in common and own[fact])
        or f"{experiment.network} {experiment.gradient}"
        for experiment, own in facts.items()
    }


def shared(experiments: Iterable[Experiment]) -> str:
    """The facts that all experiments share, as in "rk2 nt2, seed 0, 4 epochs, batch 64"."""
    return ", ".join(filter(None, _common(map(_facts, experiments)).values()))


def _common(facts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """A fact that some experiments do not have, as a baseline has no scheme, may be shared."""
    found: dict[str, set[str]] = {}
    for own in facts:
        for fact, value in own.items():
            found.setdefault(fact, set()).update([value] if value else [])
    return {fact: "".join(values) for fact, values in found.items() if len(values) < 2}


def _facts(experiment: Experiment) -> dict[str, str]:
    train, test = experiment.train_images, experiment.test_images
    return {
        "network": experiment.network,
        "scheme": "" if experiment.is_baseline else f"{experiment.method} nt{experiment.n_steps}",
        "gradient": experiment.gradient,
        "seed": f"seed {experiment.seed}",
        "epochs": count(experiment.num_epochs, "epoch"),
        "batch": f"batch {experiment.batch_size}",
        "lr": f"lr {experiment.lr:g}",
        "train": f"{train} training images" if train else "",
        "test": f"{test} test images" if test else "",
    }
