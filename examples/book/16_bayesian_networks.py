"""Chapter 16: Bayesian networks
=============================

How likely is a tumour malignant if only its texture is known, or its texture and its size? A network whose arrows go
from the diagnosis to size and texture, and from size to texture, answers for every set of known variables.
"""

import pandas as pd
from pgmpy.inference import VariableElimination
from pgmpy.models import DiscreteBayesianNetwork
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from aleator.stats import clopper_pearson

data = load_breast_cancer(as_frame=True)
above = {name: (data.data[f"mean {name}"] > data.data[f"mean {name}"].median()) for name in ("radius", "texture")}
table = pd.DataFrame({"malignant": data.target == 0, **above}).astype(int)
train, test = train_test_split(table, test_size=0.5, random_state=0)
network = DiscreteBayesianNetwork([("malignant", "radius"), ("malignant", "texture"), ("radius", "texture")])
inference = VariableElimination(network.fit(train))

# %%
# What may be concluded: whether the network's answer is in the interval of what was so among the other half of tumours.

for known in ({"texture": 0}, {"texture": 1}, {"texture": 1, "radius": 0}, {"texture": 1, "radius": 1}):
    p = float(inference.query(["malignant"], known, show_progress=False).values[1])
    cases = test[(test[list(known)] == pd.Series(known)).all(axis=1)].malignant
    low, high = clopper_pearson(int(cases.sum()), len(cases), level=1 - 0.05 / 4)
    print(f"{known}: malignant with {p:.2f}; {cases.sum()} of {len(cases)} new tumours, {low:.2f} to {high:.2f}")
    assert low < p < high
