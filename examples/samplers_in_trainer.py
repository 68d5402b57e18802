"""RS2 and a mixture in the Trainer of Hugging Face, interrupted and resumed: bit for bit the weights without a break.

The Trainer makes its own loader, so one method is overridden to put the sampler in. Nothing of the sampler has to be
saved: with the same seed every round and every step is the same again, the Trainer counts the passes and tells the
sampler (`set_epoch`), and after a break it skips the batches of the pass that are done.
Needs ``pip install 'aleator[text]'`` and takes a few seconds:

    python examples/samplers_in_trainer.py
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from aleator.data import BudgetPlan, Cooldown, DomainMixture, MixtureSampler, RepeatedRandomSampler
from aleator.optim import CosineToBudget
from aleator.random import Streams

CONTEXT, BATCH, ROUNDS = 32, 8, 4
TEXT = Path(__file__).parents[1] / "LICENSE"


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text that do not overlap; the model shifts the labels itself."""

    def __init__(self, text: bytes) -> None:
        self.windows = torch.tensor(list(text)).unfold(0, CONTEXT, CONTEXT)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


data = Windows(TEXT.read_bytes())
plan = BudgetPlan(n=len(data), ratio=0.25, rounds=ROUNDS, batch_size=BATCH)


def rs2() -> dict[str, Any]:
    """Rounds of a quarter of the windows each."""
    return {
        "sampler": RepeatedRandomSampler(len(data), ratio=plan.ratio, seed=0),
        "batch_size": BATCH,
        "drop_last": True,
    }


def mixture() -> dict[str, Any]:
    """The end of the text as a small domain that is shown more often at first."""
    sizes = {"text": len(data) - 40, "end": 40}
    proportions = DomainMixture(sizes, Cooldown(high=5.0), total_steps=plan.total_steps)
    return {"batch_sampler": MixtureSampler(sizes, proportions, batch_size=BATCH, seed=0)}


class OwnSampler(Trainer):
    """A Trainer whose loader has a sampler of ours."""

    sampling: dict[str, Any]

    def get_train_dataloader(self) -> Any:
        """Return the loader, which Accelerate prepares as it does the Trainer's own."""
        return self.accelerator.prepare(DataLoader(data, collate_fn=self.data_collator, **self.sampling))


class StopAfter(TrainerCallback):
    """End the training early, as an interruption would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop at the step."""
        control.should_training_stop = state.global_step == self.step


def trained(sampling: dict[str, Any], folder: str, stop_after: int, resume: bool = False) -> dict[str, Tensor]:
    """Train up to a step, from the beginning or from the newest checkpoint, and return the weights."""
    config = LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    with Streams(0).scope("init"):
        model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    trainer = OwnSampler(
        model,
        TrainingArguments(
            folder,
            max_steps=plan.total_steps,
            per_device_train_batch_size=BATCH,
            save_steps=MIDDLE,
            seed=0,
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=data,
        callbacks=[StopAfter(stop_after)],
        # Annotated for one kind of schedule; it takes any.
        optimizers=(optimizer, CosineToBudget(optimizer, plan.total_steps)),  # type: ignore[arg-type]
    )
    trainer.sampling = sampling
    trainer.train(resume_from_checkpoint=resume)
    return {name: weight.cpu().clone() for name, weight in model.state_dict().items()}


MIDDLE = plan.steps_per_round + plan.steps_per_round // 2  # of the second round
for name, make in (("RS2", rs2), ("mixture", mixture)):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole = trained(make(), one, plan.total_steps)
        trained(make(), other, MIDDLE)
        resumed = trained(make(), other, plan.total_steps, resume=True)
    same = all(torch.equal(weight, resumed[part]) for part, weight in whole.items())
    said = "the same weights" if same else "other weights"
    print(f"{name}: {plan.total_steps} steps, interrupted after {MIDDLE} and resumed: {said}")
