"""Language models on bytes whose tokens are learned with them, and how evenly they treat languages."""

from aleator.language.byte_lm import ByteLM
from aleator.language.bytes_vocabulary import BytesVocabulary, ends_character
from aleator.language.collapse import CollapseMonitor
from aleator.language.fairness import FairnessReport, LanguageCost, fairness_report
from aleator.language.hourglass_loss import LossParts, MagnetOutput
from aleator.language.language_model import LanguageModel, Measure, load_model
from aleator.language.magnet_lm import DynamicPoolingLM, MagnetLM
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
    "ends_character",
    "fairness_report",
    "load_model",
    "rates_from_corpus",
    "rates_from_parallel",
    "rates_from_words",
]
