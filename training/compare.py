"""Compare variants of a model at equal compute: `python -m training.compare NAME --data DIR --out DIR`.

Each variant is trained from scratch with every seed, as a small network, and all get the same compute. The number of
steps that fit into the processor time asked for is measured on the first variant; the others get as many operations.
(Timed separately, they would vary with whatever else the machine does.) Then they are measured like any weights:
generators by their loss, the judge's figures, their size and the time for one picture; TI-JEPA by how well it matches
held-out pairs and by signs of collapse.
`training/studies/comparing/variants.py` says what is compared.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jepa_app.command_line import OneLineParser, check_folder, telling_mistakes
from jepa_app.files.whole_files import write_whole
from training.studies.comparing.comparison import compare, read_measured
from training.studies.comparing.comparison_tables import Measured, chart, table
from training.studies.comparing.variants import COMPARISONS


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    cautions = [f"{name}: {one.caution}." for name, one in COMPARISONS.items() if one.caution]
    parser = OneLineParser(
        prog="python -m training.compare",
        description=__doc__,
        epilog="\n".join(("What to know about each table:", *cautions)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help=f"one of: {', '.join(COMPARISONS)}")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures.json")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="processor time for each run of the first variant (default 5)"
    )
    parser.add_argument("--seeds", type=int, default=2, help="training runs of each variant (default 2)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the variants in OUT/figures.json and train the others for as many operations",
    )
    parser.add_argument("--prompts", type=int, default=100, help="pictures to measure per side (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a chart of the most telling figures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every variant"
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    check_folder(options.out)
    kept = options.out / "figures.json"
    measured: list[Measured] = []
    if options.resume and kept.exists():
        measured = read_measured(kept)
    limits = {name: getattr(options, name) for name in ("minutes", "seeds", "prompts")}
    before = tuple(measured)
    asked = {"settings": options.set, "before": before, "resume": options.resume}
    for one in compare(options.name, options.data, options.out, **asked, **limits):
        measured.append(one)
        rows = [dataclasses.asdict(one) for one in measured]
        write_whole(kept, json.dumps(rows, indent=2) + "\n")
    comparison = COMPARISONS[options.name]
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(chart(measured, comparison.plotted), encoding="utf-8")
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in measured], indent=2))
    else:
        print(table(measured, comparison.shown))
        if comparison.caution:
            print(f"\n{comparison.caution[0].upper()}{comparison.caution[1:]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
