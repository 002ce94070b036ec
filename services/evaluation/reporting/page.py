"""The report as one self-contained HTML page: tables, radar charts, samples. No script from elsewhere, no image."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from services.evaluation.benchmarks.categories import AVERAGE, CATEGORIES
from services.evaluation.reporting.build import MACRO, TargetInfo, TaskInfo
from services.evaluation.reporting.radar import radar
from services.evaluation.reporting.samples import PRESET_METRIC, Sample
from services.evaluation.scoring.texts import SHOWN_METRICS

MAX_SHOWN_SAMPLES = 2000
"""Samples of a task on the page; all are in samples.jsonl."""
_SHOWN = {PRESET_METRIC: "Accuracy", MACRO: "Accuracy (macro)", "bleu": "BLEU", "bleu_corpus": "BLEU (corpus)"}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#111827}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.3rem .7rem;border:1px solid #d1d5db;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}th{background:#f3f4f6}small{color:#6b7280}
.ring{fill:none;stroke:#d1d5db}svg text{font-size:12px}.better{color:#047857}.worse{color:#b91c1c}
input{font:inherit;padding:.3rem .6rem;width:24rem;max-width:100%}
td.t{max-width:22rem;white-space:pre-wrap;overflow-wrap:anywhere}
th.s{cursor:pointer}
"""
_SCRIPT = """
document.querySelectorAll('input[data-for]').forEach(i=>i.addEventListener('input',()=>{
 const w=i.value.toLowerCase();document.querySelectorAll('#'+i.dataset.for+' tbody tr').forEach(r=>{
 r.hidden=!r.textContent.toLowerCase().includes(w)})}));
document.querySelectorAll('th.s').forEach(h=>h.addEventListener('click',()=>{
 const b=h.closest('table').tBodies[0],c=h.cellIndex,d=h.dataset.d=h.dataset.d==='1'?'-1':'1';
 [...b.rows].sort((x,y)=>{const p=x.cells[c].textContent,q=y.cells[c].textContent,m=parseFloat(p)-parseFloat(q);
 return d*(isNaN(m)?p.localeCompare(q):m)}).forEach(r=>b.append(r))}));
"""


def write_page(
    report: Mapping[str, Any], tasks: Sequence[TaskInfo], targets: Sequence[TargetInfo], samples: Iterable[Sample]
) -> str:
    """Return the page of a report, which is as `build_report` gives it."""
    by_task: dict[str, list[Sample]] = {task.name: [] for task in tasks}
    for sample in samples:
        by_task[sample.task].append(sample)
    sections = []
    for number, task in enumerate(tasks):
        parts = [f"<h2>{escape(task.title)}</h2>", _table(report, task, targets), _chart(report, task, targets)]
        parts += [_comparisons(report, task), _settings(task), _samples(f"s{number}", by_task[task.name])]
        sections.append("".join(parts))
    title = f"Evaluation {escape(str(report['evaluation_id']))}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{''.join(sections)}<script>{_SCRIPT}</script></body></html>\n"
    )


def metric_title(metric: str) -> str:
    """Return a metric's name for people."""
    if metric in _SHOWN:
        return _SHOWN[metric]
    words = metric.split("_")
    if len(words) != 3:
        return metric
    return f"{words[0].upper()}-{words[1].upper()} {'F' if words[2] == 'f' else words[2]}"


def _columns(task: TaskInfo) -> list[str]:
    return [PRESET_METRIC, MACRO] if task.categories is not None else [*SHOWN_METRICS, "rouge_l_f", "bleu_corpus"]


def _number(metric: str, value: float) -> str:
    return f"{value:.1f}" if metric.startswith("bleu") else f"{value:.3f}"


def _rows(report: Mapping[str, Any], task: TaskInfo) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(row["group"], row["target"], row["metric"]): row for row in report["scores"] if row["task"] == task.name}


