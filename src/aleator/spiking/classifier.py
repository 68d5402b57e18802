"""A classifier that learns without backpropagation: Poisson input, a winner-take-all hidden layer, class cells.

Images become Poisson spikes; hidden cells inhibit each other, so that few respond to a sample; a teacher makes the
right class cell spike. `SymmetricSTDP` strengthens whatever spikes together on both plastic projections,
`SynapticScaling` makes the synapses of a cell compete, and `AdaptiveThreshold` keeps every hidden cell in play. All of
it is local in space and time.

Y. Hao, X. Huang, M. Dong, B. Xu, "A Biologically Plausible Supervised Learning Method for Spiking Neural Networks Using
the Symmetric STDP Rule", Neural Networks 121 (2020), arXiv 1812.06574.
"""

from __future__ import annotations

import dataclasses
import numbers
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.distributed import ProcessGroup

from aleator.random import Streams
from aleator.spiking.engine_by_name import EngineName, make_engine
from aleator.spiking.engines import Engine, Phase, Responses
from aleator.spiking.event_engine import EventEngine, Rasters
from aleator.spiking.parameters import SpikingParameters, preset
from aleator.spiking.poisson import PoissonEncoder, content_keys, sample_keys
from aleator.spiking.readout import assignment_scores, label_cells, shares
from aleator.spiking.samples import brightened, class_indices, class_names, grey_levels
from aleator.spiking.state import SpikingState

Readout = Literal["sl", "assignment"]
Schedule = Literal["simultaneous", "layerwise"]

_PHASES: dict[str, tuple[Phase, ...]] = {"simultaneous": ("both",), "layerwise": ("hidden", "classes")}
_AT_LEAST = 100  # samples between two calls of the progress function
_DIM = 32  # of 255: no training set has its brightest pixel below it but by a slip, such as grey levels in 0…16
# Options that are integers, and the smallest of each.
_INTEGERS = {"n_in": 1, "n_hidden": 1, "n_classes": 1, "epochs": 1, "batch_size": 1, "n_jobs": 1, "seed": 0}


@dataclass(frozen=True)
class SampleStats:
    """What training on some samples did.

    Attributes:
        hidden_spikes: hidden spikes in the last presentation of each sample.
        re_presentations: how often each was presented again.
        silent: whether the last presentation, too, brought fewer than ``min_spikes`` hidden spikes.
    """

    hidden_spikes: npt.NDArray[np.int64]
    re_presentations: npt.NDArray[np.int64]
    silent: npt.NDArray[np.bool_]

    @property
    def silent_fraction(self) -> float:
        """Fraction of the samples that stayed silent."""
        return float(self.silent.mean()) if len(self.silent) else 0.0


@dataclass(frozen=True)
class FitProgress:
    """Where `SymSTDPClassifier.fit` is.

    Attributes:
        samples: samples trained on, over all epochs and phases.
        total: samples of the whole fit.
        phase: what is learned: ``"both"``, ``"hidden"`` or ``"classes"``.
        epoch: number of the epoch within the phase, from 0.
        stats: of the samples since the last report.
    """

    samples: int
    total: int
    phase: Phase
    epoch: int
    stats: SampleStats


class SymSTDPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The symmetric-STDP classifier, in scikit-learn's style.

    Images are arrays, tensors or data frames of integers in 0…255 or floats in 0…1, [samples, …] with ``n_in`` pixels
    each; labels are integers in [0, n_classes), or ``n_classes`` different strings. Samples are learned in the order
    given, as the authors do.

    The random numbers of a training sample depend on the seed and on how many samples came before it, the random
    numbers of an evaluated image on the seed and on its grey levels (`aleator.spiking.content_keys`): an image is
    answered the same wherever it stands and whatever stands beside it. Nothing depends on ``n_jobs`` nor, with the
    event engine, on how training is cut into calls; a classifier that got another one's `state_dict` goes on
    bit-identically. Evaluation never changes the state.

    An image that brings no spike in what is read has no class. `predict_proba` gives it equal shares, `predict`
    therefore the first class, as the authors' program does, and a warning of every method that answers counts such
    images. ``decide(classifier.scores(responses))`` marks them with −1.

    Args:
        n_in: number of pixels.
        n_hidden: number of hidden cells.
        n_classes: number of classes.
        parameters: the constants, or the name of a preset, see `aleator.spiking.preset`.
        engine: ``"event"`` (reference, CPU, extra ``spiking``), ``"dense"``, ``"private"``, ``"frozen"`` (torch), or
            ``"auto"``: event on the CPU, private elsewhere.
        schedule: ``"simultaneous"`` learns both projections together; ``"layerwise"`` first input → hidden and the
            thresholds, then, these fixed, hidden → classes from new random weights.
        epochs: passes of `fit` over the samples, in each phase of the schedule.
        batch_size: samples of a batch of the engines ``"private"`` and ``"frozen"``.
        n_jobs: threads of the event engine: of an evaluation, and of training with 1 024 hidden cells or more.
        device: of the torch engines.
        seed: any non-negative integer.

    Attributes:
        process_group: processes that share every batch of the engines ``"private"`` and ``"frozen"``; None for this one
            alone. Set it before training, on all of them, and give all the same samples.
        state_: the network, from the first training on.
        classes_: the classes in the order of the class cells.
        n_features_in_: number of pixels, ``n_in``.
        feature_names_in_: the columns of the data frame that was learned from; missing without one.
        sample_stats_: what the last `partial_fit`, or the last hundred samples or so of a `fit`, did.
        samples_seen_: number of samples trained on.
        label_sums_: spikes of every hidden cell over the training samples of every class, [n_classes, n_hidden].
        label_samples_: number of training samples of every class, [n_classes].

    Example:
        >>> classifier = SymSTDPClassifier(n_hidden=100).fit(images, labels)
        >>> classifier.score(test_images, test_labels)
    """

    process_group: ProcessGroup | None = None
    _fitted: int  # samples of the last fit, over all epochs and phases
    _fit_samples: int  # samples of one of its epochs

    def __init__(
        self,
        n_in: int = 784,
        n_hidden: int = 400,
        n_classes: int = 10,
        *,
        parameters: str | SpikingParameters = "hao2019-mnist-400",
        engine: EngineName = "auto",
        schedule: Schedule = "simultaneous",
        epochs: int = 1,
        batch_size: int = 32,
        n_jobs: int = 1,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.n_in = n_in
        self.n_hidden = n_hidden
        self.n_classes = n_classes
        self.parameters = parameters
        self.engine = engine
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.device = device
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may hand over: no negative numbers, and images of any number of dimensions."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.three_d_array = True
        return tags

    def start(self) -> None:
        """Forget everything: a new network that has not learned. `fit` does so, and the first `partial_fit`."""
        self.state_ = self._new_network()
        self.classes_: npt.NDArray[Any] = np.arange(self.n_classes)
        self.n_features_in_ = self.n_in
        self.samples_seen_ = 0
        self._fitted = self._fit_samples = 0
        self.forget_responses()

    def fit(
        self,
        images: Any,
        labels: Any,
        *,
        progress: Callable[[FitProgress], None] | None = None,
        resume: bool = False,
    ) -> SymSTDPClassifier:
        """Train for ``epochs`` passes in every phase of the schedule. A warning counts samples that stay silent.

        Args:
            images: see the class.
            labels: see the class.
            progress: called about every hundred samples; `state_dict` may be saved there.
            resume: continue the fit that a loaded state was in the middle of, on the same samples, instead of starting
                anew.

        Raises:
            ValueError: if images, labels or an option of the class is not accepted, no pixel of any image is brighter
                than an eighth of white, or there is nothing to resume.
        """
        if self.schedule not in _PHASES:
            raise ValueError(f"schedule must be one of {', '.join(_PHASES)}, got {self.schedule!r}")
        if resume:
            self._check_fitted()
        else:
            self.start()
            self.classes_ = class_names(labels, self.n_classes)
        greys, classes = self._samples(images, labels, first=not resume)
        n = len(greys)
        if greys.max() < _DIM:
            raise ValueError(f"images must be integers up to 255 or floats up to 1, {_brightest(greys)}")
        engine = self._engine()
        if resume and n != self._fit_samples:
            raise ValueError(f"images must be the {self._fit_samples} samples of the fit to resume, got {n}")
        self._fit_samples = n
        total = n * self.passes
        stride = engine.batch_size * -(-_AT_LEAST // engine.batch_size)
        presented = silent = 0
        while self._fitted < total:
            passes, begin = divmod(self._fitted, n)
            phase, epoch = self.prepare(self._fitted, n), passes % self.epochs
            part = slice(begin, min(begin + stride, n))
            self._learn(engine, greys[part], classes[part], phase)
            stats = self.sample_stats_
            self._fitted += part.stop - part.start
            presented, silent = presented + len(stats.silent), silent + int(stats.silent.sum())
            if progress is not None:
                progress(FitProgress(self._fitted, total, phase, epoch, stats))
        if silent:
            found = f"{silent} of {presented} training images were silent at the highest intensity"
            warnings.warn(f"{found}; {_brightest(greys)}", stacklevel=2)
        return self

    @property
    def passes(self) -> int:
        """Passes of a fit over the samples: ``epochs`` in every phase of the schedule."""
        return self.epochs * len(_PHASES[self.schedule])

    def prepare(self, done: int, samples: int) -> Phase:
        """Get ready for what comes after ``done`` samples of a fit of ``samples``, and return what learns from it.

        A pass begins with no responses, the first of the class cells alone with new class weights.
        """
        passes, place = divmod(done, samples)
        phase = _PHASES[self.schedule][passes // self.epochs]
        if place == 0:
            self.forget_responses()
            if phase == "classes" and passes % self.epochs == 0:
                self._renew_class_weights()
        return phase

    def partial_fit(self, images: Any, labels: Any, classes: Any = None, *, phase: Phase = "both") -> SymSTDPClassifier:
        """Train on samples once, see `fit`; ``sample_stats_`` says what happened.

        Args:
            images: see the class.
            labels: see the class.
            classes: all labels that there are, in the first call; needed if labels are strings and not all among these.
            phase: what learns: ``"both"``, ``"hidden"`` (input → hidden and thresholds) or ``"classes"``.

        Raises:
            ValueError: if images, labels, the phase or an option of the class is not accepted, or the classes are
                others than in the first call.
        """
        first = not hasattr(self, "state_")
        if first:
            self.start()
            self.classes_ = class_names(labels if classes is None else classes, self.n_classes)
        else:
            self._check_fitted()
        if classes is not None:
            class_indices(classes, len(classes), self.classes_)
        greys, indices = self._samples(images, labels, first)
        self._learn(self._engine(), greys, indices, phase)
        return self

    def spike_counts(self, images: Any) -> Responses:
        """Return how the network responds to images, without learning.

        Args:
            images: see the class.

        Raises:
            NotFittedError: before training.
            ValueError: if the images are not accepted.
        """
        self._check_fitted()
        return self._engine().evaluate(self.state_, *self._shown(images))

    def scores(self, responses: Responses, readout: Readout = "sl") -> npt.NDArray[np.float64]:
        """Return what a readout makes of responses, [samples, N_c]: spikes of the class cells, or `assignment_scores`.

        Raises:
            ValueError: if the readout is unknown, or is ``"assignment"`` before training.
        """
        if readout == "sl":
            return responses.classes.astype(np.float64)
        if readout != "assignment":
            raise ValueError(f"readout must be sl or assignment, got {readout!r}")
        return assignment_scores(responses.hidden, self.cell_labels(), self.n_classes)

    def cell_labels(self) -> npt.NDArray[np.int64]:
        """Return the class of every hidden cell, by its responses in the last epoch; −1 for those that never spiked.

        Raises:
            ValueError: before training.
        """
        self._check_fitted()
        if not self.label_samples_.any():
            raise ValueError("readout assignment needs responses to training images, got none: train first")
        return label_cells(self.label_sums_, self.label_samples_)

    def predict(self, images: Any, readout: Readout = "sl") -> npt.NDArray[Any]:
        """Return the class of each image, one of ``classes_``. A warning counts silent images, see the class.

        Args:
            images: see the class.
            readout: ``"sl"`` takes the class cell that spikes most, ``"assignment"`` the class whose hidden cells do.
        """
        probabilities = self._probabilities(images, readout)
        return self.classes_[probabilities.argmax(1)]  # type: ignore[no-any-return]

    def predict_proba(self, images: Any, readout: Readout = "sl") -> npt.NDArray[np.float64]:
        """Return each class's share of the spikes (or of the mean counts); equal shares for a silent image."""
        return self._probabilities(images, readout)

    def score(self, images: Any, labels: Any, sample_weight: Any = None, *, readout: Readout = "sl") -> float:
        """Return the accuracy of `predict`.

        Args:
            images: see the class.
            labels: see the class.
            sample_weight: how much each image counts; None for all the same.
            readout: see `predict`.
        """
        answers = self._probabilities(images, readout).argmax(1)
        right = answers == class_indices(labels, len(answers), self.classes_)
        return float(np.average(right, weights=sample_weight))

    def _probabilities(self, images: Any, readout: Readout) -> npt.NDArray[np.float64]:
        """Return what `predict_proba` does, and count silent images in the name of what was called."""
        scores = self.scores(self.spike_counts(images), readout)
        silent = int((scores.max(1) <= 0).sum())
        if silent:
            found = f"{silent} of {len(scores)} images were silent and are answered with {self.classes_[0]}"
            warnings.warn(f"{found}; {_brightest(grey_levels(images, self.n_in))}", stacklevel=3)
        return shares(scores)

    def simulate(
        self,
        inputs: Bool[Tensor, "time inputs"],
        teacher: Bool[Tensor, "time classes"] | None = None,
        learn: bool = True,
    ) -> Rasters:
        """Replay given spikes on the network, see `EventEngine.simulate`; the state carries over between calls."""
        if hasattr(self, "state_"):
            self._check_fitted()
        else:
            self.start()
        return EventEngine(self.constants).simulate(self.state_, inputs, teacher, learn)

    def rasters(self, images: Any) -> list[Rasters]:
        """Return every spike while images are presented for the first time, and in the rest after; see `spike_counts`.

        Args:
            images: see the class.

        Raises:
            NotFittedError: before training.
            ValueError: if the images are not accepted.
        """
        self._check_fitted()
        p = self.constants
        engine, encoder = EventEngine(p), PoissonEncoder(p.dt)
        network = engine.evaluated(self.state_)
        found = []
        for grey, key in zip(*self._shown(images), strict=True):
            shown = encoder(grey * p.rate_per_grey * p.intensity, p.stimulus_steps, key)
            silence = shown.new_zeros(p.rest_steps, self.n_in)
            found.append(engine.simulate(network.rested(p).clone(), torch.cat([shown, silence]), learn=False))
        return found

    def forget_responses(self) -> None:
        """Forget the responses that label hidden cells. `fit` does so when an epoch begins."""
        self.label_sums_ = np.zeros((self.n_classes, self.n_hidden), np.int64)
        self.label_samples_ = np.zeros(self.n_classes, np.int64)

    def _renew_class_weights(self) -> None:
        """Give hidden → classes new random weights. `fit` does so when the second phase of ``"layerwise"`` begins."""
        generator = Streams(self.seed).generator("spiking", "class weights")
        fresh = SpikingState.initial(1, self.n_hidden, self.n_classes, self.constants, generator)
        self.state_.weights_out.copy_(fresh.weights_out)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was learned and where training is: tensors, integers, floats and strings.

        Raises:
            NotFittedError: before training.
        """
        self._check_fitted()
        return {
            "identity": self._identity(),
            "network": self.state_.state_dict(),
            "classes": self.classes_.tolist(),
            "feature_names": list(getattr(self, "feature_names_in_", [])),
            "label_sums": torch.from_numpy(self.label_sums_.copy()),
            "label_samples": torch.from_numpy(self.label_samples_.copy()),
            "samples_seen": self.samples_seen_,
            "fitted": self._fitted,
            "fit_samples": self._fit_samples,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called.

        Raises:
            ValueError: if the state was saved by a classifier made with other values, or is not finite.
        """
        for name, own in self._identity().items():
            saved = state["identity"].get(name)
            if saved != own:
                raise ValueError(f"the saved classifier has {name}={saved!r}, this one has {name}={own!r}")
        network = self._new_network()
        network.load_state_dict(state["network"])  # what is refused leaves this classifier as it was
        self.start()
        self.state_ = network
        # A state from before labels could be strings has neither.
        self.classes_ = np.asarray(state.get("classes", range(self.n_classes)))
        if state.get("feature_names"):
            self.feature_names_in_ = np.asarray(state["feature_names"], object)
        self.label_sums_ = state["label_sums"].numpy().copy()
        self.label_samples_ = state["label_samples"].numpy().copy()
        self.samples_seen_ = state["samples_seen"]
        self._fitted, self._fit_samples = state["fitted"], state["fit_samples"]

    def _identity(self) -> dict[str, Any]:
        """Return what may not change between saving and loading."""
        sizes = {name: getattr(self, name) for name in ("n_in", "n_hidden", "n_classes", "schedule", "seed")}
        constants = dataclasses.asdict(self.constants)
        nested = {name: value for name, value in constants.items() if isinstance(value, dict)}
        flat = {f"{name}.{key}": value for name, values in nested.items() for key, value in values.items()}
        return sizes | {name: value for name, value in constants.items() if name not in nested} | flat

    @property
    def constants(self) -> SpikingParameters:
        """The constants, whether they were given or named."""
        if isinstance(self.parameters, str):
            return preset(self.parameters)
        if not isinstance(self.parameters, SpikingParameters):
            raise ValueError(f"parameters must be SpikingParameters or the name of a preset, got {self.parameters!r}")
        return self.parameters

    def _new_network(self) -> SpikingState:
        self._check_options()
        generator = Streams(self.seed).generator("spiking", "weights")
        return SpikingState.initial(self.n_in, self.n_hidden, self.n_classes, self.constants, generator)

    def _engine(self) -> Engine:
        return make_engine(self.engine, self.constants, self.batch_size, self.n_jobs, self.device, self.process_group)

    def _samples(self, images: Any, labels: Any, first: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return training samples as an engine takes them; the first ones name the columns."""
        self._check_columns(images, reset=first)
        greys = brightened(grey_levels(images, self.n_in), self.constants.mean_grey)
        if not len(greys):
            raise ValueError("images must be at least one, got 0 sample(s)")
        return greys, class_indices(labels, len(greys), self.classes_)

    def _shown(self, images: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]:
        """Return images to evaluate as an engine takes them, with their keys."""
        self._check_columns(images, reset=False)
        greys = grey_levels(images, self.n_in)
        return brightened(greys, self.constants.mean_grey), content_keys(self.seed, "evaluate", greys)

    def _check_columns(self, images: Any, reset: bool) -> None:
        try:
            validate_data(self, images, reset=reset, skip_check_array=True, ensure_2d=False)
        except ValueError as error:
            raise ValueError(" ".join(str(error).split())) from None  # scikit-learn's words, in one line

    def _learn(
        self, engine: Engine, greys: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], phase: Phase
    ) -> None:
        keys = sample_keys(self.seed, "train", self.samples_seen_, len(greys))
        responses = engine.train(self.state_, greys, classes, keys, phase)
        self.samples_seen_ += len(greys)
        np.add.at(self.label_sums_, classes, responses.hidden)
        self.label_samples_ += np.bincount(classes, minlength=self.n_classes)
        self.sample_stats_ = SampleStats(responses.hidden.sum(1), responses.re_presentations, responses.silent)

    def _check_options(self) -> None:
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise ValueError(f"{name} must be an integer, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def _check_fitted(self) -> None:
        """Check that there is a network, and that no `set_params` has changed the options to another network's.

        Raises:
            NotFittedError: if there is none.
            ValueError: if it is of another size.
        """
        if not hasattr(self, "state_"):
            raise NotFittedError(
                "SymSTDPClassifier has not learned yet: call fit, partial_fit or load_state_dict first"
            )
        self._check_options()
        for name in ("n_in", "n_hidden", "n_classes"):
            learned, wanted = getattr(self.state_, name), getattr(self, name)
            if learned != wanted:
                raise ValueError(f"{name} must be {learned} until the next fit, as what has learned, got {wanted}")


def _brightest(greys: npt.NDArray[np.float64]) -> str:
    return f"the brightest pixel is {greys.max():g} of 255"
