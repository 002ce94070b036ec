"""The stages of the journey, each a call or two of the public client; nothing here is private to the demo."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import OpenAI

from deploy.demo import drawing
from deploy.demo.desk import Desk, quiz_files
from modelry.client import Client
from services.chassis.objects import ObjectStore, StoreAccess

BASE = "smollm2-135m-instruct"
BUCKET = "larkfield"
TUNED = "support-desk"
RECIPE = {
    "learning_rate": 1e-3,
    "epochs": 8,
    "batch_size": 8,
    "lora_rank": 16,
    "lora_alpha": 32,
    "lr_scheduler": "COSINE",
    "warmup_ratio": 0.05,
    "cutoff_length": 256,
    "checkpoints_kept": 1,
}
QUESTIONS = 3


@dataclass
class Row:
    """One line of the closing table."""

    stage: str
    outcome: str
    seconds: float


@dataclass
class Journey:
    """The state of the journey: what the stages made so far."""

    client: Client
    home: Path
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, str]]:
        """Time a stage; what came out is put under `outcome`."""
        self.say(f"[bold]{name}[/]")
        result = {"outcome": ""}
        began = time.monotonic()
        yield result
        self.rows.append(Row(name, result["outcome"], time.monotonic() - began))

    def fill_bucket(self, access: StoreAccess, desk: Desk) -> None:
        """Put the company's data into its bucket, and register the credential for it."""
        with self.stage("data in a bucket") as result:
            store = ObjectStore(access)
            store.ensure_bucket(BUCKET)
            store.put_bytes(BUCKET, "training.jsonl", desk.training_file())
            store.put_bytes(BUCKET, "questions.jsonl", desk.evaluation_file())
            quiz = quiz_files()
            for name, data in quiz.items():
                store.put_bytes(BUCKET, f"quiz/{name}", data)
            credential = {
                "name": "company-store",
                "endpoint": access.endpoint,
                "bucket": BUCKET,
                "access_key": access.access_key,
                "secret_key": access.secret_key,
            }
            self.client.create_credential(credential=credential)
            rights = self.client.verify_credential(credential="company-store")
            if not rights.verified:
                raise RuntimeError(f"The credential misses rights: {rights}")
            result["outcome"] = (
                f"{len(desk.training)} rows, {len(desk.held_out)} questions; list put get delete verified"
            )

    def import_data(self) -> None:
        """Import both sets from the bucket."""
        with self.stage("import") as result:
            for name, key in (("desk", "training.jsonl"), ("desk-questions", "questions.jsonl")):
                place = {"credential": "company-store", "bucket": BUCKET, "prefix": key}
                version = self.client.create_dataset_version(
                    dataset=name, dataset_version={"object": place}, create_dataset=True
                )
                *_, version = self.client.watch_dataset_version(dataset=name, version=version.id)
                _expect(version, "PUBLISHED")
                result["outcome"] += f"{name}@{version.number}: {version.row_count} rows  "

    def tune(self) -> None:
        """Quote and run the job, with its loss curve."""
        job = {"name": "desk-tune", "model": BASE, "datasets": [{"ref": "desk"}], "hyperparameters": RECIPE}
        with self.stage("quote") as result:
            quote = self.client.quote_job(job=job)
            result["outcome"] = "; ".join(quote.notes)[:160]
        with self.stage("fine-tune") as result:
            created = self.client.create_job(job={**job, "quote_id": quote.id})
            created = drawing.follow_training(self.client, created, self.say)
            _expect(created, "SUCCEEDED")
            self.results["job"] = created
            shown = created.progress
            result["outcome"] = (
                f"{shown.step} steps, loss {shown.loss:.3f}, token accuracy {shown.token_accuracy:.2f}, "
                f"{shown.trained_tokens} tokens"
            )

    def publish(self) -> None:
        """Publish the best checkpoint."""
        with self.stage("publish") as result:
            job = self.results["job"]
            version = self.client.publish_checkpoint(checkpoint=job.best_checkpoint_id, model_name=TUNED)
            self.results["version"] = version
            result["outcome"] = f"{version.model_name}@{version.number}  {version.fine_tuned_name}"

    def evaluate(self) -> None:
        """Compare the tuned version with its base, on the own questions and on the quiz."""
        with self.stage("evaluate") as result:
            evaluation = {
                "name": "desk-proof",
                "baseline": {"model": BASE, "label": "base"},
                "candidates": [{"model": f"{TUNED}@1", "label": "tuned"}],
                "tasks": [
                    {"name": "desk", "custom": {"dataset": "desk-questions", "stopword_lists": ["en", "zh"]}},
                    {
                        "name": "quiz",
                        "preset": {
                            "benchmark": "mmlu",
                            "shots": 5,
                            "location": {"credential": "company-store", "bucket": BUCKET, "prefix": "quiz"},
                        },
                    },
                ],
                "generation": {"max_tokens": 64},
            }
            created = self.client.create_evaluation(evaluation=evaluation)
            created = drawing.follow_evaluation(self.client, created, self.say)
            _expect(created, "SUCCEEDED")
            report = self.client.get_report(evaluation=created.id)
            self.results["report"] = report
            base, tuned = score_of(report, "base"), score_of(report, "tuned")
            result["outcome"] = f"ROUGE-L recall on held-out questions: base {base:.2f}, tuned {tuned:.2f}"

    def deploy(self) -> None:
        """Deploy the tuned version with two replicas, the base with one beside it, and claim the key."""
        with self.stage("deploy") as result:
            created = self.client.create_deployment(deployment={"model": TUNED, "name": TUNED, "replicas": 2})
            base = self.client.create_deployment(deployment={"model": BASE, "name": BASE, "replicas": 1})
            for deployment in (created, base):
                drawing.follow_deployment(self.client, deployment, self.say)
            created = self.client.get_deployment(deployment=TUNED)
            _expect(created, "READY")
            result["outcome"] = f"{created.ready_replicas} replicas of {TUNED}, 1 of {BASE}"
        with self.stage("claim key") as result:
            self.results["key"] = self.client.claim_deployment_key(deployment=TUNED)
            result["outcome"] = f"{self.results['key'].key_id} (shown once)"

    def ask(self, desk: Desk) -> list[tuple[str, str, str]]:
        """Ask both models questions that were not trained, with the unmodified OpenAI client."""
        answers = []
        with self.stage("ask") as result:
            url = self.results["key"].base_url
            tuned = OpenAI(base_url=url, api_key=self.results["key"].secret)
            base = OpenAI(base_url=url, api_key=self.client.connection.key)
            picked = desk.held_out[:: max(1, len(desk.held_out) // QUESTIONS)][:QUESTIONS]
            for question, _ in picked:
                answers.append((question, _ask(base, BASE, question), _ask(tuned, TUNED, question)))
            result["outcome"] = f"{len(answers)} questions to both, by openai"
        return answers


def _ask(client: OpenAI, model: str, question: str) -> str:
    messages: Any = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=64, temperature=0)
    return answer.choices[0].message.content or ""


def score_of(report: Any, target: str, task: str = "desk", metric: str = "rouge_l_recall") -> float:
    """Return one average of a report."""
    result = [
        score.value
        for score in report.scores
        if score.task == task
        and score.target == target
        and score.metric.split("[")[0] == metric
        and score.group == "Average"
    ]
    if not result:
        raise RuntimeError(f"The report has no {metric} of {target} on {task}.")
    return float(result[0])


def _expect(resource: Any, state: str) -> None:
    ended = drawing.state_of(resource)
    if ended != state:
        raise RuntimeError(f"{resource.id} ended {ended}: {resource.failure.message or resource.cause}")
