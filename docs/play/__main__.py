"""Write the page: `python -m docs.play OUT.html`."""

import sys
from pathlib import Path

from docs.play.inline import build

if len(sys.argv) != 2:
    sys.exit("usage: python -m docs.play OUT.html")
out = Path(sys.argv[1])
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(build(), encoding="utf-8")
print(f"{out}: {out.stat().st_size} bytes")
