"""Measure weights on a folder of captioned pictures: `python -m training.evaluate WEIGHTS --data DIR`.

Whatever WEIGHTS holds is measured; a figure that was not measured is absent. Pictures are judged by a network that is
not ours (`judging/judge.py`), matches by the model's own energies (`judging/match_figures.py`).
"""

import argparse
import sys
from collections.abc import Sequence

from training.command_line import Report, measuring_parser, run
from training.judging.evaluation import Settings, evaluate
from training.judging.report import markdown, reliability_chart, save_evidence
from training.judging.weights import suited


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run(measuring_parser("evaluate", __doc__, defaults, needs_out=False), defaults, _reported, arguments, suited)


def _reported(options: argparse.Namespace, settings: Settings) -> Report:
    result = evaluate(options.weights, options.data, settings, options.device)
    for judged in result.judged if options.out else ():
        save_evidence(judged, options.out)
    if options.out and result.curves:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "reliability.svg").write_text(reliability_chart(result.curves), encoding="utf-8")
    document = {"figures": result.figures, "setting": result.setting, "curves": result.curves}
    return Report(document=document, table=markdown(result.figures, result.setting))


if __name__ == "__main__":
    sys.exit(main())
