"""The Trainer of Hugging Face over one byte per gradient: no backward pass, and processes that exchange bytes alone.

A step of the Trainer makes two passes forward and a byte. A callback exchanges the bytes of all processes and takes
the step along all directions, so that weights stay equal without ever travelling; with accumulation, every micro-
batch is a gradient of its own. The Trainer keeps what it is good at: data, schedule of the learning rate, logs,
checkpoints. Runs in one process or more:

    python examples/one_byte_in_trainer.py
    torchrun --standalone --nproc-per-node 2 examples/one_byte_in_trainer.py

Needs ``pip install 'aleator[decentral]'``.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from aleator.gradients import apply_scalars_, functional_loss, log8_decode, log8_encode, spsa
from aleator.random import Key, Streams

RUN, EPS, STEPS = 2026, 1e-3, 60
TEXT = Path(__file__).parents[1] / "LICENSE"


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text; the model shifts the labels itself."""

    def __init__(self, text: bytes) -> None:
        self.windows = torch.tensor(list(text)).unfold(0, 32, 32)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


class TwoPassTrainer(Trainer):
    """A Trainer whose steps leave bytes behind, and no gradients."""

    codes: list[int]
    """Of this process, since the last step."""

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Probe one direction at the weights as they are, and return the loss for the log."""
        plain = self.accelerator.unwrap_model(model)
        inputs = self._prepare_inputs(inputs)
        theta = {name: p for name, p in plain.named_parameters() if p.requires_grad}
        loss = functional_loss(plain, lambda net, batch: net(**batch).loss)
        seen: list[Tensor] = []

        def observed(weights: Any) -> Tensor:
            seen.append(loss(weights, inputs))
            return seen[-1]

        key = (RUN, self.state.global_step, self.args.process_index, len(self.codes))
        self.codes.append(log8_encode(float(spsa(observed, theta, None, EPS, key=key))))
        return torch.stack(seen).mean().detach() / self.args.gradient_accumulation_steps


class Exchange(TrainerCallback):
    """Exchange bytes and take the step, where the Trainer would have stepped along gradients."""

    def __init__(self, trainer: TwoPassTrainer) -> None:
        self.trainer, self.bytes = trainer, 0
        trainer.codes = []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Take the step; the optimizer's own, which follows, finds no gradients."""
        mine = torch.tensor(self.trainer.codes, dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(args.world_size)]
        if args.world_size > 1:
            dist.all_gather(found, mine)
        else:
            found = [mine]
        keys: list[Key] = [
            (RUN, state.global_step, machine, sample)
            for machine, sent in enumerate(found)
            for sample in range(len(sent))
        ]
        gradients = [float(g) for sent in found for g in log8_decode(sent)]
        plain = self.trainer.accelerator.unwrap_model(model)
        theta = {name: p for name, p in plain.named_parameters() if p.requires_grad}
        apply_scalars_(theta, gradients, None, optimizer.param_groups[0]["lr"], keys=keys)
        self.bytes += len(mine)
        self.trainer.codes = []


def main() -> None:
    """Train a small language model on the text of a licence."""
    data = Windows(TEXT.read_bytes())
    with Streams(0).scope("init"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                tie_word_embeddings=True,
            )
        )  # fmt: skip
    count = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=16, gradient_accumulation_steps=4,
            learning_rate=3e-3, lr_scheduler_type="cosine", max_grad_norm=0.0, use_cpu=True, report_to=[],
            save_strategy="no", disable_tqdm=True, logging_strategy="no", seed=0,
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), lr=3e-3)  # carries the rate, which the Trainer schedules
        trainer = TwoPassTrainer(model, arguments, train_dataset=data, optimizers=(optimizer, None))
        exchange = Exchange(trainer)
        trainer.add_callback(exchange)
        before = trainer.evaluate(data)["eval_loss"]
        trainer.train()
        after = trainer.evaluate(data)["eval_loss"]
    if trainer.is_world_process_zero():
        print(
            f"{STEPS} steps, {count} weights: loss {before:.3f} before, {after:.3f} after; {exchange.bytes} bytes sent "
            f"by each of {arguments.world_size}, {STEPS * 4 * count} for its float32 gradients"
        )


if __name__ == "__main__":
    main()