def _table(report: Mapping[str, Any], task: TaskInfo, targets: Sequence[TargetInfo]) -> str:
    rows, columns = _rows(report, task), _columns(task)
    heads = "".join(f"<th>{escape(metric_title(metric))}</th>" for metric in columns)
    lines = []
    for group in dict.fromkeys(group for group, _, _ in rows):
        for target in targets:
            group_rows = [rows.get((group, target.label, metric)) for metric in columns]
            first = next((row for row in group_rows if row), None)
            if first is None:
                continue
            cells = "".join(_cell(metric, row) for metric, row in zip(columns, group_rows, strict=True))
            lost = first["unscored_count"] if task.categories is None else first["unparsed_count"]
            counts = f'<td class="n">{first["sample_count"]}</td><td class="n">{lost}</td>'
            lines.append(f"<tr><td>{escape(group)}</td><td>{escape(target.label)}</td>{cells}{counts}</tr>")
    lost_title = "Unscored" if task.categories is None else "Unparsed"
    head = f"<tr><th>Group</th><th>Model</th>{heads}<th>Samples</th><th>{lost_title}</th></tr>"
    return f"<table>{head}{''.join(lines)}</table>"


def _cell(metric: str, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "<td></td>"
    low, high = _number(metric, row["interval_low"]), _number(metric, row["interval_high"])
    span = "" if low == high else f"<br><small>{low} to {high}</small>"
    return f'<td class="n">{_number(metric, row["value"])}{span}</td>'


def _chart(report: Mapping[str, Any], task: TaskInfo, targets: Sequence[TargetInfo]) -> str:
    rows = _rows(report, task)
    if task.categories is not None:
        axes = [name for name in CATEGORIES if any(group == name for group, _, _ in rows)]
        values = {t.label: [rows[name, t.label, PRESET_METRIC]["value"] for name in axes] for t in targets}
        return radar(axes, values, task.title)
    metrics = {metric for _, _, metric in rows}
    axes = [metric for metric in ("rouge_1_f", "rouge_2_f", "rouge_l_f", "bleu") if metric in metrics]

    def share(label: str, metric: str) -> float:
        row = rows.get((AVERAGE, label, metric))
        return row["value"] / (100 if metric == "bleu" else 1) if row else 0.0

    values = {t.label: [share(t.label, metric) for metric in axes] for t in targets}
    return radar([metric_title(metric) for metric in axes], values, task.title)


def _comparisons(report: Mapping[str, Any], task: TaskInfo) -> str:
    rows = [row for row in report["comparisons"] if row["task"] == task.name]
    if not rows:
        return ""
    lines = []
    for row in rows:
        metric = row["metric"]
        numbers = [_number(metric, row[key]) for key in ("difference", "interval_low", "interval_high")]
        verdict = escape(row["verdict"])
        lines.append(
            f"<tr><td>{escape(row['candidate'])}</td><td>{escape(metric_title(metric))}</td><td>{escape(row['group'])}</td>"
            f'<td class="n">{numbers[0]}<br><small>{numbers[1]} to {numbers[2]}</small></td>'
            f'<td class="n">{row["p_value"]:.3f}</td><td class="{verdict.split()[0]}">{verdict}</td></tr>'
        )
    head = "<tr><th>Candidate</th><th>Metric</th><th>Group</th><th>Minus baseline</th><th>p</th><th>Verdict</th></tr>"
    return f"<h3>Against the baseline</h3><table>{head}{''.join(lines)}</table>"


def _settings(task: TaskInfo) -> str:
    lines = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in task.settings.items())
    return f"<details><summary>How it was measured</summary><table>{lines}</table></details>"


def _samples(name: str, samples: Sequence[Sample]) -> str:
    lines = []
    for sample in samples[:MAX_SHOWN_SAMPLES]:
        score = "" if sample.score is None else f"{sample.score:.3f}"
        texts = (sample.prompt, "\n".join(sample.references), sample.output)
        cells = "".join(f'<td class="t">{escape(text)}</td>' for text in texts)
        lines.append(
            f'<tr><td class="n">{sample.index}</td><td>{escape(sample.target)}</td><td>{escape(sample.group)}</td>'
            f'{cells}<td class="n">{score}</td></tr>'
        )
    titles = ("#", "Model", "Group", "Question", "Expected", "Answer", "Score")
    heads = "".join(f'<th class="s">{title}</th>' for title in titles)
    left = len(samples) - MAX_SHOWN_SAMPLES
    more = f"<p>{left} more are in samples.jsonl.</p>" if left > 0 else ""
    return (
        f"<details><summary>{len(samples)} samples</summary>"
        f'<p><input data-for="{name}" placeholder="Filter samples" aria-label="Filter samples"></p>'
        f'<table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>{more}</details>'
    )
