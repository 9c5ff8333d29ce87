"""Write docs/parity.md: every stored example of the reference models, how near ours comes and how near it must."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_HEAD = """# Parity with the published models

Inputs and outputs of the reference implementations under synthetic weights, against ours. Every row is one stored
tensor: the largest absolute difference, and the most that the stored example allows. Written by `make parity`; the same
checks run in `make test`.

| example | output | tolerance | measured | allowed | |
|---|---|---|---|---|---|
"""


def main() -> int:
    """Run all checks. Returns 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "parity.md")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT.parent))
    sys.path.insert(0, str(ROOT))
    fixtures = importlib.import_module("tests.parity.fixtures")
    checks = importlib.import_module("tests.parity.test_parity").checks()
    rows, failed = [], 0
    for name, check in sorted(checks.items()):
        started = time.monotonic()
        for row in check(fixtures.Fixture.load(name)):
            failed += not row.passed
            verdict = "ok" if row.passed else "**fails**"
            rows.append(
                f"| `{name}` | {row.output} | {row.tolerance} | {row.difference:.2g} | {row.allowed:.2g} | {verdict} |"
            )
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    args.output.write_text(_HEAD + "\n".join(rows) + "\n", "utf-8")
    print(f"{args.output}: {len(rows)} rows, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
