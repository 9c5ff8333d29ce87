"""Write docs/parity.md: every stored example of the reference models, how near ours comes and how near it must."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from maquette.backend.evaluation.markdown import render

ROOT = Path(__file__).resolve().parents[1]


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
            rows.append((name, row))
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    args.output.write_text(render(Path(__file__).with_name("parity.md.jinja"), rows=rows), "utf-8")
    print(f"{args.output}: {len(rows)} rows, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
