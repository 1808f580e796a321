"""Prompts for tests with the real model: a short one of each Spec-Bench task."""

import json
from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "spec_bench_even.jsonl"


def one_of_each_task() -> dict[str, str]:
    """The shortest first turn of each task, by the task's name."""
    prompts: dict[str, str] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        task, prompt = row["category"], row["turns"][0]
        if task not in prompts or len(prompt) < len(prompts[task]):
            prompts[task] = prompt
    return prompts
