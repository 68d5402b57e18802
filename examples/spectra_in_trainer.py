"""SPECTRA in the Trainer of Hugging Face: an optimizer like any other, with a schedule of one's own.

A small LLaMA learns the bytes of this repository's licence. What bounds how far a matrix moves in a step is clip · lr.
Needs ``pip install 'aleator[text]'`` and takes a few seconds:

    python examples/spectra_in_trainer.py
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from aleator.optim import ClipSchedule, CosineToBudget, SpectraAdamW
from aleator.random import Streams

STEPS, WARMUP, CONTEXT = 100, 10, 64
TEXT = Path(__file__).parents[1] / "LICENSE"


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text that do not overlap; the model shifts the labels itself."""

    def __init__(self, text: bytes) -> None:
        self.windows = torch.tensor(list(text)).unfold(0, CONTEXT, CONTEXT)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


text = TEXT.read_bytes()
train, held_out = Windows(text[: len(text) * 9 // 10]), Windows(text[len(text) * 9 // 10 :])

config = LlamaConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=168,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=CONTEXT,
)
with Streams(0).scope("init"):
    model = LlamaForCausalLM(config)

optimizer = SpectraAdamW(model.parameters(), lr=0.03, clip=1.0, clip_schedule=ClipSchedule(warmup_steps=WARMUP))
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model,
        TrainingArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=16,
            max_grad_norm=1.0,
            seed=0,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=train,
        eval_dataset=held_out,
        # Annotated for one kind of schedule; it takes any.
        optimizers=(optimizer, CosineToBudget(optimizer, STEPS, warmup=WARMUP)),  # type: ignore[arg-type]
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]

print(f"{STEPS} steps of SPECTRA on {TEXT.name}, held-out nats per byte: {before:.2f} before, {after:.2f} after")
