"""What pays on a task: methods tuned alike, given equal time, confirmed on fresh seeds; an answer in sentences.

    measure → tune every arm alike, on validation data → confirm the best on fresh seeds → answer

``aleator.experiment.advise`` is the door. No method is known here: the arms are settings of a recipe's options.
"""
