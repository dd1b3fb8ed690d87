"""Quote measured results in the README: what stands between `<!-- from FILE -->` and `<!-- end -->` is that file.

`--check` fails where the README says something else than the files.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def quote(text: str) -> str:
    """`text` with every block filled from its file."""
    return BLOCK.sub(lambda match: match[1] + (REPOSITORY / match[2]).read_text() + match[3], text)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args()
    readme = REPOSITORY / "README.md"
    before = readme.read_text()
    after = quote(before)
    if options.check:
        if before != after:
            print("README.md does not quote the newest results: run make docs", file=sys.stderr)
        return int(before != after)
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
