"""Text as bytes: three special ids, one id for each byte, one for each script.

    0 padding, 1 end of sequence, 2 unknown;    byte b has id b + 3;    script number i has id 259 + i

as in ByT5, so every text has ids and nothing is ever out of vocabulary. A character of UTF-8 is one to four bytes, and
its first byte says how many: where a character ends is known without a look at what follows.

L. Xue et al., "ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models", TACL 2022, arXiv 2105.13626.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

PADDING, END, UNKNOWN = 0, 1, 2
FIRST_BYTE = 3
BYTE_IDS = FIRST_BYTE + 256


class BytesVocabulary:
    """Ids of bytes and of scripts.

    Args:
        scripts: names of scripts, which may stand in front of a text and say what it is written in.

    Raises:
        ValueError: if a script is named twice.
    """

    def __init__(self, scripts: Sequence[str] = ()) -> None:
        if len(set(scripts)) != len(scripts):
            raise ValueError(f"scripts must be different from each other, got {', '.join(scripts)}")
        self.scripts = tuple(scripts)

    def __len__(self) -> int:
        """Return the number of ids."""
        return BYTE_IDS + len(self.scripts)

    def encode(self, text: str, *, end: bool = False) -> list[int]:
        """Return the ids of a text's UTF-8 bytes, with the end's id behind them if asked for."""
        return [FIRST_BYTE + byte for byte in text.encode()] + [END] * end

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids up to the end's. What is no byte is left out; invalid UTF-8 becomes U+FFFD.

        Raises:
            ValueError: if an id is not of this vocabulary.
        """
        found = bytearray()
        for number in ids:
            if not 0 <= number < len(self):
                raise ValueError(f"ids must be in [0, {len(self)}), got {number}")
            if number == END:
                break
            if FIRST_BYTE <= number < BYTE_IDS:
                found.append(number - FIRST_BYTE)
        return found.decode(errors="replace")

    def script_id(self, script: str) -> int:
        """Return the id of a script.

        Raises:
            ValueError: if the script is unknown.
        """
        if script not in self.scripts:
            raise ValueError(f"script must be one of {', '.join(self.scripts)}, got {script!r}")
        return BYTE_IDS + self.scripts.index(script)

    def script_of(self, number: int) -> str:
        """Return the script of an id.

        Raises:
            ValueError: if it is not the id of a script.
        """
        if not BYTE_IDS <= number < len(self):
            raise ValueError(f"script ids must be in [{BYTE_IDS}, {len(self)}), got {number}")
        return self.scripts[number - BYTE_IDS]


def ends_character(ids: Int64[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """Return where a character is complete, from the ids up to there: nothing later is looked at.

    A boundary elsewhere would split a character. Asking whether the *next* byte continues a character gives the same
    answer on valid text but tells a language model something about the byte it is to predict. Continuation bytes whose
    first byte is missing, as at the start of a block cut from a longer text, end nothing that is known.
    """
    byte = ids - FIRST_BYTE
    continues = (byte >= 0x80) & (byte < 0xC0)
    # How many bytes a character has that starts here; 0 where none of several bytes does.
    size = 2 * ((byte >= 0xC2) & (byte < 0xE0)) + 3 * ((byte >= 0xE0) & (byte < 0xF0))
    size = size + 4 * ((byte >= 0xF0) & (byte < 0xF5))
    ends = ~continues & (size == 0)
    run = torch.ones_like(continues)
    for back in (1, 2, 3):
        # True where this byte and the back − 1 before it continue, and the one before those starts such a character.
        run = run & _earlier(continues, back - 1)
        ends = ends | (run & (_earlier(size, back) == back + 1))
    return ends


def _earlier(values: Tensor, steps: int) -> Tensor:
    length = values.shape[1]
    return torch.nn.functional.pad(values, (steps, 0))[:, :length]
