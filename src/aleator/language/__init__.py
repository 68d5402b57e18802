"""Language models on bytes whose tokens are learned with them, how evenly they treat languages, pairs of responses."""

from aleator.language.byte_lm import ByteLM
from aleator.language.bytes_vocabulary import BytesVocabulary, ends_character
from aleator.language.collapse import CollapseMonitor
from aleator.language.fairness import FairnessReport, LanguageCost, fairness_report
from aleator.language.hourglass_loss import LossParts, MagnetOutput
from aleator.language.language_model import LanguageModel, Measure, load_model
from aleator.language.magnet_lm import DynamicPoolingLM, MagnetLM
from aleator.language.pairs import (
    PairAnswer,
    ReadPrompts,
    SelfCheat,
    answer_or_abstain,
    pair_batch,
    pair_lm_loss,
    read_prompts,
    sample_responses,
    self_cheat_scores,
)
from aleator.language.rates import rates_from_corpus, rates_from_parallel, rates_from_words

__all__ = [
    "ByteLM",
    "BytesVocabulary",
    "CollapseMonitor",
    "DynamicPoolingLM",
    "FairnessReport",
    "LanguageCost",
    "LanguageModel",
    "LossParts",
    "MagnetLM",
    "MagnetOutput",
    "Measure",
    "PairAnswer",
    "ReadPrompts",
    "SelfCheat",
    "answer_or_abstain",
    "ends_character",
    "fairness_report",
    "load_model",
    "pair_batch",
    "pair_lm_loss",
    "rates_from_corpus",
    "rates_from_parallel",
    "rates_from_words",
    "read_prompts",
    "sample_responses",
    "self_cheat_scores",
]
