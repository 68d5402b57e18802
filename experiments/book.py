"""The chapters of L. Younes, *Introduction to Machine Learning* (arXiv 2409.02668), and what each has become.

One table, from which the map in ``docs/book/index.md`` is written. A chapter is ours where its methods change how a
torch model is updated, sampled or certified and no maintained torch package has them; elsewhere a library is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.evidence import ROOT

PAGES = ROOT / "examples" / "book"


@dataclass(frozen=True)
class Chapter:
    """A chapter.

    Attributes:
        number: in the book.
        title: what it is about.
        ours: what of Aleator answers it; empty where nothing does.
        library: who does the rest; empty where nobody is needed.
        pages: names of the files in ``examples/book`` without their suffix.
    """

    number: int
    title: str
    ours: str = ""
    library: str = ""
    pages: tuple[str, ...] = ()


CHAPTERS = (
    Chapter(1, "General notation and background material"),
    Chapter(
        2,
        "A few results in matrix analysis",
        "`aleator.optim.proximal`: `Nuclear`, `LowRank`, `Stiefel`",
        "torch.linalg",
        ("02_matrix_analysis",),
    ),
    Chapter(
        3,
        "Introduction to optimization",
        "`aleator.optim`: proximal steps, step rules, tests of stationarity",
        "torch.optim (LBFGS), OSQP, CVXPY",
        ("03_optimization",),
    ),
    Chapter(4, "Introduction: bias and variance", "", "scikit-learn", ("04_bias_and_variance",)),
    Chapter(
        5,
        "Prediction: basic concepts",
        "`aleator.stats`: `accuracy_bound`, `difference_bound`",
        "scikit-learn (splits, cross-validation)",
        ("05_prediction",),
    ),
    Chapter(
        6,
        "Inner products and reproducing kernels",
        "`aleator.nn`: `RandomFourierFeatures`, `NystromFeatures`, `KernelHead`",
        "GPyTorch (exact Gaussian processes)",
        ("06_kernels",),
    ),
    Chapter(
        7,
        "Linear regression",
        "`aleator.optim`: `FISTA`, `ProximalSGD`, `ProxSVRG`, `lam_path`",
        "scikit-learn, skglm",
        ("07_linear_regression",),
    ),
    Chapter(
        8,
        "Models for linear classification",
        "`aleator.optim.Pegasos` on the features of chapter 6",
        "scikit-learn",
        ("08_linear_classification",),
    ),
    Chapter(9, "Nearest-neighbor methods", "", "scikit-learn, FAISS", ("09_nearest_neighbors",)),
    Chapter(
        10,
        "Tree-based algorithms, randomization and boosting",
        "",
        "scikit-learn, LightGBM, XGBoost",
        ("10_trees_and_boosting",),
    ),
    Chapter(
        11,
        "Neural nets",
        "the other rooms: `aleator.data`, `aleator.nn`, `aleator.optim`",
        "torch; torchdiffeq (neural differential equations)",
        ("11_neural_nets",),
    ),
    Chapter(
        12,
        "Comparing probability distributions",
        "`aleator.stats`: `mmd2`, `energy_distance`, `wasserstein_1d`, `sliced_wasserstein`",
        "POT (optimal transport), SciPy (divergences)",
        ("12_comparing_distributions", "12_optimal_transport"),
    ),
    Chapter(
        13,
        "Monte Carlo sampling",
        "`aleator.sde`: `SGLD`, `SGHMC`, `MALA`, `HMC`; `aleator.stats`: `split_rhat`, `effective_sample_size`",
        "NumPyro, BlackJAX",
        ("13_monte_carlo",),
    ),
    Chapter(14, "Markov random fields", "", "pgmpy", ("14_markov_random_fields",)),
    Chapter(15, "Probabilistic inference for random fields", "", "pgmpy, NetworkX, pomegranate", ("15_inference",)),
    Chapter(16, "Bayesian networks", "", "pgmpy, DoWhy", ("16_bayesian_networks",)),
    Chapter(
        17,
        "Latent variables and variational methods",
        "",
        "scikit-learn, Pyro, NumPyro",
        ("17_latent_variables",),
    ),
    Chapter(
        18,
        "Learning graphical models",
        "an example on torch alone: persistent contrastive divergence",
        "pgmpy (Bayesian networks)",
        ("18_learning_graphical_models",),
    ),
    Chapter(
        19,
        "Deep generative methods",
        "`aleator.nn.bernoulli_st` for hidden bits; `aleator.graphs` for diffusion on graphs",
        "torch; zuko (flows), diffusers",
        ("19_deep_generative_methods",),
    ),
    Chapter(20, "Clustering", "", "scikit-learn", ("20_clustering",)),
    Chapter(21, "Dimension reduction and factor analysis", "", "scikit-learn", ("21_dimension_reduction",)),
    Chapter(22, "Data visualization and manifold learning", "", "scikit-learn, umap-learn", ("22_manifold_learning",)),
    Chapter(
        23,
        "Generalization bounds",
        "`aleator.stats`: `accuracy_bound`, `AnytimeAccuracy`, `pac_bayes_kl`, `empirical_rademacher`",
        "",
        ("23_generalization_bounds",),
    ),
)

#: The chapters that are ours, whose pages ask a question on real data. Other pages are of 25 lines at most.
OURS = frozenset({2, 3, 5, 6, 7, 8, 12, 13, 18, 23})


def chapter_map() -> str:
    """Return the map as a table."""
    rows = ["| | chapter | in Aleator | elsewhere | page |", "|---:|---|---|---|---|"]
    for chapter in CHAPTERS:
        pages = ", ".join(f"{{doc}}`{name} <gallery/{name}>`" for name in chapter.pages) or "[notation](notation.md)"
        cells = (str(chapter.number), chapter.title, chapter.ours or "–", chapter.library or "–", pages)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
